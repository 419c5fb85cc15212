"""How much of CAST's attention comes from the momentum encoder's lag?

    python benchmarks/momentum_lag.py RUN ... output.json

For each run's last checkpoint and eight of its training batches: the attention loss with keys of the momentum encoder,
and with keys of the trained encoder, which does not lag. Query and key are unit vectors, so the score's gradient is
along the residual: the key minus its part along the query. `common` is the length of the residuals' mean direction: 1
if it is the same for all images of a batch, about 1 / sqrt(images) if they are independent.
"""

import copy
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf

from castlit import CASTModule
from castlit.attention.keys import KEYS, apply_mask
from castlit.attention.loss import has_object
from castlit.bench.machine import machine
from castlit.utils.json_files import write_json

BATCHES = 8


def measure(module, batches):
    """Means over the batches, batch norm as in training."""
    module.train()
    rows = []
    for batch in batches:
        key_mask = KEYS[module.attention.key].region(batch["key_mask"])
        query_mask = batch["query_mask"] * has_object(key_mask)[:, None, None, None]
        with module.attention.tap(module.encoder) as activations:
            query = module.method.embed(batch["query"])
        key = module.method.target(apply_mask(batch["key"], key_mask))
        score = (query * key).sum(1)
        found = module.attention(score, activations, query_mask)
        residual = (key - score[:, None] * query).detach()
        common = F.normalize(residual, dim=1).mean(0).norm()
        rows.append([found.loss.detach(), score.mean().detach(), residual.norm(dim=1).mean(), common])
    means = torch.tensor(rows).mean(0).tolist()
    return dict(zip(("attention loss", "score", "residual", "common"), means, strict=True))


def main(folders, output):
    rows = {}
    for folder in folders:
        config = OmegaConf.load(folder / "config.yaml")
        pl.seed_everything(0, verbose=False)
        data = instantiate(config.data, workers=0, _convert_="all")
        data.prepare_data()
        data.setup("fit")
        loader = iter(data.train_dataloader())
        batches = [next(loader) for _ in range(BATCHES)]
        module = CASTModule.load_from_checkpoint(folder / "checkpoints" / "last.ckpt", map_location="cpu")
        without_lag = copy.deepcopy(module)
        without_lag.method.momentum_encoder.load_state_dict(without_lag.method.encoder.state_dict())
        row = {"momentum encoder": measure(module, batches), "no lag": measure(without_lag, batches)}
        rows[str(folder)] = row
        print(
            folder, {name: {key: round(value, 3) for key, value in of.items()} for name, of in row.items()}, flush=True
        )
    write_json(output, {"machine": machine(), "runs": rows})


if __name__ == "__main__":
    *runs, to = map(Path, sys.argv[1:])
    main(runs, to)
