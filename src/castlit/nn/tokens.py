"""Reshape tokens and channels-last maps to a feature map (N, C, h, w)."""

from torch import Tensor, nn

from castlit.utils.validation import InputError


class TokensToGrid(nn.Module):
    """Folds a transformer's patch tokens to their grid.

    Grad-CAMs of a ViT are commonly taken before its last block: a classifier on the class token does not depend on the
    patch tokens after the last attention. castlit pools the patch tokens, so the CAM uses the folded output of the last
    norm, from which the embedding is computed.

    Args:
        prefix: Number of tokens before the patches' (class, distillation and register tokens); they are dropped.
    """

    def __init__(self, prefix: int = 0) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Fold tokens (N, prefix + h · w, C), row by row, to (N, C, h, w).

        Args:
            tokens: One vector for each patch, after the prefix.
            height: Height of the images; the grid has their aspect ratio.
            width: Width of the images.

        Raises:
            InputError: This number of tokens is not a grid of the images' aspect ratio.
        """
        tokens = tokens[:, self.prefix :]
        count = tokens.shape[1]
        rows = round((count * height / width) ** 0.5)
        columns = round((count * width / height) ** 0.5)
        if rows * columns != count:
            raise InputError(f"{count} tokens are no grid for images of {height} x {width} px")
        # Not len(tokens), which torch.export takes for a constant.
        return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, rows, columns)

    def extra_repr(self) -> str:
        """Show the number of dropped tokens."""
        return f"prefix={self.prefix}"


class ChannelsFirst(nn.Module):
    """Turns a channels-last map (N, h, w, C) into a channels-first one (N, C, h, w)."""

    def forward(self, feature_map: Tensor, height: int, width: int) -> Tensor:
        """Permute the axes; the images' size is not used."""
        return feature_map.permute(0, 3, 1, 2)
