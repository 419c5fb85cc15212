"""The protocol ``grounding``: where one or two checkpoints look on validation images."""

import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from castlit.attention import has_object
from castlit.data import ViewsDataModule, finish
from castlit.evaluation.grounding.classifier import pooled, train_classifier
from castlit.evaluation.grounding.examples import ImageResults
from castlit.evaluation.grounding.page import write_pictures
from castlit.evaluation.grounding.questions import (
    QUESTIONS,
    SHUFFLED_KEYS,
    Batch,
    Question,
    partners,
    questions,
)
from castlit.evaluation.grounding.scores import NO_MASK, ImageScores, image_scores
from castlit.evaluation.network import Explain, Network
from castlit.reporting.results import Table
from castlit.saliency.algorithms.baselines import centre_gaussian
from castlit.utils.lightning import pl
from castlit.utils.progress_log import ProgressLog
from castlit.utils.validation import InputError, require_bool, require_int

logger = logging.getLogger(__name__)

COMPARED = " (compare)"
"""Suffix of the second checkpoint's rows."""

SHUFFLED_MASKS = "_shuffled_masks"
"""Suffix of the rows that score CAMs with the mask of another image."""

CENTRE = "a Gaussian in the centre"


def evaluate_grounding(
    backbone: nn.Module,
    device: torch.device,
    output: Path,
    name: str,
    data: pl.LightningDataModule,
    explain: Explain | None = None,
    compare: Network | None = None,
    layer: str | None = None,
    pictures: int = 24,
    classifier_images: int = 2048,
    shuffled: bool = False,
) -> Table:
    """Compare Grad-CAMs with the masks of a data module's validation images, as metrics and images.

    The CAMs explain the scores of :func:`castlit.evaluation.grounding.questions.questions`. A linear classifier is
    trained on the frozen backbone if the data have labels. ``grounding.html`` (self-contained), ``grounding.png`` and
    ``grounding/*.png`` show query, mask and CAMs of the images that
    :meth:`castlit.evaluation.grounding.examples.ImageResults.choose` chooses.

    Args:
        backbone: Maps normalised images (N, 3, H, W) to (N, C, h, w); in evaluation mode, on ``device``.
        device: The networks' device.
        output: Folder for the images.
        name: The checkpoint as typed.
        data: Its validation batches hold ``image`` and ``mask``, and may hold ``label``.
        explain: Explains the pretext score; None unless the network is a checkpoint of castlit's training.
        compare: Another network, shown beside the first.
        layer: See :func:`castlit.evaluation.grounding.questions.questions`.
        pictures: Number of images shown.
        classifier_images: Maximum number of training images for the classifier.
        shuffled: Add rows that show whether the CAMs depend on the image: ``…_shuffled_masks`` scores each CAM with the
            mask of another image, and ``pretext_shuffled_keys`` explains the match with another image's masked key.

    Returns:
        For each question, and for a baseline, the metrics of
        :class:`castlit.evaluation.grounding.scores.Grounding`, in [0, 1]. For two networks, also ``more_energy``: the
        fraction of images in which the first has more energy in the mask than the second. With a classifier, also
        ``accuracy``, its accuracy on the validation images. ``pretext_shuffled_keys`` and ``…_shuffled_masks`` leave
        out an image whose batch has no other one with an object.

    Raises:
        InputError: No image has a mask; or an argument is out of range.
    """
    require_bool("protocol.shuffled", shuffled)
    require_int("protocol.pictures", pictures, 0)
    require_int("protocol.classifier_images", classifier_images, 2)
    if isinstance(data, ViewsDataModule):
        data.device = device
    data.setup("validate")
    asked: dict[str, Question] = {}
    classifiers: dict[str, tuple[nn.Module, nn.Linear]] = {}
    networks = {"": Network(name, backbone, explain), **({COMPARED: compare} if compare is not None else {})}
    for suffix, network in networks.items():
        classifier = train_classifier(network.backbone, device, data, classifier_images)
        if classifier is not None:
            classifiers[f"classifier{suffix}"] = (network.backbone, classifier)
        asked.update({f"{key}{suffix}": ask for key, ask in questions(network, layer, classifier, shuffled).items()})
    # Rows that are compared stand next to each other.
    asked = dict(sorted(asked.items(), key=lambda item: QUESTIONS.index(item[0].removesuffix(COMPARED))))
    if not classifiers:
        logger.info("No classifier: there are no training images with labels beside those that are shown")
    seen, accuracy = _explain_all(asked, classifiers, data, device, shuffled)
    results: Table = {}
    means = {key: seen.scored(key) for key in seen.scores}
    for key, scores in means.items():
        if not len(scores.energy):
            logger.warning("%s is left out: no batch has two images with an object; use a larger data.batch_size", key)
            continue
        results[key] = {metric: float(value) for metric, value in scores.mean()._asdict().items()}
        if key in accuracy:
            results[key]["accuracy"] = accuracy[key]
        other = means.get(f"{key}{COMPARED}")
        if other is not None:
            results[key]["more_energy"] = (scores.energy > other.energy).float().mean().item()
    # Those of an earlier evaluation in this folder may show another checkpoint.
    for page in ("grounding.html", "grounding.png"):
        (output / page).unlink(missing_ok=True)
    if pictures:
        write_pictures(output, {key: network.name for key, network in networks.items()}, seen, data, results, pictures)
    return results


