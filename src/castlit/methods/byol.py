"""BYOL: predict the momentum encoder's embedding of the other view; no negatives."""

from torch import Tensor, nn

from castlit.methods.momentum_predictor import MomentumPredictor


class BYOL(MomentumPredictor):
    """Bootstrap your own latent (Grill et al., NeurIPS 2020).

    Args:
        backbone: A name, see :func:`castlit.nn.build_backbone`, or a network of your own.
        dim: Width of projection and prediction.
        hidden: Width of the hidden layers of projector and predictor.
        momentum: Momentum in [0, 1] of the target network.
        momentum_schedule: ``"constant"``, or ``"cosine"`` from ``momentum`` to 1 over the run, as in the paper.

    Raises:
        InputError: An argument is out of range, or there is no such backbone.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "resnet50",
        dim: int = 256,
        hidden: int = 4096,
        momentum: float = 0.996,
        momentum_schedule: str = "constant",
    ) -> None:
        super().__init__(backbone, dim, hidden, momentum, momentum_schedule, last_norm=False)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The mean squared distance of predictions and targets, both (N, dim) and L2-normalised (equation 2)."""
        return 2.0 - 2.0 * (predictions * targets).sum(1).mean()
