"""The settings of object discovery, checked before the work starts."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from castlit.utils.validation import InputError, did_you_mean, require_choice, require_int, require_number

DISCOVERY = ("border_cut", "tokencut", "lost", "deep_spectral")
"""The methods, see :mod:`castlit.saliency.spectral.discovery`."""

CELLS = 28
"""Cells along an image's longer side, unless ``size`` is given."""

LARGEST = 448
"""Longer side in pixels up to which images are enlarged for that many cells."""

MOST_CELLS = 4096
"""Cells of an image, whose pairs are kept in memory: 128 MiB for each matrix."""


@dataclass(frozen=True)
class SpectralSettings:
    """All settings that determine a map; another value is another map.

    Args:
        method: One of :data:`DISCOVERY`.
        layer: Layer whose output, a feature map, is used; None: the last one with more than one position.
        size: Longer side in pixels at which images enter the network; None: as many as give :data:`CELLS` cells, at
            most :data:`LARGEST`; for networks that take one size only, that.
        sigma: Of the feature affinity exp((cosine - 1) / sigma), for ``border_cut``. Above 100, features hardly count.
        colour: Weight of the colours beside the features, in [0, 1]: the power of the colour affinity in
            ``border_cut``'s product, its factor in ``deep_spectral``'s sum; 0: features alone.
        colour_sigma: Of the colour affinity, in units of CIE Lab / 100.
        border: Weight of the background's expected place, at the border, for ``border_cut``.
        tau: Cosine above which two cells are linked, for ``tokencut``.
        seeds: Number of cells that may become seeds, for ``lost``.

    Raises:
        InputError: A value is out of range.
    """

    method: str = "border_cut"
    layer: str | None = None
    size: int | None = None
    sigma: float = 0.3
    colour: float = 1.0
    colour_sigma: float = 0.1
    border: float = 1.0
    tau: float = 0.2
    seeds: int = 100

    def __post_init__(self) -> None:
        require_choice("spectral.method", self.method, DISCOVERY)
        if self.layer is not None and (not isinstance(self.layer, str) or not self.layer):
            raise InputError(f"spectral.layer must be a layer's name, such as layer4, or null; got {self.layer!r}")
        if self.size is not None:
            require_int("spectral.size", self.size, 16)
        for name in ("sigma", "colour_sigma", "border"):
            require_number(f"spectral.{name}", getattr(self, name), above=0)
        require_number("spectral.colour", self.colour, 0, 1)
        require_number("spectral.tau", self.tau, -1, 1)
        require_int("spectral.seeds", self.seeds, 1)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "SpectralSettings":
        """Settings from a mapping.

        Raises:
            InputError: A setting does not exist or is out of range.
        """
        known = [each.name for each in fields(cls)]
        for name in given:
            if name not in known:
                raise InputError(f"spectral.{name} is no setting{did_you_mean(name, known)}")
        return cls(**given)

    def plain(self) -> dict[str, Any]:
        """The settings as JSON values, to compare with those of another run."""
        return {each.name: getattr(self, each.name) for each in fields(self)}
