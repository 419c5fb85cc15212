r"""Score object maps from encoders' features, and what they are made of, on photographs with ground truth.

    python benchmarks/spectral_masks.py --set NAME IMAGES MASKS [--set ...] --encoder NAME CHECKPOINT [--encoder ...]
        [--all-methods NAME ...] [--half report] [--count N] [--output row.json]

IMAGES and MASKS are folders, paired by name. Images and masks are reduced to 256 px. A seeded split of each set has two
halves: settings were chosen on `decide`, and `report` is what is reported. Of each encoder border_cut is scored with
colours and without; --all-methods adds the published methods, and what masks=self makes (squares of 96 and 224 px; for
castlit's checkpoints ContraCAM, too). Controls: a Gaussian in the centre, quality=fast, and border_cut with colours
alone. Metrics are those of +protocol=saliency, and pointing: the share of images whose strongest pixel lies on an
object. Each value has its 95 % interval over images; pointing and IoU also the mean difference, image by image, from a
Gaussian in the centre and from colours alone, which is the encoder's part. The row is written again and again, and
keeps other sets that it has:

    DATA=../shared/data; VOC=$DATA/voc_small/VOCdevkit/VOC2007; RUNS=studies/attention_photographs/runs; EACH=
    for name in mocov2 cast_mocov2 evidence untrained; do
        EACH="$EACH --encoder $name $RUNS/$name/seed_0/checkpoints/last.ckpt"; done
    EACH="$EACH --encoder mocov2_seed_1 $RUNS/mocov2/seed_1/checkpoints/last.ckpt --all-methods mocov2 evidence"
    OUT="--output benchmarks/results/spectral_masks.json"
    python benchmarks/spectral_masks.py $EACH $OUT --set ecssd_dev $DATA/ecssd_dev/images $DATA/ecssd_dev/masks
    python benchmarks/spectral_masks.py $EACH $OUT --set voc_small_test test/images test/masks
    python benchmarks/spectral_masks.py $EACH $OUT --half all \
        --set coco_small_val $DATA/coco_small/val2017 $DATA/coco_small/masks/val2017

test/ has the images of $VOC/ImageSets/Segmentation/test.txt, which no encoder has seen; coco_small's were among those
that they trained on. Settings were chosen on 100 images each of the other halves and of coco_small's train2017.
"""

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from castlit import CASTModule
from castlit.bench.machine import machine
from castlit.crops import crop_resize
from castlit.data.datamodules.datasets import normalise
from castlit.data.index.file_source import FileSource
from castlit.data.io.masks import THRESHOLD
from castlit.evaluation.saliency.moments import half_width
from castlit.evaluation.saliency.scores import SaliencyScores, overlap
from castlit.interop import open_backbone
from castlit.saliency.algorithms.baselines import centre_gaussian
from castlit.saliency.algorithms.fusion import fast
from castlit.saliency.algorithms.refine import finish, guided_filter
from castlit.saliency.algorithms.registry import shrink
from castlit.saliency.spectral.features import CellFeatures
from castlit.saliency.spectral.predictor import object_map
from castlit.saliency.spectral.settings import SpectralSettings
from castlit.utils.json_files import write_json

METRICS = ("max_f_of_means", "mae", "iou")
PUBLISHED = ("tokencut", "lost", "deep_spectral")
CONTRASTED = 16  # images that ContraCAM contrasts
EVERY = 20  # images between two writes
COLOURS = "colours alone: border_cut"
ALONE = SpectralSettings(sigma=1e6)  # features do not count


class Row:
    """Scores of one kind of map."""

    def __init__(self):
        self.scores = SaliencyScores()
        self.of_images = {"pointing": [], "iou": []}

    def add(self, values, mask):
        """Score a map (h, w) against its mask."""
        self.scores.add(values, mask)
        large = cv2.resize(np.asarray(values, np.float32), mask.shape[::-1])
        self.of_images["pointing"].append(large.max() > 0 and mask.flat[large.argmax()] > 0)
        self.of_images["iou"].append(overlap(large * 255 > THRESHOLD * 255, mask > 0))

    def results(self, references):
        """Each metric in per cent: its value, and the ends of its interval."""
        values, ends = self.scores.results(), self.scores.intervals()
        found = {name: (values[name], *ends[name]) for name in METRICS}
        for name, mine in self.of_images.items():
            found.setdefault(name, interval(np.array(mine, float)))
            for other, row in references.items():
                if row is not self:
                    theirs = np.array(row.of_images[name][: len(mine)], float)
                    found[f"{name} over {other}"] = interval(np.array(mine, float) - theirs)
        return {name: [round(100 * value, 1) for value in three] for name, three in found.items()}


