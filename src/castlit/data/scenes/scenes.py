"""Collections of built-in scenes: training scenes, and held-out splits like those of the Backgrounds Challenge."""

import numpy as np
from numpy.typing import NDArray

from castlit.data.scenes.backgrounds import BACKGROUNDS
from castlit.data.scenes.objects import OBJECTS
from castlit.data.scenes.render import compose
from castlit.utils.validation import require_choice, require_int, require_number

SPLITS = ("train", "original", "mixed_same", "mixed_rand", "only_fg")

_LABEL_STREAM, _OBJECT_STREAM, _BACKGROUND_STREAM = range(3)


class Scenes:
    """Rendered scenes in memory. Scene i depends on the seed, the split, i and the settings, but not on ``count``.

    Splits (Xiao et al., Noise or Signal, 2020) differ only in the class of the background:

    - ``train``, ``original``: the object's own background class with probability ``background_correlation``, otherwise
      one of the other nine, uniformly. With 0.1 the background is independent of the object.
    - ``mixed_same``: the object's own background class.
    - ``mixed_rand``: one of all ten, uniformly.
    - ``only_fg``: the object on black.

    The four held-out splits share their random draws: object i looks the same and has the same position in all of them,
    and if two splits have the same background class, the background is the same too. ``train`` has separate draws.
    Object classes come in shuffled blocks of ten, so they are balanced for every ``count``.

    Args:
        count: Number of scenes, at least 1.
        split: One of SPLITS.
        size: Side of the square pictures, pixels; at least 16.
        background_correlation: Probability of the object's own background in ``train`` and ``original``, 0 to 1.
        seed: Seed of all draws, at least 0.

    Attributes:
        images: (count, size, size, 3) uint8 RGB.
        masks: (count, size, size) uint8, 1 on the object and 0 elsewhere.
        objects: (count,) int64, index into OBJECTS.
        backgrounds: (count,) int64, index into BACKGROUNDS; -1 for black.

    Raises:
        ValueError: An argument is out of range, or the split is unknown.
    """

    def __init__(
        self,
        count: int = 4096,
        *,
        split: str = "train",
        size: int = 72,
        background_correlation: float = 0.9,
        seed: int = 0,
    ) -> None:
        require_int("count", count, 1)
        require_choice("split", split, SPLITS)
        require_int("size", size, 16)
        require_number("background_correlation", background_correlation, 0.0, 1.0)
        require_int("seed", seed, 0)
        self.split = split
        self.size = size
        self.background_correlation = background_correlation
        self.seed = seed
        self.images: NDArray[np.uint8] = np.empty((count, size, size, 3), np.uint8)
        self.masks: NDArray[np.uint8] = np.empty((count, size, size), np.uint8)
        blocks = range(0, count, len(OBJECTS))
        shuffled = [self._stream(_LABEL_STREAM, block).permutation(len(OBJECTS)) for block in blocks]
        self.objects: NDArray[np.int64] = np.concatenate(shuffled)[:count].astype(np.int64)
        self.backgrounds: NDArray[np.int64] = np.empty(count, np.int64)
        # One thread: a scene takes about two hundred calls of a few microseconds each, so that threads mostly wait for
        # the GIL (measured: two are slower than one).
        for i in range(count):
            self._render(i)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
        """Scene i as image (size, size, 3), mask (size, size) and object label."""
        return self.images[i], self.masks[i], int(self.objects[i])

    def _render(self, i: int) -> None:
        rng = self._stream(_BACKGROUND_STREAM, i)
        own = int(self.objects[i])
        background = self._choose_background(own, rng)
        self.backgrounds[i] = -1 if background is None else background
        scene = compose(own, background, self._stream(_OBJECT_STREAM, i), rng, self.size)
        self.images[i], self.masks[i] = scene

    def _choose_background(self, own: int, rng: np.random.Generator) -> int | None:
        # Always three draws, so that later draws of this stream are the same in every split.
        coin, step, uniform = rng.random(), int(rng.integers(1, len(BACKGROUNDS))), int(rng.integers(len(BACKGROUNDS)))
        if self.split == "only_fg":
            return None
        if self.split == "mixed_rand":
            return uniform
        if self.split == "mixed_same" or coin < self.background_correlation:
            return own
        return (own + step) % len(BACKGROUNDS)

    def _stream(self, purpose: int, index: int) -> np.random.Generator:
        """Independent random generator for one purpose of one scene; held-out splits share theirs."""
        return np.random.default_rng([self.seed, int(self.split != "train"), purpose, index])
