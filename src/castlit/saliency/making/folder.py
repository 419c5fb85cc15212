"""Masks for all images of a folder."""

import functools
import hashlib
import importlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from castlit.data.folders import require_folder
from castlit.nn.checks import InputError, require_choice, require_int
from castlit.nn.cores import available_cores
from castlit.saliency.applying import apply_network
from castlit.saliency.choosing import Choice
from castlit.saliency.folder_run import Made, Run
from castlit.saliency.maps import SIDE
from castlit.saliency.one_mask import Outcome, Recipe, make_mask
from castlit.saliency.pool import in_processes
from castlit.saliency.preview import write_preview
from castlit.saliency.records import PACKAGES, Records
from castlit.saliency.survey import Share, State, refuse_nested, survey

QUALITIES = {"fast": "RBD", "fused": "RBD, DSR, MC and HS"}
"""What each quality is made of, in words; :data:`castlit.saliency.maps.METHODS` has the methods by the same names."""

TRAINED = "deepusps"
"""The quality that trains a network on the images first."""

_TRAINING = "castlit.saliency.phases"

if importlib.util.find_spec(_TRAINING):
    QUALITIES[TRAINED] = "DeepUSPS"

_ANY_MACHINE = ("workers", "accelerator", "precision")
"""Settings of the training that do not tell one map from another."""

MASK_SIDE = 1024
PREVIEW = 48


def make_masks(
    images: str | Path,
    output: str | Path,
    quality: str = "fast",
    *,
    side: int | None = None,
    mask_side: int = MASK_SIDE,
    workers: int | None = None,
    shard: str | None = None,
    preview: int = PREVIEW,
    overwrite: bool = False,
    deepusps: Mapping[str, Any] | None = None,
) -> Made:
    """Make a saliency mask for every image below a folder, without labels.

    An image ``a/b/name.jpg`` gets the soft map ``a/b/name.png``: 8-bit grey, upright, at the image's size. Beside the
    masks are written ``masks.json`` (how they were made), ``preview.html`` and, if need be, ``failed.csv``.

    Whatever ends a run, every mask is whole or not there, and the next run goes on: each mask holds the settings that
    made it and is not made again by the same ones. An image that is replaced by another of the same name keeps its
    mask; remove that, or give ``overwrite``. An image in which nothing stands out, as it is all of one colour, gets a
    black mask, and is listed as failed, because there is nothing to train with in it.

    Processes are started, which import the main script anew: in a script, call this below
    ``if __name__ == "__main__":``.

    Args:
        images: Searched at any depth for .jpg, .jpeg, .png, .webp, .bmp, .tif and .tiff.
        output: Folder of its own for the masks.
        quality: One of :data:`QUALITIES`.
        side: Longer side in pixels at which maps are made; None means :data:`castlit.saliency.maps.SIDE`.
        mask_side: Masks are as large as their images, up to this many pixels on the longer side.
        workers: Processes, of one thread each. None means all cores; 0 works in this process.
        shard: ``"3/16"`` makes the third of sixteen parts; None all.
        preview: Samples in ``preview.html``; 0 writes none.
        overwrite: Make all masks again, those made with other settings or by others too.
        deepusps: Of the training where ``quality`` is ``"deepusps"``.

    Returns:
        What was done. Failures of single images raise nothing.

    Raises:
        FileNotFoundError: ``images`` is no folder.
        InputError: An argument is wrong; there are no images; the output holds other masks; or the disk is full.
        OSError: The output cannot be written.
    """
    require_choice("quality", quality, QUALITIES)
    if side is None:
        # No smaller than the network looks at it.
        side = max(SIDE, (deepusps or {}).get("size", 0)) if quality == TRAINED else SIDE
    require_int("side", side, 16)
    require_int("mask_side", mask_side, 16)
    workers = available_cores() if workers is None else require_int("workers", workers, 0)
    require_int("preview", preview, 0)
    share = Share.parse(shard)
    images = require_folder("images", images, "the photographs")
    output = Path(output).expanduser()
    refuse_nested(images, output)

    settings: dict[str, Any] = {"side": side, "mask_side": mask_side}
    made = f"quality={quality} side={side} mask_side={mask_side}"
    if quality == TRAINED:
        if share.of > 1:
            raise InputError("quality=deepusps trains one network on all images and applies it here: leave shard out")
        settings[TRAINED] = {key: value for key, value in (deepusps or {}).items() if key not in _ANY_MACHINE}
        made += f" settings={hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]}"
    facts = {"quality": quality, "method": QUALITIES[quality], "settings": settings, "images": str(images.resolve())}
    recipe = Recipe(images, output, made, side, mask_side)
    records = Records(output, share, facts, (*PACKAGES, "torch") if quality == TRAINED else PACKAGES)
    if not overwrite:
        records.refuse_others()
    run = Run(recipe, share, records, Choice(preview), overwrite)
    with closing(run.failures):
        todo = run.look()
        run.begin(todo)
        try:
            if len(todo):
                run.go_through(todo, _worker(recipe, quality, workers, len(todo), deepusps or {}))
        except BaseException:
            run.end(complete=False)
            raise
        run.made.workers = 1 if quality == TRAINED else max(1, workers)
        if preview:
            run.made.preview = output / f"preview{share.suffix}.html"
            write_preview(run.made.preview, recipe, run.choice, run.made.counts)
        run.end(complete=True)
    return run.made


def _worker(
    recipe: Recipe, quality: str, workers: int, count: int, training: Mapping[str, Any]
) -> Callable[[Iterator[str]], Iterator[Outcome]]:
    """What makes masks of ``count`` names, after whatever must come first."""
    if quality == TRAINED:
        return _trained(recipe, workers, count, training)
    work = functools.partial(make_mask, recipe, quality)
    return lambda names: in_processes(work, names, min(workers, count), Outcome.died)


def _trained(
    recipe: Recipe, workers: int, count: int, training: Mapping[str, Any]
) -> Callable[[Iterator[str]], Iterator[Outcome]]:
    # Only here, as the other qualities need no networks.
    train_deepusps = importlib.import_module(_TRAINING).train_deepusps
    found = survey(recipe.images, recipe.output, recipe.made, Share())
    paths = [recipe.images / seen.name for seen in found if seen.state != State.CLASHES]
    folder = recipe.output / f".{TRAINED}"
    options = dict(training)
    if options.get("workers") is None:
        options["workers"] = workers
    predictor = train_deepusps(paths, folder, **options)
    return lambda names: apply_network(recipe, predictor, names, min(workers, count), folder / "predictor.pickle")
