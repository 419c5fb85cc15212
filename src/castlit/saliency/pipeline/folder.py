"""Make masks for all images of a folder."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from castlit.data.io.folders import require_folder
from castlit.saliency.algorithms.registry import METHODS_VERSION, SIDE
from castlit.saliency.pipeline.deepusps_method import DEEPUSPS, DeepUSPSMethod
from castlit.saliency.pipeline.one_mask import Outcome, Recipe, make_mask
from castlit.saliency.pipeline.preview import write_preview
from castlit.saliency.pipeline.preview_sampler import PreviewSampler
from castlit.saliency.pipeline.records import PACKAGES, Records
from castlit.saliency.pipeline.run import Run, RunSummary
from castlit.saliency.pipeline.scan import check_output
from castlit.saliency.pipeline.shard import Shard
from castlit.saliency.pipeline.spectral_method import SPECTRAL, SpectralMethod
from castlit.utils.cores import available_cores
from castlit.utils.process_pool import in_processes
from castlit.utils.validation import InputError, require_bool, require_choice, require_int, require_path

QUALITIES = {
    "fast": "RBD and MC",
    "fused": "RBD, DSR, MC and HS",
    DEEPUSPS: "DeepUSPS",
    SPECTRAL: "an encoder's features",
}
"""Quality → its methods, in words. Those without a network are in
:data:`castlit.saliency.algorithms.registry.METHODS`."""

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
    checkpoint: str | Path | None = None,
    spectral: Mapping[str, Any] | None = None,
) -> RunSummary:
    """Make a saliency mask for every image below a folder, without labels.

    An image ``a/b/name.jpg`` gets the soft map ``a/b/name.png``: 8-bit grey, upright, at the image's size. Beside the
    masks are written ``masks.json`` (how they were made), ``preview.html`` and, if need be, ``failed.csv``.

    Masks are written atomically, and an interrupted run resumes: each mask stores the settings that made it, and is not
    made again with the same settings. If an image was replaced by another of the same name and another size in bytes,
    remove its mask or give ``overwrite``: otherwise it is an error. An image of a single colour gets a black mask and
    is listed as failed: it cannot be trained on.

    This starts processes that import the main script: in a script, call it below ``if __name__ == "__main__":``.

    Args:
        images: Searched at any depth for .jpg, .jpeg, .png, .webp, .bmp, .tif and .tiff.
        output: Folder for the masks, and for nothing else.
        quality: One of :data:`QUALITIES`.
        side: Longer side in pixels at which maps are made; None:
            :data:`castlit.saliency.algorithms.registry.SIDE`.
        mask_side: Maximum of a mask's longer side in pixels; smaller masks have their image's size.
        workers: Processes, of one thread each. None: all cores; 0: works in this process.
        shard: ``"3/16"`` makes the third of sixteen parts; None: all.
        preview: Samples in ``preview.html``; 0 writes none.
        overwrite: Make all masks again, also those of other settings or programs.
        deepusps: Settings of ``quality="deepusps"``, see
            :class:`castlit.saliency.pipeline.deepusps_method.DeepUSPSMethod`.
        checkpoint: The encoder of ``quality="spectral"``: a checkpoint of castlit, or whatever
            :func:`castlit.interop.open_backbone` opens.
        spectral: Settings of ``quality="spectral"``, see
            :class:`castlit.saliency.pipeline.spectral_method.SpectralMethod`.

    Returns:
        What was done. Failures of single images raise nothing.

    Raises:
        FileNotFoundError: ``images`` is no folder.
        InputError: An argument is not valid, there are no images, the output contains other masks, or the disk is full.
        OSError: The output cannot be written.
    """
    require_choice("quality", quality, QUALITIES)
    if checkpoint is not None and quality != SPECTRAL:
        raise InputError(
            f"checkpoint={checkpoint} is for quality={SPECTRAL}, and this run has quality={quality}: add "
            f"quality={SPECTRAL}, or leave it out (quality={DEEPUSPS} takes backbone.weights)"
        )
    network: DeepUSPSMethod | SpectralMethod | None = None
    if quality == DEEPUSPS:
        network = DeepUSPSMethod(deepusps or {})
    elif quality == SPECTRAL:
        network = SpectralMethod(checkpoint, spectral or {})
    if side is None:
        side = network.side if network else SIDE
    require_int("side", side, 16)
    require_int("mask_side", mask_side, 16)
    workers = available_cores() if workers is None else require_int("workers", workers, 0)
    require_int("preview", preview, 0)
    require_bool("overwrite", overwrite)
    part = Shard.parse(shard)
    images = require_folder("images", images, "the photographs")
    output = require_path("output", output)
    check_output(images, output)

    settings: dict[str, Any] = {"side": side, "mask_side": mask_side}
    made = f"quality={quality} side={side} mask_side={mask_side}"
    if network:
        if part.total > 1 and isinstance(network, DeepUSPSMethod) and network.folder is None:
            raise InputError(
                "quality=deepusps trains one network on all images: leave shard out; or train on some, and give "
                "deepusps.network=OUTPUT/.deepusps/training for the shards"
            )
        settings[quality] = network.facts
        made += f" {'training' if quality == DEEPUSPS else 'encoder'}={network.digest}"
    else:
        settings["methods"] = METHODS_VERSION
        made += f" methods={METHODS_VERSION}"
    facts = {"quality": quality, "method": QUALITIES[quality], "settings": settings, "images": str(images.resolve())}
    recipe = Recipe(images, output, made, side, mask_side)
    records = Records(output, part, facts, (*PACKAGES, "torch") if network else PACKAGES)
    if not overwrite:
        records.check()
    run = Run(recipe, part, records, PreviewSampler(preview), overwrite)
    with closing(run.failures):
        todo = run.scan()
        if network:
            network.check()
        run.begin(todo)
        try:
            if len(todo):
                run.make(todo, _worker(run, quality, workers, len(todo), network))
        except BaseException:
            run.end(complete=False)
            raise
        run.summary.workers = max(1, workers)
        if preview:
            run.summary.preview = output / f"preview{part.suffix}.html"
            write_preview(run.summary.preview, recipe, run.sampler, run.summary.counts)
        run.end(complete=True)
    return run.summary


def _worker(
    run: Run, quality: str, workers: int, count: int, network: DeepUSPSMethod | SpectralMethod | None
) -> Callable[[Iterator[str]], Iterator[Outcome]]:
    """The function that makes masks of ``count`` names, after the network is trained or opened."""
    if network:
        return network.worker(run.recipe, run.shard, workers, count, run.overwrite)
    work = functools.partial(make_mask, run.recipe, quality)
    return lambda names: in_processes(work, names, min(workers, count), Outcome.died)
