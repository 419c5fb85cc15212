"""Run by test_two_ranks.py on two processes: each method under DDP on half of a batch, and alone on the full batch."""

import copy
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from castlit.methods import BYOL, DenseCL, MoCo, MoCoV3, SimCLR, SimSiam, VICReg

METHODS = {
    "moco": lambda: MoCo("tiny_resnet", dim=8, queue_size=15),
    "simclr": lambda: SimCLR("tiny_resnet", dim=8),
    "byol": lambda: BYOL("tiny_resnet", dim=8, hidden=9),
    "simsiam": lambda: SimSiam("tiny_resnet", dim=8, hidden=9),
    "moco v3": lambda: MoCoV3("tiny_resnet", dim=8, hidden=9, temperature=0.2),
    "densecl": lambda: DenseCL("tiny_resnet", dim=8, queue_size=15),
    "densecl unshuffled": lambda: DenseCL("tiny_resnet", dim=8, queue_size=15, shuffle_bn=False),
    "vicreg, narrow": lambda: VICReg("tiny_resnet", dim=3, hidden=9),
    "vicreg, wide": lambda: VICReg("tiny_resnet", dim=17, hidden=9),
}
COUNT = 5


def made(name):
    """A method in training mode, with batch norms in evaluation mode, which do not depend on the batch."""
    torch.manual_seed(0)
    method = METHODS[name]().double()
    with torch.no_grad():
        method(*torch.randn(2, 64, 3, 16, 16, dtype=torch.float64))  # statistics to evaluate with
    for part in method.modules():
        part.training = not isinstance(part, _BatchNorm)
    return method


def state_after(method, trained, query, key):
    loss = trained(query, key).loss
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in method.named_parameters() if p.requires_grad}
    return {"loss": loss.detach(), "gradients": gradients, "buffers": dict(method.named_buffers())}


def on_half(method, rank):
    single = copy.deepcopy(method)
    torch.manual_seed(7)
    query, key = torch.randn(2, 2 * COUNT, 3, 16, 16, dtype=torch.float64)
    together = DistributedDataParallel(method, broadcast_buffers=False)
    mine = state_after(method, together, query[rank::2], key[rank::2])  # as DistributedSampler distributes
    # In evaluation the ranks are independent and may have different counts.
    evaluated = single.eval()(query[rank : rank + 3], key[rank : rank + 3]), single.target(key[:3])
    mine["evaluated"] = evaluated[0].loss.detach(), evaluated[1]
    for part in single.modules():
        part.training = not isinstance(part, _BatchNorm)
    return mine, single, query, key


if __name__ == "__main__":
    methods = {name: made(name) for name in METHODS}  # not distributed yet: all start with the same statistics
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    halves = {name: on_half(method, rank) for name, method in methods.items()}
    dist.destroy_process_group()
    # No longer distributed: one process with the full batch.
    results = {
        name: {"half": mine, "whole": state_after(single, single, query, key)}
        for name, (mine, single, query, key) in halves.items()
    }
    torch.save(results, Path(sys.argv[1]) / f"rank{rank}.pt")
