"""The part ``two_processes``: two ranks train with DDP, on two GPUs over NCCL or on one over gloo."""

import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from castlit.attention import AttentionLoss
from castlit.bench.gpu.settings import GPUSettings
from castlit.bench.implementations import now
from castlit.bench.loops import RECIPE
from castlit.methods import MoCo
from castlit.module import CASTModule

STEPS = 4


class _Step(nn.Module):
    """CASTModule's training step as a forward pass, for torch's own DDP."""

    def __init__(self, module: CASTModule) -> None:
        super().__init__()
        self.module = module
        module.log = lambda *_, **__: None  # type: ignore[method-assign]

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        module = self.module
        assert module.attention is not None
        with module.attention.tap(module.encoder) as activations:
            output = module.method(batch["query"], batch["key"])
            masked = module.method.target(batch["key"] * batch["key_mask"])  # type: ignore[operator]
        score = (output.embedding * masked).sum(1)
        attention = module.attention(score, activations, batch["query_mask"])
        return module.attention.combine(output.loss, attention.loss)


def measure(settings: GPUSettings, folder: Path, tests: str | None) -> dict[str, Any]:
    """Train a few steps on two ranks; return whether their weights and queues are equal, and images/s of both."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    several = settings.device == "cuda" and torch.cuda.device_count() > 1
    backend = "nccl" if several else "gloo"
    spawn(_train, (settings.as_plain(), str(folder), port, backend, several), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(folder / f"rank{rank}.pt", map_location="cpu", weights_only=True) for rank in range(2))
    same = {name: bool(torch.equal(x, second["state"][name])) for name, x in first["state"].items()}
    return {
        "backend": backend,
        "gpus": torch.cuda.device_count(),
        "equal": all(same.values()),
        "different": [name for name, equal in same.items() if not equal],
        "images_per_s": round(2 * first["images"] / max(first["seconds"], second["seconds"]), 1),
    }


def _train(rank: int, plain: dict[str, Any], folder: str, port: int, backend: str, several: bool) -> None:
    settings = GPUSettings(**plain)
    device = f"cuda:{rank if several else 0}" if settings.device == "cuda" else "cpu"
    dist.init_process_group(backend, f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    torch.manual_seed(0)
    method = MoCo(settings.backbone, queue_size=settings.queue_size)
    module = CASTModule(method, AttentionLoss(), RECIPE).to(device).train()
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer, _ = RECIPE.build(trained, 1000, 1000)
    network = DistributedDataParallel(_Step(module), broadcast_buffers=False)
    count = max(2, settings.batch_size // 2)
    generator = torch.Generator().manual_seed(rank)
    shape = (count, 3, settings.size, settings.size)
    mask = torch.zeros(count, 1, *shape[2:])
    mask[:, :, : settings.size // 2] = 1
    taken = 0.0
    for step in range(STEPS + 1):
        query, key = (torch.randn(shape, generator=generator).to(device) for _ in range(2))
        batch = {"query": query, "key": key, "query_mask": mask.to(device), "key_mask": mask.to(device)}
        start = now(settings.device)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = network(batch)
        loss.backward()
        optimizer.step()
        method.after_step()
        taken += (now(settings.device) - start) * (step > 0)
    state = dict(module.named_parameters()) | {n: x for n, x in module.named_buffers() if "queue" in n}
    found = {"state": {n: x.detach().cpu() for n, x in state.items()}, "images": count * STEPS, "seconds": taken}
    torch.save(found, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()
