"""Two views of one image, each made by an albumentations pipeline that moves the mask along with the pixels."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castlit.crops.shared_boxes import SharedBoxes
from castlit.data.io.errors import ViewsError
from castlit.data.io.images import EncodedImage
from castlit.data.transforms.albumentations_nodes import is_transform, nodes_of, seed_nodes
from castlit.data.transforms.both_views import BothViews, Crop
from castlit.data.transforms.photometric import Photometric
from castlit.utils.validation import InputError

_TRIAL = (768, 1024)
"""Height and width of the image with which the size of the views is checked before there is any data."""


class TwoPipelines(BothViews):
    """Makes the query and the key view of an image with albumentations transforms, each with its mask.

    Data modules make it of their argument ``views={"query": ..., "key": ...}``. A pipeline is a transform, an
    ``A.Compose``, a list of transforms, or a mapping of names to transforms, of which None ones are left out. It holds
    a :class:`castlit.crops.SaliencyCrop`, and any other transforms that move the mask along or change colours only.
    Images are decoded at full size, which takes longer than the data modules' own crops.

    All draws come from the sample's random generator: boxes are drawn from it as :class:`castlit.data.TwoViews` draws
    them, so that pipelines of a ``SaliencyCrop`` alone give the same boxes; every other transform of either view has a
    generator of its own, seeded from it.

    A mask that has left its view is empty, and its image has no attention loss. A mask that comes back with any value
    but 0 counts as salient there.

    Args:
        size: Side of the square views in pixels; what the pipelines must return.
        query: Pipeline of the query.
        key: Pipeline of the key.
        colours: castlit's colour augmentation after the pipeline, see :class:`castlit.data.TwoViews`; None for none.
        flip: Probability of a horizontal flip after the pipeline.
        defer: See :class:`castlit.data.TwoViews`.

    Raises:
        InputError: A pipeline does not fit: it has no crop, another size, a transform that does not move the mask, or
            one that castlit makes itself (``Normalize``, ``ToTensorV2``). When called, it is a ``ViewsError``.
    """

    def __init__(
        self,
        size: int,
        query: Any,  # noqa: ANN401 - albumentations has no usable types
        key: Any,  # noqa: ANN401
        *,
        colours: str | Photometric | None = None,
        flip: float = 0.0,
        defer: bool = False,
    ) -> None:
        super().__init__(size, colours, flip, defer)
        self.query, self.key = _Pipeline("query", query, self.size), _Pipeline("key", key, self.size)

    def crops(
        self, image: NDArray[np.uint8] | EncodedImage, mask: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[Crop, Crop]:
        """What the two pipelines make of the image."""
        pixels = image.decode() if isinstance(image, EncodedImage) else image
        boxes = SharedBoxes(rng)
        # Children, which leave the sample's own draws to the boxes, the flips and the colours.
        query_rng, key_rng = rng.spawn(2)
        views = self.query(pixels, mask, boxes, query_rng), self.key(pixels, mask, boxes, key_rng)
        self.count_relaxed(boxes.relaxed)
        return views


class _Pipeline:
    """The transforms of one view.

    Args:
        name: Of the view, for messages.
        given: As for :class:`TwoPipelines`.
        size: Side of the view in pixels.
    """

    def __init__(self, name: str, given: Any, size: int) -> None:  # noqa: ANN401
        import albumentations as A

        from castlit.crops import SaliencyCrop

        self.name, self.size = f"views.{name}", size
        steps = _steps(self.name, given)
        only = steps[0] if len(steps) == 1 else None
        self.transform = only if isinstance(only, A.Compose) else A.Compose(steps)
        self.nodes = nodes_of(self.transform)
        for node in self.nodes:
            _check(self.name, node)
        self.crops: list[Any] = [node for node in self.nodes if isinstance(node, SaliencyCrop)]
        if not self.crops:
            raise InputError(
                f"{self.name} has no crop: add castlit.crops.SaliencyCrop (min_coverage=0 sets no constraint)"
            )
        self._try()

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], boxes: SharedBoxes, rng: np.random.Generator
    ) -> Crop:
        """The view and its mask; boxes come from ``boxes``, all other draws from ``rng``."""
        height, width = image.shape[:2]
        try:
            made = self._run(image, mask, boxes, rng)
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ViewsError(f"{self.name} failed on an image of {width} x {height}: {why}") from error
        return self._checked(made)

    def _run(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], boxes: SharedBoxes, rng: np.random.Generator
    ) -> dict[str, Any]:
        seed_nodes(self.nodes, rng)
        for crop in self.crops:
            crop.shared = boxes
        try:
            # Copies: the other view gets the same arrays, and a transform may write to its input.
            made: dict[str, Any] = self.transform(image=image.copy(), mask=mask.copy())
        finally:
            for crop in self.crops:
                crop.shared = None
        return made

    def _checked(self, made: dict[str, Any]) -> Crop:
        view, mask = np.asarray(made["image"]), np.asarray(made["mask"])
        if view.dtype != np.uint8 or view.ndim != 3 or view.shape[2] != 3:
            raise ViewsError(f"{self.name} makes images of {view.dtype} {view.shape}: they must stay RGB of uint8")
        if view.shape[:2] != (self.size, self.size) or mask.shape[:2] != (self.size, self.size):
            raise ViewsError(
                f"{self.name} makes images of {view.shape[1]} x {view.shape[0]} and masks of {mask.shape[1]} x "
                f"{mask.shape[0]}, but size is {self.size}: give SaliencyCrop that size, and keep it"
            )
        salient = mask != 0 if mask.ndim == 2 else (mask != 0).any(axis=2)
        return view, salient.view(np.uint8)

    def _try(self) -> None:
        """Check what the pipeline makes of some image, so that most mistakes show before the data are read."""
        image, mask = np.zeros((*_TRIAL, 3), np.uint8), np.zeros(_TRIAL, np.uint8)
        mask[200:500, 300:600] = 1
        rng = np.random.default_rng(0)
        try:
            made = self._run(image, mask, SharedBoxes(rng), rng.spawn(1)[0])
        except Exception:  # the transforms may need images of another size: the first real one decides
            return
        self._checked(made)


def _steps(name: str, given: Any) -> list[Any]:  # noqa: ANN401
    """The transforms that were given for a view.

    Raises:
        InputError: One is not of albumentations.
    """
    if isinstance(given, Mapping):
        named = {f"{name}.{key}": step for key, step in given.items() if step is not None}
    elif isinstance(given, (list, tuple)):
        named = {f"{name}[{i}]": step for i, step in enumerate(given)}
    else:
        named = {name: given}
    for key, step in named.items():
        if not is_transform(step):
            hint = ", with its class as _target_" if isinstance(step, Mapping) else ""
            raise InputError(f"{key} must be an albumentations transform{hint}, got {step!r}")
    return list(named.values())


def _check(name: str, node: Any) -> None:  # noqa: ANN401
    """Check one transform of a view.

    Raises:
        InputError: It does not fit.
    """
    import albumentations as A
    from albumentations.core.type_definitions import Targets

    kind = type(node).__name__
    if unknown := getattr(node, "invalid_args", None):  # albumentations only warns
        raise InputError(f"{name}: {kind} has no argument {', '.join(map(str, unknown))}")
    if isinstance(node, (A.Normalize, A.ToFloat, A.ToTensorV2, A.ToTensor3D)):
        raise InputError(f"{name}: leave out {kind}: castlit normalises the views, and makes tensors of them, itself")
    if isinstance(node, A.Lambda) and node.custom_apply_fns["mask"] is A.Lambda().custom_apply_fns["mask"]:
        raise InputError(f"{name}: Lambda has no function for the mask: give mask=, one that moves it as image= does")
    if isinstance(node, A.BasicTransform) and not isinstance(node, A.ImageOnlyTransform):
        declared = getattr(node, "_targets", Targets.MASK)
        declared = declared if isinstance(declared, (tuple, list, set)) else (declared,)
        if Targets.MASK not in declared or "mask" not in node.targets:
            raise InputError(f"{name}: {kind} does not move the mask along with the pixels: leave it out")
