"""What users may set of a detector's training, checked."""

from collections.abc import Mapping, Sequence

from castlit.evaluation.detection.training import Recipe
from castlit.utils.validation import InputError, as_list, require_choice, require_int, require_number

_LEVELS = 5  # of a feature pyramid, with the one for proposals alone


def recipe_of(
    iterations: int,
    drops: Sequence[int] | int | None,
    shares: Sequence[float],
    warmup: int,
    lr: float,
    weight_decay: float,
) -> Recipe:
    """The recipe that the arguments give.

    Args:
        iterations: Steps.
        drops: Steps after which the rate falls to a tenth; None: ``shares`` of all.
        shares: In (0, 1).
        warmup: Steps in which the rate rises.
        lr: The rate.
        weight_decay: Of all but the norms.

    Raises:
        InputError: A number is out of range.
    """
    require_int("protocol.iterations", iterations, 1)
    after = [round(share * iterations) for share in shares] if drops is None else as_list(drops)
    return Recipe(
        iterations,
        tuple(sorted(require_int("protocol.drops", drop, 0) for drop in after)),
        require_number("protocol.lr", lr, above=0),
        require_int("protocol.warmup", warmup, 0),
        weight_decay=require_number("protocol.weight_decay", weight_decay, 0),
    )


def require_sizes(
    min_size: Sequence[int] | int, max_size: int, batch_size: int, boxes: int, proposals: int, workers: int | None
) -> tuple[int, ...]:
    """The short sides, if they and the other sizes make sense.

    Raises:
        InputError: They do not.
    """
    sides = tuple(require_int("protocol.min_size", side, 32) for side in as_list(min_size))
    if not sides:
        raise InputError("protocol.min_size needs at least one short side, such as [800]")
    require_int("protocol.max_size", max_size, max(sides))
    for key, value in (("batch_size", batch_size), ("boxes", boxes), ("proposals", proposals)):
        require_int(f"protocol.{key}", value, 1)
    if workers is not None:
        require_int("protocol.workers", workers, 0)
    return sides


def require_anchors(architecture: str, known: Mapping[str, object], anchors: Sequence[int] | int) -> list[int]:
    """The sides of the anchors, if the architecture is known and takes them.

    Raises:
        InputError: It is not, or does not.
    """
    require_choice("protocol.architecture", architecture, known)
    sides = [require_int("protocol.anchors", side, 1) for side in as_list(anchors)]
    if not sides or ("fpn" in architecture and len(sides) != _LEVELS):
        raise InputError(
            f"protocol.anchors={sides}: a feature pyramid takes {_LEVELS} sides, one for each level, and c4 one or more"
        )
    return sides
