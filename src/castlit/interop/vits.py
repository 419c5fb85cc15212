"""Guess a ViT's name in timm by its weights: to tell the user, since weights do not tell the number of heads."""

import math
from collections.abc import Mapping

from torch import Tensor

_WIDTHS = {192: "tiny", 384: "small", 768: "base", 1024: "large"}


def which_vit(state: Mapping[str, Tensor]) -> str | None:
    """The backbone that weights by timm's names look like, such as ``timm/vit_small_patch16_224``; None: no ViT."""
    patches, positions = state.get("patch_embed.proj.weight"), state.get("pos_embed")
    if patches is None or patches.dim() != 4 or positions is None or positions.dim() != 3:
        return None
    width, patch = patches.shape[0], patches.shape[-1]
    if width not in _WIDTHS:
        return None
    if "blocks.0.ls1.gamma" in state:
        registers = state.get("reg_token")
        return (
            f"timm/vit_{_WIDTHS[width]}_patch{patch}{'' if registers is None else f'_reg{registers.shape[1]}'}_dinov2"
        )
    return f"timm/vit_{_WIDTHS[width]}_patch{patch}_{patch * math.isqrt(positions.shape[1])}"
