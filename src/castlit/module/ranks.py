"""What makes a run the same on any number of ranks: one batch norm over all of them, and one queue on each."""

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from torch import Tensor, nn

from castlit.nn.sync_batchnorm import separate_batchnorm, synchronise_batchnorm
from castlit.utils.distributed import world_size


class SyncBatchNorms(TorchSyncBatchNorm):
    """Lightning's ``sync_batchnorm=True``, also where torch's own layer refuses to work.

    That is on CPUs, and in heads that a CAM is differentiated through. :class:`castlit.CASTModule` puts it in the place
    of Lightning's own.

    Args:
        device: What the ranks train on, such as ``"cuda"``.
    """

    def __init__(self, device: str) -> None:
        self.device = device

    def apply(self, model: nn.Module) -> nn.Module:
        """Put synchronised batch norms in; the module's names stay."""
        synchronise_batchnorm(model, trunks_on_gpu=self.device != "cpu")
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Take them out again."""
        separate_batchnorm(model)
        return model


def prepare(module: pl.LightningModule, trainer: pl.Trainer) -> None:
    """Settle what DDP is to leave alone, and who synchronises batch norms; before DDP wraps the module."""
    # By default DDP sends all buffers from the first rank to the others before every forward pass; a queue of 65,536
    # keys is 33 MB. Every rank enqueues the same keys by itself.
    module._ddp_params_and_buffers_to_ignore = list(_own(module))  # type: ignore[assignment]
    synchronise_for_cams(trainer)


def synchronise_for_cams(trainer: pl.Trainer) -> None:
    """Where ``sync_batchnorm=True`` was asked for, let batch norms of heads be such that a CAM can go through them."""
    if type(getattr(trainer.strategy, "_layer_sync", None)) is TorchSyncBatchNorm:
        trainer.strategy._layer_sync = SyncBatchNorms(trainer.strategy.root_device.type)  # type: ignore[attr-defined]


def align(module: nn.Module) -> None:
    """Give every rank the first one's queue to start from; all ranks come here together."""
    if world_size() > 1:
        for buffer in _own(module).values():
            dist.broadcast(buffer, src=0)


def _own(module: nn.Module) -> dict[str, Tensor]:
    """The buffers that keep themselves equal on all ranks, by name."""
    return {
        f"{name}.{key}": buffer
        for name, part in module.named_modules()
        if getattr(part, "equal_on_all_ranks", False)
        for key, buffer in part.named_buffers(recurse=False)
    }
