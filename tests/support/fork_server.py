"""The process that fork_client.ForkServer starts: it imports castlit once and forks a child for each program it runs.

A child behaves like ``python -m module``, ``python script.py`` or ``python -c code`` started by the caller: it has the
caller's arguments, folder, environment and streams, a process group of its own, and its exit code is reported. Only the
imports are done. The server runs no torch operation, so that no thread exists when it forks.
"""

import gc
import importlib
import inspect
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import traceback
import types
from contextlib import suppress
from pathlib import Path

PROGRAMS = ["train", "evaluate", "make_masks", "make_shards", "make_scenes", "export", "compare", "study"]
# Imported by some functions when they need it; most of the tests' programs do.
LATER = ["albumentations", "matplotlib.pyplot", "sklearn.linear_model", "sklearn.svm", "torch._dynamo"]
POLL_S = 0.02


def preload():
    """Import all that programs import, and leave the programs themselves to be run as ``__main__``.

    Programs answer before they import anything heavy, so this imports every module of castlit.
    """
    import castlit

    modules = [module.name for module in pkgutil.walk_packages(castlit.__path__, "castlit.")]
    for name in [*modules, *LATER]:
        importlib.import_module(name)
    from hydra.core.plugins import Plugins
    from PIL import Image

    Plugins.instance()
    Image.init()
    inspect.stack()  # fills its table of all modules' files, which Hydra looks through after every error
    for name in [*(f"castlit.{program}" for program in PROGRAMS), "castlit.bench.__main__"]:
        package, _, last = name.rpartition(".")
        del sys.modules[name]
        delattr(sys.modules[package], last)
    gc.collect()
    gc.freeze()


def run(words):
    """Run what the words of a Python command line name: ``-m module``, ``-c code`` or a script."""
    main = types.ModuleType("__main__")
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], str(Path.cwd())
        runpy._run_module_as_main(words[1])
        return
    if words[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[2:]], ""
        code = compile(words[1], "<string>", "exec")
    else:
        sys.argv, sys.path[0] = words, str(Path(words[0]).resolve().parent)
        main.__file__ = words[0]
        code = compile(Path(words[0]).read_bytes(), words[0], "exec")
    exec(code, main.__dict__)


def imitate(order, streams, base_path):
    """Become the process that the order asks for, up to its first line of code."""
    os.setsid()  # signals to the group are for this program alone
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    if "CASTLIT_TESTS_FORK_RANKS" in os.environ and "LOCAL_RANK" in os.environ:
        os.environ["CASTLIT_FIRST_PROCESS"] = str(os.getppid())  # whose end would end this one
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # The streams remember what their files were, such as whether one can seek there.
    for name in ("stdout", "stderr"):
        before = getattr(sys, name)
        stream = open(  # noqa: SIM115, as long as the process
            before.fileno(),
            "w",
            encoding=before.encoding,
            errors=before.errors,
            buffering=1 if name == "stderr" else -1,
            closefd=False,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    more = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = ["", *more, *base_path]
    importlib.invalidate_caches()
    sys.executable = order["executable"]
    private = sys.modules.get("wandb.sdk.data_types._private")
    if private is not None:
        # A folder of its own for images: at its end a program removes the one that it has.
        private.MEDIA_TMP._finalizer.detach()
        private.MEDIA_TMP.__init__("wandb-media")
    import numpy as np
    import torch

    np.random.seed()  # noqa: NPY002, the state that code without a generator uses
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    if threads != torch.get_num_threads():
        torch.set_num_threads(threads)


def child(order, streams, base_path):
    """Run an order to the end of the process."""
    code = 0
    try:
        imitate(order, streams, base_path)
        run(order["words"])
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except BaseException:
        traceback.print_exc()
        code = 1
    # What the interpreter does at its end. Threads that are no daemons are waited for.
    with suppress(BaseException):
        import atexit
        import threading

        threading._shutdown()
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


class Server:
    """Forks a child for each connection; a client that closes its connection ends its child."""

    def __init__(self, listener):
        self.listener, self.children = listener, {}
        mine = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        # Scripts that run on several ranks import `support`, as the tests beside them do.
        self.base_path = [*(path for path in sys.path[1:] if path not in mine), str(Path(__file__).parents[1])]
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, selectors.EVENT_READ)
        self.selector.register(0, selectors.EVENT_READ)

    def serve(self):
        """Run until the standard input is closed, that is, until the process that started the server has ended."""
        while True:
            for key, _ in self.selector.select(POLL_S if self.children else None):
                if key.fileobj == 0:
                    self._end()
                    return
                if key.fileobj is self.listener:
                    self._accept()
                else:
                    self._client_left(key.fileobj)
            self._reap()

    def _accept(self):
        connection, _ = self.listener.accept()
        _, streams, _, _ = socket.recv_fds(connection, 1, 3)
        with connection.makefile() as file:
            order = json.loads(file.readline())
        pid = os.fork()
        if pid == 0:
            self.selector.close()
            self.listener.close()
            for other in [connection, *self.children.values()]:
                other.close()
            child(order, streams, self.base_path)
        for stream in streams:
            os.close(stream)
        connection.sendall(f"{pid}\n".encode())
        self.children[pid] = connection
        self.selector.register(connection, selectors.EVENT_READ)

    def _client_left(self, connection):
        self.selector.unregister(connection)
        for pid, other in self.children.items():
            if other is connection:
                _kill(pid)

    def _reap(self):
        for pid, connection in list(self.children.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self.children[pid]
                with suppress(KeyError):
                    self.selector.unregister(connection)
                with suppress(OSError):
                    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
                connection.close()

    def _end(self):
        for pid in self.children:
            _kill(pid)


def _kill(pid):
    for kill in (os.killpg, os.kill):  # the group does not exist before the child's first line
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    preload()
    Server(socket.socket(fileno=int(sys.argv[1]))).serve()