def _explain_all(
    asked: dict[str, Question],
    classifiers: dict[str, tuple[nn.Module, nn.Linear]],
    data: pl.LightningDataModule,
    device: torch.device,
    shuffled: bool,
) -> tuple[ImageResults, dict[str, float]]:
    """Ask all questions for all validation images; also return the classifiers' accuracies."""
    cams: dict[str, list[Tensor]] = {key: [] for key in asked}
    with_other_masks = [key for key in asked if shuffled and SHUFFLED_KEYS not in key]
    others = [f"{key}{SHUFFLED_MASKS}" for key in with_other_masks]
    scores: dict[str, list[ImageScores]] = {key: [] for key in (*asked, *others, CENTRE)}
    right: dict[str, list[Tensor]] = {key: [] for key in classifiers}
    places: list[Tensor] = []
    pairs: list[Tensor] = []
    indices: list[Tensor] = []
    with ProgressLog("Explaining", _length(data)) as pace:
        for start, batch in _batches(data):
            masked = has_object(batch["mask"])
            masks = batch["mask"][masked]
            other = partners(batch["mask"])
            paired = (other != torch.arange(len(other)))[masked]
            other_masks = batch["mask"][other][masked][paired]
            pairs.append(paired)
            places.append(start + masked.nonzero()[:, 0])
            if "index" in batch:
                indices.append(batch["index"][masked])
            on_device = finish({name: x.to(device, non_blocking=True) for name, x in batch.items()}, None)
            for key, ask in asked.items():
                found = ask(on_device).float().cpu()[masked]
                cams[key].append(found)
                scores[key].append(image_scores(found, masks))
                if key in with_other_masks:
                    scores[f"{key}{SHUFFLED_MASKS}"].append(image_scores(found[paired], other_masks))
            scores[CENTRE].append(image_scores(_centre(masks), masks))
            for key, (backbone, classifier) in classifiers.items():
                right[key].append(_right(backbone, classifier, on_device))
            for _ in masked:
                pace.advance()
    chosen = torch.cat(places)
    if not len(chosen):
        raise InputError(NO_MASK)
    together = {key: ImageScores(*map(torch.cat, zip(*parts, strict=True))) for key, parts in scores.items()}
    numbers = torch.cat(indices) if indices else None
    seen = ImageResults(
        {key: torch.cat(parts) for key, parts in cams.items()}, together, chosen, torch.cat(pairs), numbers
    )
    return seen, {key: torch.cat(parts).double().mean().item() for key, parts in right.items()}


def _right(backbone: nn.Module, classifier: nn.Linear, batch: Batch) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = classifier(pooled(backbone, batch["image"]))
    return (logits.argmax(1) == batch["label"]).cpu()


def _centre(masks: Tensor) -> Tensor:
    height, width = masks.shape[-2:]
    blank = torch.zeros(height, width, 3, dtype=torch.uint8).numpy()
    return torch.from_numpy(centre_gaussian(blank)).expand(len(masks), -1, -1)


def _batches(data: pl.LightningDataModule) -> Iterator[tuple[int, Batch]]:
    start = 0
    for batch in data.val_dataloader():
        yield start, batch
        start += len(batch["image"])


def _length(data: pl.LightningDataModule) -> int:
    try:
        return len(data.val_dataloader().dataset)
    except (AttributeError, TypeError):
        return 0
