"""What was found out about each image, and which of them to show."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from castlit.evaluation.grounding.scores import ImageScores


@dataclass
class Seen:
    """Of all validation images that have a mask.

    Attributes:
        cams: (N, h, w) by question.
        scores: By question, and of what any CAM must beat.
        places: (N,) which of the validation images they are, in the loader's order.
    """

    cams: dict[str, Tensor]
    scores: dict[str, ImageScores]
    places: Tensor

    def choose(self, count: int, suffix: str | None) -> dict[str, list[int]]:
        """Which images to show: spread evenly over all; where two networks are compared, half of them by difference.

        Args:
            count: How many, at most.
            suffix: Behind the names of the second network's questions; None where there is none.

        Returns:
            By what they were chosen for, their numbers among the N. With two networks: half evenly spread, a quarter
            where the first has the most energy in the mask above the second's (in the mean over the questions that
            both were asked), a quarter where the second has.
        """
        total = len(self.places)
        both = [key for key in self.cams if suffix is not None and f"{key}{suffix}" in self.cams]
        if not both:
            return {"Evenly spread over the validation images": _even(total, count)}
        gain = sum(self.scores[key].energy - self.scores[f"{key}{suffix}"].energy for key in both)
        order = np.argsort(-np.asarray(gain), kind="stable").tolist()
        half, quarter = count - 2 * (count // 4), min(count // 4, total // 2)
        return {
            "Evenly spread over the validation images": _even(total, half),
            "Where the first has most above the second": order[:quarter],
            "Where the second has most above the first": order[::-1][:quarter],
        }


def _even(total: int, count: int) -> list[int]:
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)).tolist() if count else []
