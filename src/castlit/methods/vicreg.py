"""VICReg: bring views together, keep each feature's variance high and features uncorrelated; no negatives."""

from torch import Tensor, nn
from torch.nn import functional as F

from castlit.methods.base import MaskedOutput, Method, MethodOutput, embed_key, output
from castlit.nn.backbones import build_backbone, feature_channels
from castlit.nn.encoder import Encoder
from castlit.nn.heads import mlp_head
from castlit.nn.normalisation import unit_length
from castlit.utils.distributed import gather_with_gradient
from castlit.utils.dtype import at_least_float32, without_autocast
from castlit.utils.validation import InputError, require_int, require_number


class VICReg(Method):
    """Variance, invariance and covariance regularisation (Bardes, Ponce and LeCun, ICLR 2022).

    The loss has no dot product. The embedding for CAST's score is the expander's output scaled to unit length, so the
    score is a cosine; the loss uses the output without scaling.

    Args:
        backbone: A name, see :func:`castlit.nn.build_backbone`, or a network of your own.
        dim: Width of the expander's output.
        hidden: Width of the expander's two hidden layers.
        invariance: Weight λ ≥ 0 of the distance between the views.
        variance: Weight μ ≥ 0 of the hinge on each feature's standard deviation.
        covariance: Weight ν ≥ 0 of the features' covariances.

    Raises:
        InputError: An argument is out of range, or there is no such backbone.
    """

    def __init__(
        self,
        backbone: str | nn.Module = "resnet50",
        dim: int = 8192,
        hidden: int = 8192,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ) -> None:
        super().__init__()
        require_int("dim", dim, low=1)
        require_int("hidden", hidden, low=1)
        self.invariance = require_number("invariance", invariance, low=0)
        self.variance = require_number("variance", variance, low=0)
        self.covariance = require_number("covariance", covariance, low=0)
        trunk = build_backbone(backbone)
        expander = mlp_head(feature_channels(trunk), hidden, dim, layers=3, norm=True, last_bias=False)
        self.encoder: Encoder = Encoder(trunk, expander)

    def forward(self, query: Tensor, key: Tensor, key_mask: Tensor | None = None) -> MethodOutput | MaskedOutput:
        """Regularise the expansions of two views (N, 3, H, W) of each image, with those of all ranks."""
        first = self.encoder(query)
        second, masked = embed_key(self.encoder, key, key_mask)
        gathered = gather_with_gradient(first), gather_with_gradient(second)
        loss = vicreg_loss(*gathered, self.invariance, self.variance, self.covariance)
        return output(loss, unit_length(first), first, masked)


def vicreg_loss(
    first: Tensor, second: Tensor, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> Tensor:
    """Compute VICReg's loss as its official code does.

    The code behind the paper's results differs from the paper's equation 6 in two factors: the squared distance is a
    mean over the features, not their sum, and the variance terms of the two views are averaged, not added.

    Args:
        first: Expansions (N, dim) of one view of each image, N ≥ 2, not normalised.
        second: Those of the other view.
        invariance: λ.
        variance: μ.
        covariance: ν.

    Returns:
        Scalar, computed in float32 or wider.

    Raises:
        InputError: There are fewer than two images: a single one has no variance.
    """
    if len(first) < 2:
        raise InputError(f"VICReg needs a batch of at least two images, got {len(first)}")
    with without_autocast(first.device):
        first, second = at_least_float32(first), at_least_float32(second)
        spread = (_variance_hinge(first) + _variance_hinge(second)) / 2
        correlated = _covariances(first) + _covariances(second)
        return invariance * F.mse_loss(first, second) + variance * spread + covariance * correlated


def _variance_hinge(x: Tensor) -> Tensor:
    """Mean over the features of max(0, 1 - standard deviation) (equations 1 and 2)."""
    return F.relu(1 - (x.var(0) + 1e-4).sqrt()).mean()


def _covariances(x: Tensor) -> Tensor:
    """The squared covariances of different features, summed and divided by their number (equations 3 and 4)."""
    count, dim = x.shape
    x = x - x.mean(0)
    # XᵀX and XXᵀ have the same sum of squares, so compute the smaller one. With 256 images and 8192 features it is
    # 1000 times smaller.
    products = (x.T @ x if dim <= count else x @ x.T).square().sum()
    own = x.square().sum(0).square().sum()
    return (products - own) / (count - 1) ** 2 / dim
