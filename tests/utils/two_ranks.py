"""What test_distributed.py runs on two processes; each writes what it found to <folder>/rank<r>.pt."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from castlit.nn.shuffled_batchnorm import encode_shuffled
from castlit.utils.distributed import gather, gather_with_gradient, rank, world_size
from castlit.utils.late_maximum import LateMaximum

COUNT = 8


def contrast(z):
    """Any loss in which every row meets every other."""
    return torch.logsumexp(z @ z.T, dim=1).mean()


def found_by_gather():
    x = torch.arange(6.0).view(3, 2) + 100 * rank()
    return {"contiguous": gather(x), "transposed": gather((x * 1.0).T.contiguous().T), "int": gather(x.long())}


def found_by_gather_with_gradient():
    everything = torch.randn(2 * COUNT, 3, generator=torch.Generator().manual_seed(0))
    x = everything.chunk(2)[rank()].clone().requires_grad_()
    gathered = gather_with_gradient(x)
    # The ranks' losses differ: each weighs the rows in its own way.
    weight = torch.randn(2 * COUNT, 3, generator=torch.Generator().manual_seed(rank()))
    (gathered.sin() * weight).sum().backward()
    other = torch.zeros(2 * COUNT, 3, requires_grad=True)
    gradient = x.grad.clone()
    older = other * 1.0  # Its backward pass comes after the gather's.
    ((gather_with_gradient(x) + older) * torch.full((2 * COUNT, 3), 3.0)).sum().backward()
    return {"forward": gathered.detach(), "gradient": gradient, "weight": weight, "of_other": other.grad}


def found_by_ddp():
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 4)
    trained = DistributedDataParallel(network)
    everything = torch.randn(2 * COUNT, 3)
    contrast(gather_with_gradient(trained(everything.chunk(2)[rank()]))).backward()
    single = torch.nn.Linear(3, 4)
    single.load_state_dict(network.state_dict())
    contrast(single(everything)).backward()
    return {"ddp": network.weight.grad, "single": single.weight.grad}


def received(function):
    """Run a function; return its result and the bytes that this rank gets in collectives, its own among them."""
    found, originals = [], (dist.all_gather, dist.all_to_all_single)

    def all_gather(parts, x):
        found.append(sum(part.nbytes for part in parts))
        return originals[0](parts, x)

    def all_to_all_single(into, x):
        found.append(into.nbytes)
        return originals[1](into, x)

    dist.all_gather, dist.all_to_all_single = all_gather, all_to_all_single
    try:
        return function(), found
    finally:
        dist.all_gather, dist.all_to_all_single = originals


def found_by_shuffle(count):
    torch.manual_seed(rank())  # Ranks that draw differently must still agree on the order.
    images = (torch.arange(count) + 100.0 * rank()).view(count, 1, 1, 1).expand(count, 3, 2, 2)
    encoded_here = []

    def encode(batch):
        encoded_here.append(batch[:, 0, 0, 0].clone())
        return batch.mean((2, 3)) * 2 + 1

    (mine, everybodys), sizes = received(lambda: encode_shuffled(encode, images))
    company = (images[:, 0, 0] * 10).contiguous()
    both = lambda batch, more: torch.cat([batch.mean((2, 3)), more], 1)  # noqa: E731
    together, leading = encode_shuffled(both, images, company, shared=2)
    return {
        "images": images[:, 0, 0, 0],
        "embeddings": mine,
        "everybodys": everybodys,
        "together": together,
        "leading": leading,
        "company": company,
        "seen": torch.stack(encoded_here),
        "bytes": sizes,
    }


def found_by_late_maximum():
    late, taken = LateMaximum(), []
    late.open()
    for number in ([0, 1, 0, 2], [0, 0, 3, 0])[rank()]:
        taken.append(late.take())
        late.send(number)
    taken += [late.take(), late.take()]
    late.close()
    return taken


if __name__ == "__main__":
    dist.init_process_group("gloo")
    results = {
        "world": (world_size(), rank()),
        "gather": found_by_gather(),
        "gradient": found_by_gather_with_gradient(),
        "ddp": found_by_ddp(),
        "shuffle": found_by_shuffle(COUNT),
        "uneven shuffle": found_by_shuffle(COUNT + 1),
        "late": found_by_late_maximum(),
    }
    torch.save(results, Path(sys.argv[1]) / f"rank{rank()}.pt")
    dist.destroy_process_group()
