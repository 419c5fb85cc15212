"""What callbacks take from a validation step."""

from collections.abc import Mapping

from torch import Tensor

from castlit.utils.lightning import pl
from castlit.utils.validation import InputError

_OUTPUTS = {
    "features": "(N, C), pooled features",
    "cam": "(N, h, w), CAMs",
}
_BATCH = {
    "image": "(N, 3, H, W), normalised",
    "mask": "(N, 1, H, W), nonzero on the objects",
}


def part_for(callback: pl.Callback, name: str, parts: object) -> Tensor:
    """Return a part of a validation batch, or of what ``validation_step`` returned for it.

    Args:
        callback: Needs it, for the message.
        name: ``image`` or ``mask`` of the batch, ``features`` or ``cam`` of the outputs.
        parts: The batch, or the outputs.

    Raises:
        InputError: It is missing.
    """
    if isinstance(parts, Mapping) and isinstance(parts.get(name), Tensor):
        part: Tensor = parts[name]
        return part
    where = "what validation_step returns" if name in _OUTPUTS else "the validation batch"
    raise InputError(f"{type(callback).__name__} needs {name!r} in {where}: {(_OUTPUTS | _BATCH)[name]}")
