"""The errors that a sample could not be made, fit to cross from a loader's worker to the training process."""

from castlit.utils.validation import InputError


class SampleError(InputError):
    """A sample or batch cannot be made; the message says in one line which file is to blame, and what to do.

    What a worker raises reaches the training process as ``type(error)(text)``, with the worker's traceback in ``text``.
    Only its last line is the message, and only that is kept.

    Args:
        text: The message, or a worker's traceback that ends with it.
    """

    def __init__(self, text: str) -> None:
        last = text.rstrip().rpartition("\n")[2]
        super().__init__(last.removeprefix(f"{type(self).__module__}.{type(self).__qualname__}: "))


class MismatchError(SampleError):
    """Image and mask can be read, but do not belong together."""


class EmptyMaskError(SampleError):
    """The mask can be read, but nothing in it is salient."""
