"""SimSiam: predict the other view's embedding under a stop-gradient; no negatives, no momentum encoder."""

from torch import Tensor, nn

from castlit.methods.base import MaskedOutput, Method, MethodOutput, embed_key, output
from castlit.nn.backbones import build_backbone, feature_channels
from castlit.nn.encoder import Encoder
from castlit.nn.heads import mlp_head
from castlit.nn.normalisation import unit_length
from castlit.utils.dtype import without_autocast
from castlit.utils.validation import require_int


class SimSiam(Method):
    """Simple Siamese representation learning (Chen and He, CVPR 2021).

    Args:
        backbone: A name, see :func:`castlit.nn.build_backbone`, or a network of your own.
        dim: Width of projection and prediction, and of the projector's hidden layers.
        hidden: Width of the predictor's hidden layer, its bottleneck.

    Raises:
        InputError: An argument is out of range, or there is no such backbone.
    """

    def __init__(self, backbone: str | nn.Module = "resnet50", dim: int = 2048, hidden: int = 512) -> None:
        super().__init__()
        require_int("dim", dim, low=1)
        require_int("hidden", hidden, low=1)
        trunk = build_backbone(backbone)
        head = mlp_head(feature_channels(trunk), dim, dim, layers=3, norm=True, last_norm=True)
        self.encoder: Encoder = Encoder(trunk, head)
        self.predictor = mlp_head(dim, hidden, dim, norm=True)

    def forward(self, query: Tensor, key: Tensor, key_mask: Tensor | None = None) -> MethodOutput | MaskedOutput:
        """Predict each view (N, 3, H, W) from the other (equation 3)."""
        projected_q = self.encoder(query)
        projected_k, masked = embed_key(self.encoder, key, key_mask)
        h_q = self._predict(projected_q)
        p_q, p_k = unit_length(h_q), unit_length(self._predict(projected_k))
        z_q, z_k = (unit_length(z.detach()) for z in (projected_q, projected_k))
        loss = -0.5 * ((p_q * z_k).sum(1) + (p_k * z_q).sum(1)).mean()
        return output(loss, p_q, h_q, masked)

    def embed_unnormalised(self, images: Tensor) -> Tensor:
        """Return the prediction (N, dim), with graph."""
        return self._predict(self.encoder(images))

    def _predict(self, projected: Tensor) -> Tensor:
        with without_autocast(projected.device):
            prediction: Tensor = self.predictor(projected)
        return prediction
