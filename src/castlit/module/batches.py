"""What a module's batches have to contain."""

from collections.abc import Mapping

from torch import Tensor

from castlit.utils.validation import InputError


def check_training_batch(batch: object, masks: bool) -> None:
    """Check a training batch.

    Args:
        batch: Should be a mapping with ``query`` and ``key``.
        masks: Whether it needs ``query_mask`` and ``key_mask``, too.

    Raises:
        InputError: A part is missing, or masks are not (N, 1, H, W).
    """
    names = ("query", "key", *(("query_mask", "key_mask") if masks else ()))
    parts = _parts(batch, names, "training")
    for name in names[2:]:
        check_masks(parts[name], parts["query"], name)


def check_validation_batch(batch: object) -> None:
    """Check that a validation batch has ``image`` and ``mask``.

    Raises:
        InputError: A part is missing.
    """
    _parts(batch, ("image", "mask"), "validation")


def check_masks(masks: Tensor, images: Tensor, name: str) -> None:
    """Check that there is a mask (1, H, W) for each image.

    Raises:
        InputError: The shape is another; ``name`` says which masks.
    """
    if masks.dim() != 4 or masks.shape[:2] != (len(images), 1):
        raise InputError(f"{name} must be ({len(images)}, 1, H, W), a mask for each image; got {tuple(masks.shape)}")


def _parts(batch: object, names: tuple[str, ...], kind: str) -> Mapping[str, Tensor]:
    listed = ", ".join(names)
    if not isinstance(batch, Mapping):
        raise InputError(f"a {kind} batch must be a dictionary with {listed}; got {type(batch).__name__}")
    missing = [name for name in names if name not in batch]
    if missing:
        raise InputError(f"a {kind} batch must have {listed}; this one lacks {', '.join(missing)}")
    return batch
