"""RoIAlign aligned to pixel centres."""

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.poolers import _convert_to_roi_format


class AlignedRoIAlign(MultiScaleRoIAlign):  # type: ignore[misc]
    """RoIAlign (He et al., 2017) over one feature map or a pyramid, aligned to pixel centres.

    torchvision's default is off by half a cell of the feature map, which costs accuracy for small boxes; the papers'
    detectors use the aligned version. Levels are chosen by equation 1 of Feature Pyramid Networks (Lin et al., 2017).

    Args:
        strides: Stride of each level in pixels.
        output_size: Side of the pooled map of each box.
    """

    def __init__(self, strides: tuple[int, ...], output_size: int) -> None:
        # Sampling ratio 0: one sample per cell of the map, the papers' setting.
        super().__init__([str(level) for level in range(len(strides))], output_size, sampling_ratio=0)
        self.strides = strides

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Pool M boxes of all images from feature maps by level; returns (M, C, side, side)."""
        maps = [x[name] for name in self.featmap_names]
        regions = _convert_to_roi_format(boxes)
        if len(maps) == 1:
            return self._pool(maps[0], regions, self.strides[0])
        levels = self._levels(torch.cat(boxes))
        pooled = maps[0].new_zeros(len(regions), maps[0].shape[1], *self.output_size)
        for level, (features, stride) in enumerate(zip(maps, self.strides, strict=True)):
            here = torch.where(levels == level)[0]
            pooled = pooled.index_put((here,), self._pool(features, regions[here], stride).to(pooled.dtype))
        return pooled

    def _pool(self, features: Tensor, regions: Tensor, stride: int) -> Tensor:
        output: Tensor = roi_align(features, regions, self.output_size, 1 / stride, self.sampling_ratio, aligned=True)
        return output

    def _levels(self, boxes: Tensor) -> Tensor:
        """The level of each box; a box of 224 px belongs to the third."""
        sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=1e-6).sqrt()
        levels = torch.floor(2 + torch.log2(sides / 224) + 1e-6)
        return levels.clamp(0, len(self.strides) - 1).long()
