"""Programs that are run many times over."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def run_train_often(repository):
    """Run castlit.train as its user does, each time in a process of its own, but imported once: see fork_server.py.

    Gives ``code``, negative for a signal, ``out`` and ``err``. The callbacks of cuts.py are found.
    """
    support = repository / "tests" / "support"
    server = subprocess.Popen(
        [sys.executable, support / "fork_server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(support), "COLUMNS": "200"},
    )

    def run(cwd, arguments, **environment):
        cwd.mkdir(exist_ok=True)
        words = sorted(map(str, arguments), key=lambda word: not word.startswith("-"))
        server.stdin.write(json.dumps({"cwd": str(cwd), "arguments": words, "environment": environment}) + "\n")
        server.stdin.flush()
        return SimpleNamespace(**json.loads(server.stdout.readline()))

    yield run
    server.stdin.close()
    server.stdout.close()
    server.wait(timeout=30)
