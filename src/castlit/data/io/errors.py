"""Errors for samples that cannot be loaded; they survive the way from a loader's worker to the training process."""

from castlit.utils.validation import InputError


class LoaderError(InputError):
    """A mistake of the user's that shows while batches are made, in one line.

    PyTorch raises a worker's exception in the training process as ``type(error)(text)``, with the worker's traceback in
    ``text``. Its last line is the message; only that is kept.

    Args:
        text: The message, or a worker's traceback that ends with it.
    """

    def __init__(self, text: str) -> None:
        last = text.rstrip().rpartition("\n")[2]
        super().__init__(last.removeprefix(f"{type(self).__module__}.{type(self).__qualname__}: "))


class SampleError(LoaderError):
    """A sample or batch cannot be loaded. The message says in one line which file is at fault, and what to do."""


class ViewsError(LoaderError):
    """The transforms of a view do not fit. No file is at fault, so ``on_bad`` does not apply."""


class MismatchError(SampleError):
    """Image and mask can be read, but their shapes do not match."""


class LabelMapError(SampleError):
    """The mask can be read, but its levels or colours look like numbers of classes or objects."""


class EmptyMaskError(SampleError):
    """The mask can be read, but no pixel is salient."""
