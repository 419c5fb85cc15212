"""What happens to a sample that cannot be made: an error, or a line in the log and in the report, once."""

import logging
from typing import Literal

import torch

from castlit.data.io.data_report import DataReport
from castlit.data.io.errors import SampleError
from castlit.utils.distributed import world_size
from castlit.utils.validation import require_choice

OnBad = Literal["error", "drop", "unconstrained"]

LOGGED = 50
"""Bad samples that are logged; the report lists them all."""

logger = logging.getLogger(__name__)


class BadSamples:
    """Keeps the promise of ``on_bad`` while samples are read, in all of a loader's processes together.

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
        if world_size() > 1:  # asked for here, as workers know of no other process
            self._left_out += (
                "; a second copy of another image of its batch takes its place, as processes need equal batches"
            )
        # Shared, so that a file is named once and not by each worker that comes upon it.
        self._told = torch.zeros(count, dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]
        self._logged = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def handle(self, index: int, error: SampleError, *, mask: bool, image: str = "") -> bool:
        """Decide about a sample.

        Args:
            index: Which sample.
            error: What is wrong; its message names the file.
            mask: Whether only the mask is bad, so that the image could go on without it.
            image: The image's name, for the report.

        Returns:
            Whether the image goes on without its mask; otherwise it is left out.

        Raises:
            SampleError: ``on_bad`` is ``"error"``.
        """
        if self.on_bad == "error":
            raise SampleError(f"{error}; repair or remove it, or set on_bad=drop to train without it") from None
        keep = mask and self.on_bad == "unconstrained"
        if not self._told[index]:
            self._told[index] = True
            handling = "its image goes on without a mask" if keep else self._left_out
            self._log(f"{error}; {handling} (on_bad={self.on_bad})")
            if self.report is not None:
                self.report.add([(self.split, image, "", "turned bad while training", str(error), handling)])
        return keep

    def _log(self, line: str) -> None:
        self._logged += 1
        if self._logged <= LOGGED:
            logger.warning("%s", line)
        if self._logged == LOGGED:
            where = f"; {self.report.path} lists them all" if self.report is not None else ""
            logger.warning("%d samples were bad so far: further ones are not logged%s", LOGGED, where)
