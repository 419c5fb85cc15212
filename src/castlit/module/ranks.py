"""Training on several ranks: synchronised batch norm that a CAM can go through, and the same queue on each rank."""

import torch.distributed as dist
from torch import Tensor, nn

from castlit.nn.sync_batchnorm import separate_batchnorm, synchronise_batchnorm
from castlit.utils import lightning_internals as lightning
from castlit.utils.distributed import world_size
from castlit.utils.lightning import pl
from castlit.utils.validation import InputError


class SyncBatchNorms(pl.plugins.layer_sync.TorchSyncBatchNorm):
    """Lightning's ``sync_batchnorm=True`` where torch's own layer raises: on CPUs, and in heads below a CAM.

    :class:`castlit.CASTModule` replaces Lightning's own with it.

    Args:
        device: What the ranks train on, such as ``"cuda"``.
    """

    def __init__(self, device: str) -> None:
        self.device = device

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace batch norms by synchronised ones; names in the state dict stay."""
        synchronise_batchnorm(model, trunks_on_gpu=self.device != "cpu")
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Restore the original batch norms."""
        separate_batchnorm(model)
        return model


def prepare(module: pl.LightningModule, trainer: pl.Trainer) -> None:
    """Exclude the queue from DDP and choose how batch norms synchronise; call it before DDP wraps the module."""
    # By default DDP sends all buffers from the first rank to the others before every forward pass; a queue of 65,536
    # keys is 33 MB. Every rank enqueues the same keys anyway.
    module._ddp_params_and_buffers_to_ignore = list(_equal_buffers(module))  # type: ignore[assignment]
    synchronise_for_cams(trainer)


def require_prepared(module: nn.Module) -> None:
    """Refuse training on several processes for which :func:`prepare` was not called.

    Raises:
        InputError: It was not: batch norms would differ, and DDP would send the queue before each step.
    """
    if world_size() > 1 and not hasattr(module, "_ddp_params_and_buffers_to_ignore"):
        raise InputError(
            "CASTModule trains on several processes only under a Trainer: in a module that contains it, call its "
            "setup(stage) and on_fit_start() from those of the module; Fabric takes one process (docs: Other loops)"
        )


def synchronise_for_cams(trainer: pl.Trainer) -> None:
    """If the trainer has ``sync_batchnorm=True``, use :class:`SyncBatchNorms`."""
    # By its name: a callback of castlit's may serve a trainer of the other package, see castlit.utils.lightning.
    if type(lightning.layer_sync(trainer)).__name__ == pl.plugins.layer_sync.TorchSyncBatchNorm.__name__:
        lightning.warn_if_untested()
        lightning.set_layer_sync(trainer, SyncBatchNorms(trainer.strategy.root_device.type))


def align(module: nn.Module) -> None:
    """Copy the first rank's queue to all ranks; all ranks must call it together."""
    if world_size() > 1:
        for buffer in _equal_buffers(module).values():
            dist.broadcast(buffer, src=0)


def _equal_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The buffers that are equal on all ranks without DDP, by name."""
    return {
        f"{name}.{key}": buffer
        for name, part in module.named_modules()
        if getattr(part, "equal_on_all_ranks", False)
        for key, buffer in part.named_buffers(recurse=False)
    }
