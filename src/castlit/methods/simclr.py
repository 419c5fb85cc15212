"""SimCLR: contrast every view with all other views of the batch."""

from torch import Tensor, nn

from castlit.methods.base import MaskedOutput, Method, MethodOutput, embed_key, output
from castlit.methods.info_nce import nt_xent
from castlit.nn.backbones import build_backbone, feature_channels
from castlit.nn.encoder import Encoder
from castlit.nn.heads import mlp_head
from castlit.nn.normalisation import unit_length
from castlit.utils.distributed import gather_with_gradient
from castlit.utils.validation import require_int, require_number


class SimCLR(Method):
    """A simple framework for contrastive learning (Chen et al., ICML 2020).

    Args:
        backbone: A name, see :func:`castlit.nn.build_backbone`, or a network of your own.
        dim: Width of the embedding.
        temperature: T > 0.

    Raises:
        InputError: An argument is out of range, or there is no such backbone.
    """

    def __init__(self, backbone: str | nn.Module = "resnet50", dim: int = 128, temperature: float = 0.1) -> None:
        super().__init__()
        require_int("dim", dim, low=1)
        self.temperature = require_number("temperature", temperature, above=0)
        trunk = build_backbone(backbone)
        width = feature_channels(trunk)
        self.encoder: Encoder = Encoder(trunk, mlp_head(width, width, dim, norm=True))

    def forward(self, query: Tensor, key: Tensor, key_mask: Tensor | None = None) -> MethodOutput | MaskedOutput:
        """Contrast two views (N, 3, H, W) of each image with those of all ranks."""
        h_q = self.embed_unnormalised(query)
        z_q = unit_length(h_q)
        projected, masked = embed_key(self.encoder, key, key_mask)
        z_k = unit_length(projected)
        loss = nt_xent(gather_with_gradient(z_q), gather_with_gradient(z_k), self.temperature)
        return output(loss, z_q, h_q, masked)
