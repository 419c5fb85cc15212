"""Scores and schedules for the attention loss that were tried beside castlit's, for study/attention_ideas.yaml here.

    PYTHONPATH=benchmarks python -m castlit.study --config-dir benchmarks study=attention_ideas

They are written as users write theirs: scores of castlit.attention.Embeddings, which a checkpoint can name, and a
callback.
"""

import torch

from castlit.attention import Embeddings
from castlit.attention.keys import KEYS, MaskedImage
from castlit.attention.targets import evidence
from castlit.nn import Described
from castlit.utils.lightning import pl


class ObjectMinusBackground(MaskedImage):
    """The masked key minus the embedding of the image with its object painted out: h · (z_km − z_kb).

    ∂s/∂h = z_km − z_kb, so what object and background share does not count. A direction "object visible", alike in
    every image, stays in the score: that is its trivial solution. Subtracting the running mean takes it out.
    """

    def embed(self, method, images, region):
        """The difference of two masked images' embeddings (N, dim)."""
        return super().embed(method, images, region) - super().embed(method, images, 1 - region)


KEYS["object_minus_background"] = ObjectMinusBackground()


class OfKey(Described):
    """castlit's evidence; a score from here, so that this file is imported before attention.key is read."""

    def __call__(self, embeddings: Embeddings):
        """Scores (N,)."""
        return evidence(embeddings)


class AgainstHardNegatives(Described):
    """h · (z_km − Σ p_i k_i), with p the softmax of the query's similarities to the queue's keys k_i.

    ∂s/∂h is what tells the object from those that the query takes it for. p has no graph: the weights are given.
    """

    def __call__(self, embeddings: Embeddings):
        """Scores (N,)."""
        query, negatives = embeddings.query.detach(), embeddings.negatives
        weights = torch.softmax(query @ negatives.T / embeddings.temperature, 1)
        return (embeddings.unnormalised * (embeddings.masked_key - weights @ negatives)).sum(1)


class WeightOverTime(pl.Callback):
    """Changes the attention loss's weight linearly over the training.

    Args:
        begin: Weight at the first step.
        end: Weight at the last step.
    """

    def __init__(self, begin: float, end: float) -> None:
        self.begin, self.end = begin, end

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        """Set this step's weight."""
        part = trainer.global_step / trainer.estimated_stepping_batches
        pl_module.attention.weight = self.begin + part * (self.end - self.begin)
