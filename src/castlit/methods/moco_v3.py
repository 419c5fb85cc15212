"""MoCo v3: contrast predictions with the momentum encoder's keys of the batch, both ways; no queue."""

from torch import Tensor, nn

from castlit.methods.info_nce import info_nce_in_batch
from castlit.methods.momentum_predictor import MomentumPredictor
from castlit.utils.distributed import gather, rank
from castlit.utils.validation import require_number


class MoCoV3(MomentumPredictor):
    """Momentum contrast, version 3 (Chen, Xie and He, ICCV 2021).

    The projector is that of the official code for a ResNet. The predictor ends in batch norm, as that code's for a
    vision transformer does; for a ResNet it ends in a linear layer without bias. The defaults are those of the official
    code for a ResNet-50; for vision transformers it uses temperature 0.2.

    Args:
        backbone: A name, see :func:`castlit.nn.build_backbone`, or a network of your own.
        dim: Width of projection and prediction.
        hidden: Width of the hidden layers of projector and predictor.
        momentum: Momentum in [0, 1] of the momentum encoder.
        temperature: T > 0.
        momentum_schedule: ``"constant"``, or ``"cosine"`` from ``momentum`` to 1 over the run, as in the paper.

    Raises:
        InputError: An argument is out of range, or there is no such backbone.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "resnet50",
        dim: int = 256,
        hidden: int = 4096,
        momentum: float = 0.99,
        temperature: float = 1.0,
        momentum_schedule: str = "cosine",
    ) -> None:
        super().__init__(backbone, dim, hidden, momentum, momentum_schedule, last_norm=True)
        self.temperature = require_number("temperature", temperature, above=0)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Contrast predictions with the targets of all ranks, both (N, dim) and L2-normalised (algorithm 1)."""
        # The factor 2 T makes the gradient's size independent of T (section 3).
        loss = info_nce_in_batch(predictions, gather(targets), self.temperature, first=rank() * len(targets))
        return 2 * self.temperature * loss
