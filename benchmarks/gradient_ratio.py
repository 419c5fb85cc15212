"""How strong is CAST's loss beside the contrastive one, and do the two pull apart? By method and score.

    python benchmarks/gradient_ratio.py --output row.json simclr simclr=CHECKPOINT byol …

Each word is a method, by the name of its experiments (`simclr`: `+experiment=cast_simclr`), untrained or with the
weights of a checkpoint of the method alone. On eight batches of its training data, with the backbone's parameters:

`ratio`: the norm of the attention loss's gradient (weight 1) divided by that of the contrastive loss's.
`cosine`: of the angle between the two; below zero, a step for the one is a step against the other.
`… agreement`: the mean cosine between a loss's gradients on different batches: 0 if they are noise.

All are means over the batches, for the paper's score and for evidence with the CAM before its ReLU.
"""

import argparse
import itertools
from pathlib import Path

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from castlit import CASTModule
from castlit.attention import has_object
from castlit.attention.keys import KEYS
from castlit.bench.machine import machine
from castlit.module.explain import query_of, score_of
from castlit.utils.json_files import write_json

BATCHES = 8
SCORES = {"positive": [], "evidence, signed": ["attention.target=evidence", "attention.cam=signed"]}


def gradients(module, batch):
    """The gradients of the contrastive and of the attention loss with respect to the backbone, as vectors."""
    key = KEYS[module.attention.key]
    key_mask = key.region(batch["key_mask"])
    query_mask = batch["query_mask"] * has_object(key_mask)[:, None, None, None]
    with module.attention.tap(module.encoder) as activations:
        output, z_km = key.step(module.method, batch["query"], batch["key"], key_mask)
    score = score_of(module.method, module.attention, query_of(output), z_km, None)
    attention = module.attention(score, activations, query_mask)
    parameters = list(module.encoder.backbone.parameters())
    return [
        torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters, retain_graph=True)])
        for loss in (output.loss, attention.loss)
    ]


def measure(method, checkpoint, words):
    """Means over the batches; batch norm as in training."""
    with initialize_config_module("castlit.conf", version_base="1.3"):
        config = compose("train", [f"+experiment=cast_{method}", "data.workers=0", "data.photometric=cpu", *words])
    pl.seed_everything(0, verbose=False)
    data = instantiate(config.data, _convert_="all")
    module = instantiate(config.module, _convert_="all").train()
    if checkpoint:
        module.method.load_state_dict(
            CASTModule.load_from_checkpoint(checkpoint, map_location="cpu").method.state_dict()
        )
    data.prepare_data()
    data.setup("fit")
    batches = itertools.islice(data.train_dataloader(), BATCHES)
    found = torch.stack([torch.stack(gradients(module, batch)) for batch in batches]).transpose(0, 1)
    lengths = found.norm(dim=2)
    contrastive, attention = found / lengths[..., None]
    return {
        "ratio": float((lengths[1] / lengths[0]).mean()),
        "cosine": float((contrastive * attention).sum(1).mean()),
        "contrastive agreement": agreement(contrastive),
        "attention agreement": agreement(attention),
    }


def agreement(directions):
    """The mean cosine between different rows, which are unit vectors."""
    cosines = directions @ directions.T
    return float((cosines.sum() - cosines.trace()) / (cosines.numel() - len(cosines)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="METHOD[=CHECKPOINT]")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    row = {"benchmark": "gradient_ratio", "untrained": {}, "trained": {}, "machine": machine()}
    for word in given.networks:
        method, _, checkpoint = word.partition("=")
        found = {name: measure(method, checkpoint, words) for name, words in SCORES.items()}
        rounded = {name: {key: round(value, 4) for key, value in values.items()} for name, values in found.items()}
        row["trained" if checkpoint else "untrained"][method] = rounded
        print(word, rounded, flush=True)
        if given.output:
            write_json(given.output, row)


if __name__ == "__main__":
    main()
