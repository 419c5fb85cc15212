"""The state of all global random generators, as plain values that a checkpoint can hold."""

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from castlit.utils.distributed import rank, world_size

RandomState = dict[str, Any]


def random_state() -> RandomState:
    """Return the state of this process's generators: torch, its current GPU, numpy and Python."""
    version, words, gauss = random.getstate()
    # The global generator: a user's training step may draw from it.
    drawn: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    _, key, position, has_gauss, cached = drawn
    state: RandomState = {
        "torch": torch.get_rng_state(),
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": gauss},
        "numpy": {
            "key": torch.from_numpy(key.astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: RandomState) -> None:
    """Restore the generators, so that the same numbers are drawn as after :func:`random_state`."""
    torch.set_rng_state(state["torch"].cpu())
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    key = numpy["key"].numpy().astype(np.uint32)
    drawn = ("MT19937", key, numpy["position"], numpy["has_gauss"], numpy["cached"])
    np.random.set_state(drawn)  # noqa: NPY002
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def gather_random_states(state: RandomState) -> list[RandomState]:
    """Return the states of all processes, by rank; every process must call it."""
    if world_size() == 1:
        return [state]
    states: list[Any] = [None] * world_size()
    dist.all_gather_object(states, state)
    return states


def own_random_state(states: list[RandomState]) -> RandomState | None:
    """Return this process's state; None if fewer processes saved theirs."""
    return states[rank()] if rank() < len(states) else None
