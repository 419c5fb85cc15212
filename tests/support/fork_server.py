"""Runs castlit.train again and again without importing it again: each run is a process of its own, forked from here.

Reads one JSON object a line (arguments, cwd, environment); answers with the exit code, negative for a signal, and what
was printed.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

# Before anything else may print there.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def child(order, out, err):
    os.setsid()  # signals to the group are for this run alone
    os.chdir(order["cwd"])
    os.environ.update(order["environment"])
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["castlit.train", *order["arguments"]]
    from castlit.train import main

    try:
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve():
    import albumentations  # noqa: F401
    import hydra  # noqa: F401
    import torch._dynamo  # noqa: F401

    import castlit.train  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            out, err = f"{folder}/out", f"{folder}/err"
            pid = os.fork()
            if pid == 0:
                child(order, out, err)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            answer = {"code": code, "out": Path(out).read_text(), "err": Path(err).read_text()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
