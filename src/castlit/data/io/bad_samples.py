"""Handling of samples that cannot be loaded: raise, or log and report each of them once."""

import logging
from typing import Literal

import numpy as np

from castlit.data.io.data_report import DataReport
from castlit.data.io.errors import SampleError
from castlit.utils.several_ranks import several_ranks
from castlit.utils.shared_numbers import SharedNumbers
from castlit.utils.validation import require_choice

OnBad = Literal["error", "drop", "unconstrained"]

MAX_LOGGED = 50
"""Bad samples that are logged; the report lists them all."""

logger = logging.getLogger(__name__)


class BadSamples:
    """Applies ``on_bad`` to samples that fail while they are read; shared by all processes of a loader.

    Args:
        on_bad: ``"error"`` raises; the others log.
        count: Number of samples.
        split: What the report calls these samples: ``"train"`` or ``"val"``.
        report: Where bad files are listed, if anywhere.
    """

    def __init__(self, on_bad: OnBad, count: int, split: str = "train", report: DataReport | None = None) -> None:
        require_choice("on_bad", on_bad, ("error", "drop", "unconstrained"))
        self.on_bad, self.split, self.report = on_bad, split, report
        self._left_out = "left out"
        if several_ranks():  # must be asked here: loader workers do not know the other processes
            self._left_out += (
                "; a second copy of another image of its batch replaces it, as all processes need batches of equal size"
            )
        # Shared, so that a file is reported once and not by each worker that reads it.
        self._reported = SharedNumbers(count, np.bool_)
        self._logged = SharedNumbers(1)

    def handle(self, index: int, error: SampleError, *, mask: bool, image: str = "") -> bool:
        """Decide what happens to a bad sample.

        Args:
            index: Number of the sample.
            error: What is wrong; its message names the file.
            mask: Whether only the mask is bad, so that the image could be used without it.
            image: The image's name, for the report.

        Returns:
            True if the image is used without its mask, False if it is left out.

        Raises:
            SampleError: ``on_bad`` is ``"error"``.
        """
        if self.on_bad == "error":
            raise SampleError(f"{error}; repair or remove it, or set on_bad=drop to train without it") from None
        keep = mask and self.on_bad == "unconstrained"
        if not self._reported.values[index]:
            self._reported.values[index] = True
            handling = "its image is used without a mask" if keep else self._left_out
            self._log(f"{error}; {handling} (on_bad={self.on_bad})")
            if self.report is not None:
                self.report.add([(self.split, image, "", "bad during training", str(error), handling)])
        return keep

    def _log(self, line: str) -> None:
        logged = self._logged.values[0] = self._logged.values[0] + 1
        if logged <= MAX_LOGGED:
            logger.warning("%s", line)
        if logged == MAX_LOGGED:
            where = f"; {self.report.path} lists them all" if self.report is not None else ""
            logger.warning("%d samples were bad so far: further ones are not logged%s", MAX_LOGGED, where)