def interval(values):
    """The mean over images, and the ends of its 95 % interval."""
    mean, wide = float(values.mean()), half_width(float(values.var(ddof=1)), len(values))
    return mean, mean - wide, mean + wide


def results(rows):
    """The results of all rows, by name."""
    references = {"centre": rows["centre Gaussian"], "colours": rows[COLOURS]}
    return {name: {**row.results(references), "images": row.scores.images} for name, row in rows.items()}


class Encoder:
    """An encoder, and the maps that are made with it."""

    def __init__(self, name, checkpoint, complete):
        network = open_backbone(checkpoint).requires_grad_(False)
        self.name, self.complete = name, complete
        self.cells = CellFeatures(network)
        self.squares = {side: CellFeatures(network, size=side, square=(side, 1)) for side in (96, 224)}
        self.module = CASTModule.load_from_checkpoint(checkpoint, map_location="cpu").eval()

    def maps(self, image):
        """Maps of an image by name."""
        features = self.cells(image)
        for colour, suffix in ((1.0, ""), (0.0, ", features alone")):
            settings = SpectralSettings(colour=colour)
            yield f"{self.name}: border_cut{suffix}", finish(image, object_map(features, image, settings))
        if not self.complete:
            return
        for method in PUBLISHED:
            found = object_map(features, image, SpectralSettings(method))
            yield f"{self.name}: {method}", finish(image, found)
        for side, cells in self.squares.items():
            square = squared(image, side)
            found = object_map(cells.of_batch(batch([square]))[0].numpy(), square, SpectralSettings())
            yield f"{self.name}: masks=self, {side} px", finish(square, found)

    @property
    def contracam(self):
        """The row of ContraCAM."""
        return f"{self.name}: contracam, 96 px"

    def contracams(self, images):
        """ContraCAM's maps of images that are contrasted with each other."""
        squares = [squared(image, 96) for image in images]
        found = self.module.find_objects(batch(squares)).numpy()
        return [guided_filter(*pair) for pair in zip(squares, found, strict=True)]


def squared(image, side):
    return crop_resize(image, (0, 0, image.shape[1], image.shape[0]), (side, side))


def batch(images):
    return normalise(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))


def half(count, which):
    order = np.random.default_rng(20).permutation(count)
    return {"decide": order[: count // 2], "report": order[count // 2 :], "all": order}[which]


def read(source, index):
    """An image and its mask, reduced; None without an object."""
    item = source.read(int(index))
    if item.mask is None or not item.mask.any():
        return None
    image = shrink(item.image if isinstance(item.image, np.ndarray) else item.image.decode())
    return image, cv2.resize(item.mask, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def score(source, order, encoders, write):
    rows, waiting = {}, []
    for index in order:
        pair = read(source, index)
        if pair is None:
            continue
        image, mask = pair
        made = {"centre Gaussian": centre_gaussian(image), "quality=fast": fast(image)}
        features = np.zeros((1, *(max(1, round(28 * side / max(image.shape[:2]))) for side in image.shape[:2])))
        made[COLOURS] = finish(image, object_map(features, image, ALONE))
        for encoder in encoders:
            made |= dict(encoder.maps(image))
        for name, values in made.items():
            rows.setdefault(name, Row()).add(values, mask)
        waiting.append(pair)
        if len(waiting) == CONTRASTED:
            for encoder in (each for each in encoders if each.complete):
                for values, (_, truth) in zip(encoder.contracams([each for each, _ in waiting]), waiting, strict=True):
                    rows.setdefault(encoder.contracam, Row()).add(values, truth)
            waiting = []
        if rows[COLOURS].scores.images % EVERY == 0:
            write(results(rows))
    write(results(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs=3, action="append", required=True, metavar=("NAME", "IMAGES", "MASKS"))
    parser.add_argument("--encoder", nargs=2, action="append", required=True, metavar=("NAME", "CHECKPOINT"))
    parser.add_argument("--all-methods", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--half", choices=["decide", "report", "all"], default="report")
    parser.add_argument("--count", type=int, help="at most this many images of each set")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    encoders = [Encoder(name, path, name in given.all_methods) for name, path in given.encoder]
    for name, images, masks in given.set:
        source = FileSource(images, masks, on_bad="drop")
        began = time.process_time()

        def write(rows, name=name, began=began):
            whole = {"benchmark": "spectral_masks", "sets": {}}
            if given.output.is_file():
                whole = json.loads(given.output.read_text())
            seconds = round(time.process_time() - began)
            whole["sets"][name] = {"half": given.half, "cpu_seconds": seconds, "rows": rows}
            whole["machine"] = machine()
            write_json(given.output, whole)

        score(source, half(len(source), given.half)[: given.count], encoders, write)


if __name__ == "__main__":
    main()
