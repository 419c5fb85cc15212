"""Per-image results, and the choice of images to show."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from castlit.evaluation.grounding.questions import SHUFFLED_KEYS
from castlit.evaluation.grounding.scores import ImageScores


@dataclass
class ImageResults:
    """Results of all validation images that have a mask.

    Attributes:
        cams: (N, h, w) by question.
        scores: By question, and of the baseline.
        places: (N,) positions of the validation images, in the loader's order.
        paired: (N,) whether the image has a partner in its batch, see
            :func:`castlit.evaluation.grounding.questions.partners`.
        indices: (N,) their indices in the data; None if the batches have none.
    """

    cams: dict[str, Tensor]
    scores: dict[str, ImageScores]
    places: Tensor
    paired: Tensor
    indices: Tensor | None = None

    def scored(self, key: str) -> ImageScores:
        """The scores of those images that the question can be asked of: there is no other key without a partner."""
        found = self.scores[key]
        return ImageScores(*(metric[self.paired] for metric in found)) if SHUFFLED_KEYS in key else found

    def choose(self, count: int, suffix: str | None) -> dict[str, list[int]]:
        """Choose the images to show: evenly spaced; for two networks, half of them by difference.

        Args:
            count: Maximum number.
            suffix: Suffix of the second network's questions; None if there is none.

        Returns:
            Indices into the N images, by reason. With two networks: half evenly spaced, a quarter where the first
            network has the largest lead in energy (mean over the questions that both were asked), a quarter where the
            second has.
        """
        total = len(self.places)
        both = [key for key in self.cams if suffix is not None and f"{key}{suffix}" in self.cams]
        if not both:
            return {"Evenly spaced validation images": _even(total, count)}
        gain = sum(self.scores[key].energy - self.scores[f"{key}{suffix}"].energy for key in both)
        order = np.argsort(-np.asarray(gain), kind="stable").tolist()
        half, quarter = count - 2 * (count // 4), min(count // 4, total // 2)
        return {
            "Evenly spaced validation images": _even(total, half),
            "Largest lead of the first": order[:quarter],
            "Largest lead of the second": order[::-1][:quarter],
        }


def _even(total: int, count: int) -> list[int]:
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)).tolist() if count else []
