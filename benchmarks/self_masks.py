"""Score the masks of a run with data.masks=self against ground truth.

    python benchmarks/self_masks.py RUN IMAGES MASKS [OTHER_IMAGES OTHER_MASKS] [output.json]

RUN is the run's folder, IMAGES are its training images, MASKS their ground truth; the others are photographs that it
has not seen. For these, the maps of the last encoder and of an untrained one are scored. Baselines are a Gaussian in
the centre and chance. Metrics are in per cent.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from omegaconf import OmegaConf

from castlit import CASTModule
from castlit.bench.machine import machine
from castlit.callbacks.mask_maker import REFINEMENTS, blocks
from castlit.data.datamodules.datasets import normalise
from castlit.data.datamodules.full_images import FullImages
from castlit.data.index.file_source import FileSource
from castlit.evaluation.saliency.scores import SaliencyScores
from castlit.methods import MoCo
from castlit.nn import batch_statistics
from castlit.saliency.algorithms.baselines import centre_gaussian


def scored(maps, truth):
    """Pointing, intersection over union at 128 of 255, and the largest F-measure of maps by image."""
    scores, hits, chance = SaliencyScores(), [], []
    for index, mask in truth.items():
        scores.add(maps[index], mask)
        large = cv2.resize(np.asarray(maps[index], np.float32), mask.shape[::-1])
        hits.append(large.max() > 0 and mask.flat[large.argmax()] > 0)
        chance.append(mask.mean())
    results = scores.results()
    metrics = {"pointing": np.mean(hits), "iou": results["iou"], "max_f": results["max_f"]}
    return {name: round(100 * float(value), 1) for name, value in metrics.items()}, float(np.mean(chance))


def found(module, source, size, settings):
    """The maps that a module makes of a source's images."""
    whole, maps = FullImages(source, size), {}
    for block in blocks(np.arange(len(source)), settings.batch_size):
        pixels = np.stack([whole[index]["image"] for index in block.tolist()])
        values = module.find_objects(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2)), settings.iterations)
        refined = [REFINEMENTS[settings.refine](*pair) for pair in zip(pixels, values.numpy(), strict=True)]
        maps.update(zip(block.tolist(), refined, strict=True))
    return maps


def main(run, images, masks, *rest):
    config = OmegaConf.load(run / "config.yaml")
    settings, size = config.callbacks.self_masks, config.callbacks.self_masks.size or config.data.size
    output = Path(rest[-1]) if len(rest) % 2 else None
    row = {"settings": {key: value for key, value in settings.items() if key not in ("_target_", "path")}}
    row |= {"size": size, "backbone": config.backbone, "epochs": config.trainer.max_epochs}
    for name, pair in {"trained on": (images, masks), "others": rest[: len(rest) // 2 * 2]}.items():
        if not pair:
            continue
        source = FileSource(*pair, on_bad="unconstrained")
        items = {index: source.read(index).mask for index in range(len(source))}
        truth = {index: mask for index, mask in items.items() if mask is not None}
        centre = centre_gaussian(np.zeros((size, size, 3), np.uint8))
        metrics = {"centre Gaussian": scored(dict.fromkeys(truth, centre), truth)}
        for edition in sorted((run / "self_masks").glob("epoch_*")) if name == "trained on" else ():
            made = {i: edition / "train" / Path(source.entry(i).image).with_suffix(".png") for i in truth}
            maps = {i: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / np.float32(255) for i, path in made.items()}
            metrics[edition.name] = scored(maps, truth)
        torch.manual_seed(0)
        fresh = CASTModule(MoCo(config.backbone, queue_size=64)).eval()
        with batch_statistics(fresh, settings.batch_size):
            metrics["untrained encoder"] = scored(found(fresh, source, size, settings), truth)
        trained = CASTModule.load_from_checkpoint(run / "checkpoints" / "last.ckpt", map_location="cpu").eval()
        metrics["last encoder"] = scored(found(trained, source, size, settings), truth)
        chance = metrics["centre Gaussian"][1]
        row[name] = {"images": len(truth), "chance of pointing": round(100 * chance, 1)}
        row[name] |= {key: value for key, (value, _) in metrics.items()}
    text = json.dumps({**row, "machine": machine()}, indent=2) + "\n"
    print(text)
    if output is not None:
        output.write_text(text)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), *sys.argv[2:])
