"""Several processes of one run: one folder for all of them, and none that outlives the others.

Each process is started by the same command line: by Lightning from the first one, or by torchrun or SLURM. By itself it
would make a folder with the time of its own start.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytorch_lightning as pl
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from castlit.cli.overrides import quoted
from castlit.utils.validation import InputError

_PATIENCE = timedelta(minutes=5)  # nodes may start that far apart

_GRACE_S = 10

_FIRST = "CASTLIT_FIRST_PROCESS"
"""In the environment that Lightning's processes inherit from the first one: its number."""


def in_one_folder(arguments: list[str]) -> list[str]:
    """Add the folder that all processes of this run share to a command line, where several were started from outside.

    The first process of a torchrun chooses it and tells the others; jobs of SLURM have theirs below ``outputs/slurm``,
    and keep it when they are requeued. What the user gives as ``hydra.run.dir`` stays.

    Args:
        arguments: The words of the command line.

    Raises:
        InputError: The first process cannot be reached.
    """
    if any(argument in ("-m", "--multirun", "--help", "-h", "--cfg", "-c") for argument in arguments):
        return arguments
    if TorchElasticEnvironment.detect() and int(os.environ["WORLD_SIZE"]) > 1:
        rank = int(os.environ["RANK"])
        folder = _agreed(rank, _given(arguments) or time.strftime("outputs/%Y-%m-%d/%H-%M-%S"))
    elif SLURMEnvironment.detect() and int(os.environ.get("SLURM_NTASKS", "1")) > 1:
        rank = int(os.environ["SLURM_PROCID"])
        folder = _given(arguments) or f"outputs/slurm/{os.environ['SLURM_JOB_ID']}"
    else:
        return arguments
    kept = [argument for argument in arguments if not argument.startswith("hydra.run.dir=")]
    kept.append(f"hydra.run.dir={quoted(folder)}")
    # One process writes Hydra's files; the others would write over them.
    return kept if rank == 0 else [*kept, f"hydra.job.name=train_rank{rank}", "hydra.output_subdir=null"]


def end_with_parent() -> None:
    """End this process soon after the one that started it, where that was a run's first process.

    Its first process may be killed while this one waits for it in a collective, or has not met it yet; then nobody else
    would end this one before torch's timeout. It may be gone even before this one has come here: so it leaves its
    number in the environment.
    """
    if os.environ.get("LOCAL_RANK", "0") == "0":
        os.environ[_FIRST] = str(os.getpid())
    started_by_lightning = os.environ.get("LOCAL_RANK", "0") != "0" and not TorchElasticEnvironment.detect()
    if started_by_lightning and not SLURMEnvironment.detect():
        first = int(os.environ.get(_FIRST, os.getppid()))
        threading.Thread(target=_watch, args=(first,), daemon=True, name="parent-watch").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    time.sleep(_GRACE_S)  # it may have ended well, and this process is about to
    os.write(2, b"error: the first process of the run is gone\n")
    os._exit(1)


def refuse_relaunched_sweep(make_trainer: Callable[[], pl.Trainer]) -> None:
    """Refuse a sweep whose jobs have several processes that Lightning is to start.

    It starts them by this same command line, and each would run the whole sweep.

    Args:
        make_trainer: Gives that of the job; called in sweeps alone.

    Raises:
        InputError: This is such a job.
    """
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return
    trainer = make_trainer()
    environment = getattr(trainer.strategy, "cluster_environment", None)
    relaunches = environment is not None and not environment.creates_processes_externally
    if relaunches and trainer.world_size > 1:
        raise InputError(
            "a sweep (-m) cannot start several processes for each of its jobs: use hydra/launcher=submitit_slurm, "
            "one process (devices=1), or a shell loop without -m"
        )


def end_children(trainer: pl.Trainer) -> None:
    """After an error, see that the processes that this one started end, too."""
    for process in getattr(trainer.strategy.launcher, "procs", []):
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _given(arguments: list[str]) -> str | None:
    values = [argument.partition("=")[2] for argument in arguments if argument.startswith("hydra.run.dir=")]
    return values[-1].strip("'\"") if values else None


def _agreed(rank: int, mine: str) -> str:
    """The first process's folder, through the store that torchrun keeps for its processes."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # A torchrun may start its processes again, and several may share a store.
    run, start = os.environ.get("TORCHELASTIC_RUN_ID", ""), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    key = f"castlit/{run}/{start}/folder"
    try:
        store = dist.TCPStore(address, port, is_master=False, timeout=_PATIENCE)  # type: ignore[attr-defined]
        if rank == 0:
            store.set(key, mine)
        return str(store.get(key).decode())
    except RuntimeError as error:  # what torch's distributed errors are
        raise InputError(f"the first process of the run at {address}:{port} does not answer: {error}") from error
