"""How long the rest of a fit takes, by the steps so far."""

import math
import time

from castlit.utils.lightning import pl
from castlit.utils.run_length import steps_taken, total_steps


class RunPace:
    """The time left until a fit's last step.

    It is that of the steps so far and of what came between them, such as validations. The first step does not count:
    loaders start with it, and a GPU chooses its kernels.
    """

    def __init__(self) -> None:
        self._first_step = 0
        self._after_first: tuple[float, int] | None = None

    def start(self, trainer: pl.Trainer) -> None:
        """Begin with the fit's next step."""
        self._first_step, self._after_first = steps_taken(trainer), None

    def note(self, trainer: pl.Trainer) -> None:
        """Note the end of the first step; call this after each batch."""
        if self._after_first is None and self.steps(trainer):
            self._after_first = time.monotonic(), steps_taken(trainer)

    def steps(self, trainer: pl.Trainer) -> int:
        """The steps since the start."""
        return steps_taken(trainer) - self._first_step

    def left(self, trainer: pl.Trainer) -> float | None:
        """The seconds until the last step; None before the second one, and where nothing but time limits the fit."""
        total = total_steps(trainer)
        if self._after_first is None or not math.isfinite(total):
            return None
        (then, step), taken = self._after_first, steps_taken(trainer)
        done, left = taken - step, max(total - taken, 0)
        if not done:
            return None if left else 0.0
        return left * (time.monotonic() - then) / done
