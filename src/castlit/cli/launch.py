"""Several processes of one run: they share one folder and end together.

Every process runs the same command line: Lightning starts the others from the first one, or torchrun or SLURM starts
all. Without a shared folder, each would make one named after its own start time.

torch and Lightning are imported inside functions, and only where the environment shows several processes.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from castlit.cli.overrides import plain_value, quoted
from castlit.utils.validation import InputError

if TYPE_CHECKING:
    from castlit.utils.lightning import pl

_TIMEOUT = timedelta(minutes=5)  # the start times of two nodes may differ by this much

_GRACE_S = 10

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Environment variables with a process's rank, in Lightning's order."""

_FIRST = "CASTLIT_FIRST_PROCESS"
"""Environment variable with the first process's id, for the processes that Lightning starts from it."""


def in_one_folder(arguments: list[str]) -> list[str]:
    """Add the shared folder of all processes to a command line that torchrun or SLURM runs in several of them.

    With torchrun, the first process chooses the folder and sends it to the others. A SLURM job gets a folder below
    ``outputs/slurm``, the same one when it is requeued. The user's ``hydra.run.dir`` takes precedence.

    Args:
        arguments: The words of the command line.

    Raises:
        InputError: The first process cannot be reached.
    """
    if any(argument in ("-m", "--multirun", "--help", "-h", "--cfg", "-c") for argument in arguments):
        return arguments
    if _by_torchrun() and int(os.environ["WORLD_SIZE"]) > 1:
        rank = int(os.environ["RANK"])
        folder = _agreed(rank, _given(arguments) or time.strftime("outputs/%Y-%m-%d/%H-%M-%S"))
    elif int(os.environ.get("SLURM_NTASKS", "1")) > 1 and _by_slurm():
        rank = int(os.environ["SLURM_PROCID"])
        folder = _given(arguments) or f"outputs/slurm/{os.environ['SLURM_JOB_ID']}"
    else:
        return arguments
    kept = [argument for argument in arguments if not argument.startswith("hydra.run.dir=")]
    kept.append(f"hydra.run.dir={quoted(folder)}")
    # One process writes Hydra's files; the others would overwrite them.
    return kept if rank == 0 else [*kept, f"hydra.job.name=train_rank{rank}", "hydra.output_subdir=null"]


def end_with_parent() -> None:
    """End this process soon after the run's first process, if Lightning started it from there.

    The first process may be killed while this one waits for it in a collective, or before the two have met. Nothing
    else would end this one before torch's timeout. The first process may even be gone before this function runs, so it
    leaves its id in the environment.
    """
    if os.environ.get("LOCAL_RANK", "0") == "0":
        os.environ[_FIRST] = str(os.getpid())
    elif not _by_torchrun() and not _by_slurm():
        first = int(os.environ.get(_FIRST, os.getppid()))
        threading.Thread(target=_watch, args=(first,), daemon=True, name="parent-watch").start()


def is_first_process() -> bool:
    """Whether this is the run's first process: before Lightning can tell, and without importing it."""
    return int(next((os.environ[name] for name in RANKS if name in os.environ), "0")) == 0


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    time.sleep(_GRACE_S)  # the first process may have finished, and this one is about to
    os.write(2, b"error: the first process of the run is gone\n")
    os._exit(1)


def refuse_relaunched_sweep(make_trainer: "Callable[[], pl.Trainer]") -> None:
    """Refuse a sweep if Lightning would start several processes for each job: each of them would run the whole sweep.

    Args:
        make_trainer: Gives the job's trainer; called in sweeps only.

    Raises:
        InputError: Lightning would start several processes for each job of this sweep.
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


def end_children(trainer: "pl.Trainer") -> None:
    """After an error, end the processes that this one started."""
    for process in getattr(trainer.strategy.launcher, "procs", []):
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _by_slurm() -> bool:
    """Whether SLURM's ``srun`` started this process."""
    if "SLURM_NTASKS" not in os.environ:
        return False
    from castlit.utils.lightning import SLURMEnvironment

    return SLURMEnvironment.detect()


def _given(arguments: list[str]) -> str | None:
    values = [plain_value(argument) for argument in arguments if argument.startswith("hydra.run.dir=")]
    return values[-1] if values else None


def _agreed(rank: int, mine: str) -> str:
    """The first process's folder, through the key-value store that torchrun keeps for its processes."""
    import torch.distributed as dist

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # Several torchruns may share a store, and each may restart its processes.
    run, start = os.environ.get("TORCHELASTIC_RUN_ID", ""), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    key = f"castlit/{run}/{start}/folder"
    try:
        store = dist.TCPStore(address, port, is_master=False, timeout=_TIMEOUT)  # type: ignore[attr-defined]
        if rank == 0:
            store.set(key, mine)
        return str(store.get(key).decode())
    except RuntimeError as error:  # the base class of torch's distributed errors
        raise InputError(f"the first process of the run at {address}:{port} does not answer: {error}") from error
