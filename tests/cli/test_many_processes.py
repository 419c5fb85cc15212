"""Runs on several processes (CPU, gloo): a dead or hanging process ends the run; two nodes share a folder."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from torch import distributed

SMALL = ["data.train_count=16", "data.val_count=8", "data.size=32", "data.scene_size=36", "data.batch_size=4"]
ENDLESS = ["trainer.max_epochs=100000", "trainer.log_every_n_steps=1", "callbacks.panel=null", "data.workers=0"]
TRAIN = ["-m", "castlit.train", "+experiment=cast_mocov2", *SMALL, *ENDLESS, "hydra.run.dir=run"]
ON_CPU = ["trainer=ddp", "trainer.accelerator=cpu", "method.queue_size=16"]
PATIENCE_S = 120


@pytest.fixture
def start(tmp_path):
    """Start a program in this folder; its remaining processes are killed after the test."""
    started = []

    def run(*arguments, python=sys.executable):
        process = subprocess.Popen(
            [python, *map(str, arguments)],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for number in family(tmp_path):
        os.kill(number, signal.SIGKILL)
    for process in started:
        process.wait()
        process.stderr.close()


def family(folder):
    """The processes that run in this folder, with their command lines."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if (entry / "cwd").resolve() == folder.resolve() and words != [""]:  # a zombie has no command line
                found[int(entry.name)] = words
        except OSError:
            continue  # it has ended
    return found


def until(what, message):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(message)


def wait_for_steps(folder):
    """Wait until the run has logged some steps."""
    log = folder / "run" / "metrics.csv"
    until(lambda: log.is_file() and len(log.read_text().splitlines()) > 3, "the run does not train")


def workers(folder, word):
    """The training processes with this word in their command line, without their loaders."""
    mine = {number: words for number, words in family(folder).items() if any(word in each for each in words)}
    return sorted(mine)


@pytest.mark.slow
def test_killed_process_ends_run(start, fork_server, tmp_path):
    # Lightning starts the second process by Python itself.
    run = start(*TRAIN, *ON_CPU, "trainer.devices=2", python=fork_server.python)
    wait_for_steps(tmp_path)
    (second,) = workers(tmp_path, "ddp_process_1")
    os.kill(second, signal.SIGKILL)
    assert run.wait(PATIENCE_S) != 0
    said = run.stderr.read()
    # Either the other process or the parent process notices first.
    assert "another process of this run has died" in said or "terminated with code -9" in said
    until(lambda: not family(tmp_path), "processes are left")


@pytest.mark.nightly
def test_killed_first_process_ends_others(start, tmp_path):
    run = start(*TRAIN, *ON_CPU, "trainer.devices=2")
    wait_for_steps(tmp_path)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait(PATIENCE_S) == -signal.SIGKILL
    until(lambda: not family(tmp_path), "the other process is left")


# The first process ends while the second still imports, or while it waits.
@pytest.mark.nightly
@pytest.mark.parametrize("sleep", [0.5, 8])
def test_first_process_ends_before_rendezvous(start, tmp_path, sleep):
    # The first process never joins, so the second waits for it.
    script = tmp_path / "meet.py"
    script.write_text(
        "import os, subprocess, sys, time\n"
        "words = [sys.executable, '-m', 'castlit.train', *sys.argv[1:], 'hydra.job.name=train_ddp_process_1']\n"
        "environment = {**os.environ, 'LOCAL_RANK': '1', 'NODE_RANK': '0', 'WORLD_SIZE': '2',\n"
        "               'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': '1', 'CASTLIT_FIRST_PROCESS': str(os.getpid())}\n"
        "subprocess.Popen(words, env=environment)\n"
        f"time.sleep({sleep})\n"
    )
    run = start(script, *TRAIN[2:], *ON_CPU, "trainer.devices=2")
    assert run.wait(PATIENCE_S) == 0
    until(lambda: not family(tmp_path), "the other process is left")


@pytest.mark.nightly
def test_hanging_process_ends_run(start, tmp_path):
    run = start(*TRAIN, *ON_CPU, "trainer.devices=2", "trainer.strategy.timeout.minutes=0.5")
    wait_for_steps(tmp_path)
    (second,) = workers(tmp_path, "ddp_process_1")
    os.kill(second, signal.SIGSTOP)
    assert run.wait(PATIENCE_S) == 1
    said = run.stderr.read()
    assert "error: another process of this run has died or does not answer" in said
    assert "Traceback" not in said
    assert not family(tmp_path)


def torchrun(node, port, nodes=2, per_node=1):
    return [
        "-m",
        "torch.distributed.run",
        f"--nnodes={nodes}",
        f"--node-rank={node}",
        f"--nproc-per-node={per_node}",
        "--master-addr=127.0.0.1",
        f"--master-port={port}",
    ]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


TWO_NODES = [word for word in TRAIN[2:] if not word.startswith(("trainer.max_epochs", "hydra.run.dir"))]
TWO_NODES += [*ON_CPU, "trainer.devices=1", "trainer.num_nodes=2", "trainer.max_epochs=2"]


def assert_one_folder(top):
    """Check that two nodes have written into one folder below this one."""
    (folder,) = top.glob("outputs/*/*")
    names = {path.name for path in folder.iterdir()}
    assert {"metrics.csv", "summary.json", "config.yaml", "checkpoints", "train.log", "train_rank1.log"} <= names
    # 16 images, 2 nodes with 4 each: 2 steps an epoch.
    assert any(line.startswith("1,3,") for line in (folder / "metrics.csv").read_text().splitlines())


def test_two_nodes_share_a_folder(run_program, tmp_path):
    """What two torchruns would start, in the environment that they give, and with the store that they keep."""
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    same = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    same |= {"LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "tests", "TORCHELASTIC_USE_AGENT_STORE": "True"}

    def node(number):
        return run_program("train", *TWO_NODES, cwd=tmp_path, RANK=str(number), GROUP_RANK=str(number), **same)

    with ThreadPoolExecutor(2) as nodes:
        second = nodes.submit(node, 1)
        time.sleep(1)  # the clocks of two machines, and their starts, differ
        first = nodes.submit(node, 0)
    for done in (first.result(), second.result()):
        assert done.returncode == 0, done.stderr
    assert_one_folder(tmp_path)


@pytest.mark.nightly
def test_two_torchruns_share_a_folder(start, tmp_path):
    """Two torchruns on loopback, one started late, stand for two machines that share a disk."""
    port = free_port()
    second = start(*torchrun(1, port), "-m", "castlit.train", *TWO_NODES)
    time.sleep(2)
    first = start(*torchrun(0, port), "-m", "castlit.train", *TWO_NODES)
    assert first.wait(PATIENCE_S) == 0, first.stderr.read()
    assert second.wait(PATIENCE_S) == 0, second.stderr.read()
    assert_one_folder(tmp_path)


@pytest.mark.nightly
def test_killed_worker_ends_torchrun(start, tmp_path):
    run = start(*torchrun(0, free_port(), nodes=1, per_node=2), *TRAIN, *ON_CPU, "trainer.devices=2")
    wait_for_steps(tmp_path)
    both = [number for number in workers(tmp_path, "castlit.train") if number != run.pid]
    assert len(both) == 2
    os.kill(both[-1], signal.SIGKILL)
    assert run.wait(PATIENCE_S) != 0
    until(lambda: not family(tmp_path), "processes are left")
