"""Start Python programs as forks of a process that has imported castlit already, in 0.05 s in place of 6 to 8 s.

``ForkServer`` is for the tests; its fixture is ``fork_server`` in tests/conftest.py. ``stand_in_for_python`` is what
programs that start programs (castlit.study) find as their ``sys.executable``. This file imports the standard library
only: the stand-in has to start fast.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

GRACE_S = 10
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Fork:
    """A running program.

    Args:
        address: Path of the server's socket.
        words: What comes after ``python`` in its command line.
        cwd: Its folder.
        environment: All of its environment.
        streams: File descriptors of its standard input, output and error.
        executable: What it finds as ``sys.executable``.
    """

    def __init__(self, address, words, cwd, environment, streams, executable):
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(str(address))
        order = {"words": list(map(str, words)), "cwd": str(cwd), "environment": environment, "executable": executable}
        socket.send_fds(self.connection, [b"."], streams)
        self.connection.sendall(json.dumps(order).encode() + b"\n")
        self.file = self.connection.makefile()
        self.pid = int(self.file.readline() or "0")
        if not self.pid:
            raise RuntimeError("the fork server has ended: see above what it printed")
        self.returncode = None

    def wait(self):
        """Return the exit code, negative for a signal."""
        if self.returncode is None:
            self.returncode = int(self.file.readline())
        return self.returncode

    def close(self):
        """Close the connection. A program that still runs is killed first, with its process group."""
        if self.returncode is None:
            for kill in (os.killpg, os.kill):  # its group does not exist before its first line
                with suppress(ProcessLookupError):
                    kill(self.pid, signal.SIGKILL)
            self.wait()
        self.file.close()
        self.connection.close()


class ForkServer:
    """The server and the folder of its socket. It starts with the first program, and ends with this process."""

    def __init__(self):
        self._process = None

    def run(self, words, cwd, timeout=300, environment=None):
        """Run ``python *words`` to its end, as ``subprocess.run`` with captured text does.

        Raises:
            subprocess.TimeoutExpired: It took longer, and was killed with its process group.
        """
        return self.run_together([words], cwd, timeout, [environment])[0]

    def run_together(self, commands, cwd, timeout=300, environments=None):
        """Run several at once. After one that fails, the others have ``GRACE_S`` to end."""
        environments = environments or [None] * len(commands)
        with tempfile.TemporaryDirectory() as folder:
            outputs = [(Path(folder, f"out{i}"), Path(folder, f"err{i}")) for i in range(len(commands))]
            forks = []
            try:
                for words, environment, (out, err) in zip(commands, environments, outputs, strict=True):
                    with Path(os.devnull).open() as nothing, out.open("w") as first, err.open("w") as second:
                        streams = [stream.fileno() for stream in (nothing, first, second)]
                        forks.append(self.start(words, cwd, environment or dict(os.environ), streams))
                _wait_for_all(forks, timeout)
            except TimeoutError:
                printed = "\n".join(path.read_text(errors="replace") for pair in outputs for path in pair)
                raise subprocess.TimeoutExpired(commands[0], timeout, printed) from None
            finally:
                for fork in forks:
                    fork.close()
            return [
                subprocess.CompletedProcess(words, fork.returncode, out.read_text(), err.read_text())
                for words, fork, (out, err) in zip(commands, forks, outputs, strict=True)
            ]

    def start(self, words, cwd, environment, streams):
        """Start ``python *words``; see :class:`Fork`."""
        if self._process is None:
            self._start()
        return Fork(self.address, words, cwd, environment, streams, str(self.python))

    @property
    def python(self):
        """A stand-in for Python: a program that lets the server run castlit's programs, and Python all others."""
        if self._process is None:
            self._start()
        return Path(self._folder.name) / "bin" / "python"

    def _start(self):
        self._folder = tempfile.TemporaryDirectory(prefix="castlit")
        self.address = Path(self._folder.name) / "socket"
        python = Path(self._folder.name) / "bin" / "python"
        python.parent.mkdir()
        python.write_text(
            f"#!{sys.executable} -IS\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "from fork_client import stand_in_for_python\n"
            f"stand_in_for_python({str(self.address)!r}, {sys.executable!r})\n"
        )
        python.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.address))
            listener.listen(16)
            command = [sys.executable, str(Path(__file__).with_name("fork_server.py")), str(listener.fileno())]
            # Ctrl-C in the terminal is for the tests; the server ends when its standard input does.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )

    def close(self):
        """End the server."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.kill()  # a forked process may have a copy of that stdin
            self._process.wait()
            self._folder.cleanup()


def rank_environments(count):
    """The environment of each of several processes, as torchrun gives it; that of this process for a single one."""
    if count == 1:
        return [dict(os.environ)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    common |= {"GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "tests", "TORCHELASTIC_USE_AGENT_STORE": "False"}
    ranks = [{**common, "RANK": rank, "LOCAL_RANK": rank} for rank in range(count)]
    return [{**os.environ, **{key: str(value) for key, value in each.items()}} for each in ranks]


def _wait_for_all(forks, timeout):
    end = time.monotonic() + timeout
    left = {fork.connection: fork for fork in forks}
    while left:
        ready, _, _ = select.select(list(left), [], [], max(end - time.monotonic(), 0))
        if not ready:
            raise TimeoutError
        for connection in ready:
            if left.pop(connection).wait() != 0:
                end = min(end, time.monotonic() + GRACE_S)


def stand_in_for_python(address, python):
    """Run the command line of this process: castlit's programs by the server, everything else by Python.

    A process that Lightning starts for its rank ends with the one that started it; forked, its parent is the server.
    It is forked where ``CASTLIT_TESTS_FORK_RANKS`` is in the environment: where no process dies.
    """
    words = sys.argv[1:]
    by_python = "LOCAL_RANK" in os.environ and "CASTLIT_TESTS_FORK_RANKS" not in os.environ
    if by_python or words[:1] != ["-m"] or not words[1].startswith("castlit."):
        os.execv(python, [python, *words])
    fork = Fork(address, words, Path.cwd(), dict(os.environ), [0, 1, 2], sys.argv[0])
    for number in FORWARDED:
        signal.signal(number, lambda number, _: _send(fork.pid, number))
    code = fork.wait()
    if code < 0:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _send(pid, number):
    with suppress(ProcessLookupError):
        os.kill(pid, number)
