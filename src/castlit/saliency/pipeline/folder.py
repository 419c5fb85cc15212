"""Masks for all images of a folder."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from castlit.data.io.folders import require_folder
from castlit.saliency.algorithms.registry import SIDE
from castlit.saliency.pipeline.one_mask import Outcome, Recipe, make_mask
from castlit.saliency.pipeline.preview import write_preview
from castlit.saliency.pipeline.preview_sampler import Choice
from castlit.saliency.pipeline.records import PACKAGES, Records
from castlit.saliency.pipeline.run import Made, Run
from castlit.saliency.pipeline.survey import Share, refuse_nested
from castlit.saliency.pipeline.trained import TRAINED, Training
from castlit.utils.cores import available_cores
from castlit.utils.process_pool import in_processes
from castlit.utils.validation import InputError, require_choice, require_int

QUALITIES = {"fast": "RBD", "fused": "RBD, DSR, MC and HS", TRAINED: "DeepUSPS"}
"""What each quality is made of, in words; :data:`castlit.saliency.algorithms.registry.METHODS` has the untrained by the same names."""

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
        side: Longer side in pixels at which maps are made; None means :data:`castlit.saliency.algorithms.registry.SIDE`.
        mask_side: Masks are as large as their images, up to this many pixels on the longer side.
        workers: Processes, of one thread each. None means all cores; 0 works in this process.
        shard: ``"3/16"`` makes the third of sixteen parts; None all.
        preview: Samples in ``preview.html``; 0 writes none.
        overwrite: Make all masks again, those made with other settings or by others too.
        deepusps: Settings of the training where ``quality`` is ``"deepusps"``, see
            :class:`castlit.saliency.pipeline.trained.Training`.

    Returns:
        What was done. Failures of single images raise nothing.

    Raises:
        FileNotFoundError: ``images`` is no folder.
        InputError: An argument is wrong; there are no images; the output holds other masks; or the disk is full.
        OSError: The output cannot be written.
    """
    require_choice("quality", quality, QUALITIES)
    training = Training(deepusps or {}) if quality == TRAINED else None
    if side is None:
        side = training.side if training else SIDE
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
    if training:
        if share.of > 1 and training.network is None:
            raise InputError(
                "quality=deepusps trains one network on all images: leave shard out; or train on some images, and give "
                "deepusps.network=OUTPUT/.deepusps/training for the shards"
            )
        settings[TRAINED] = training.facts
        made += f" training={training.mark}"
    facts = {"quality": quality, "method": QUALITIES[quality], "settings": settings, "images": str(images.resolve())}
    recipe = Recipe(images, output, made, side, mask_side)
    records = Records(output, share, facts, (*PACKAGES, "torch") if training else PACKAGES)
    if not overwrite:
        records.refuse_others()
    run = Run(recipe, share, records, Choice(preview), overwrite)
    with closing(run.failures):
        todo = run.look()
        if training:
            training.check()
        run.begin(todo)
        try:
            if len(todo):
                run.go_through(todo, _worker(run, quality, workers, len(todo), training))
        except BaseException:
            run.end(complete=False)
            raise
        run.made.workers = max(1, workers)
        if preview:
            run.made.preview = output / f"preview{share.suffix}.html"
            write_preview(run.made.preview, recipe, run.choice, run.made.counts)
        run.end(complete=True)
    return run.made


def _worker(
    run: Run, quality: str, workers: int, count: int, training: Training | None
) -> Callable[[Iterator[str]], Iterator[Outcome]]:
    """What makes masks of ``count`` names, after whatever must come first."""
    if training:
        return training.worker(run.recipe, run.share, workers, count, run.overwrite)
    work = functools.partial(make_mask, run.recipe, quality)
    return lambda names: in_processes(work, names, min(workers, count), Outcome.died)
