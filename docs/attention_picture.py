"""Draws docs/attention.jpg: where the pooled features of several networks lie, on the same images.

    python docs/attention_picture.py "MoCo v2=FILE" "CAST=FILE" "evidence=FILE" [--images FOLDER --masks FOLDER]
        [--count 8] [--output docs/attention.jpg]

Each FILE is a checkpoint of castlit.train. Images are built-in scenes whose backgrounds are any of the ten, or
photographs with masks. docs/attention.jpg is of the study attention_scenes (seed 0).
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

import castlit
from castlit.data import EvalDataset, SaliencyDataModule, collate
from castlit.data.io.array_source import ArraySource
from castlit.data.scenes import Scenes
from castlit.evaluation.grounding.questions import questions
from castlit.evaluation.network import Network
from castlit.reporting.images import encode, enlarge, grid, overlay_cam, overlay_mask, to_picture
from castlit.utils.atomic_write import write_atomic

HEIGHT = 120  # of one image, in pixels


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--size", type=int, default=64, help="side of the networks' input, in pixels")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("attention.jpg"))
    return parser.parse_args()


def some_images(given: argparse.Namespace) -> dict[str, Tensor]:
    """A batch of images (N, 3, S, S), normalised, and their masks (N, 1, S, S)."""
    if given.images is None:
        scenes = Scenes(given.count, size=given.size, split="mixed_rand", seed=5)
        source = ArraySource(scenes.images, scenes.masks, scenes.objects)
    else:
        data = SaliencyDataModule(given.images, given.masks, size=given.size, on_bad="drop", workers=0)
        source = data.sources[1]
    even = np.linspace(0, len(source) - 1, given.count).round().astype(np.int64)
    dataset = EvalDataset(source, given.size, given.size, even)
    return collate([dataset[i] for i in range(len(dataset))])


def main() -> None:
    """Draw a row of images with their masks' outlines, and a row of CAMs for each network."""
    given = arguments()
    batch = some_images(given)
    pictures = [enlarge(to_picture(image), HEIGHT) for image in batch["image"]]
    masks = [enlarge(mask.numpy(), HEIGHT, cv2.INTER_NEAREST) for mask in batch["mask"][:, 0]]
    rows = [("image, mask", [overlay_mask(*pair) for pair in zip(pictures, masks, strict=True)])]
    for named in given.networks:
        name, _, file = named.partition("=")
        module = castlit.CASTModule.load_from_checkpoint(file, map_location="cpu").eval()
        cams = questions(Network(name, module.method.encoder.backbone, None))["features"](batch)
        drawn = [overlay_cam(picture, cam.numpy()) for picture, cam in zip(pictures, cams, strict=True)]
        rows.append((name, drawn))
    caption = "each CAM is scaled by its own maximum, red is hottest; neither masks nor labels take part in it"
    picture = grid(rows, "What the pooled features are made of", caption)
    write_atomic(given.output, encode(picture, given.output.suffix))


if __name__ == "__main__":
    main()
