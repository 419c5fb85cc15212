"""Other shapes that networks give their features, brought to a feature map (N, C, h, w)."""

from torch import Tensor, nn

from castlit.utils.validation import InputError


class TokensToGrid(nn.Module):
    """Folds a transformer's tokens back to the grid of patches that they stand for.

    Grad-CAMs of a ViT are commonly taken before its last block: where the class token is what is read, no patch's
    output counts behind the last attention. Here the patches' own outputs are pooled, and so the CAM looks right at
    them, at the folded output of the last norm: what it weighs is what the embedding is made of.

    Args:
        prefix: Number of tokens before the patches' (class, distillation and register tokens); they are left out.
    """

    def __init__(self, prefix: int = 0) -> None:
        super().__init__()
        self.prefix = prefix

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Fold tokens (N, prefix + h · w, C), row by row, to (N, C, h, w).

        Args:
            tokens: One vector for each patch, behind the prefix.
            height: Of the images; the grid has their proportions.
            width: Of the images.

        Raises:
            InputError: So many tokens are no grid of these proportions.
        """
        tokens = tokens[:, self.prefix :]
        count = tokens.shape[1]
        rows = round((count * height / width) ** 0.5)
        columns = round((count * width / height) ** 0.5)
        if rows * columns != count:
            raise InputError(f"{count} tokens are no grid for images of {height} x {width} px")
        return tokens.transpose(1, 2).reshape(len(tokens), -1, rows, columns)

    def extra_repr(self) -> str:
        """Show the number of tokens that are left out."""
        return f"prefix={self.prefix}"


class ChannelsFirst(nn.Module):
    """Turns a map with channels last, (N, h, w, C), into one with channels first, (N, C, h, w)."""

    def forward(self, feature_map: Tensor, height: int, width: int) -> Tensor:
        """Swap the axes; the images' size does not matter."""
        return feature_map.permute(0, 3, 1, 2)
