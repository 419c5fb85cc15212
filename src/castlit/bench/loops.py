"""Training loops without Lightning: the baselines of the step's benchmark."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from castlit.attention import AttentionLoss
from castlit.attention.keys import apply_mask
from castlit.methods import MoCo
from castlit.optim import OptimizerRecipe

Batch = dict[str, Tensor]

RECIPE = OptimizerRecipe(schedule="constant")
"""MoCo's recipe at a constant learning rate, so that tests can compare the weights of all loops."""


class BareMoCo:
    """MoCo v2 as one would write it by hand: forward, backward, step, momentum update.

    Args:
        method: On its device already.
        autocast: bfloat16 autocast.
    """

    def __init__(self, method: MoCo, autocast: bool) -> None:
        self.method, self.autocast = method.train(), autocast
        parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
        self.optimizer, _ = RECIPE.build(parameters, 1000, 1000)

    def run(self, batches: Iterable[Batch]) -> None:
        """Take one step on each batch."""
        for batch in batches:
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(batch["query"].device.type, torch.bfloat16, enabled=self.autocast):
                loss = self.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.method.after_step()

    def loss(self, batch: Batch) -> Tensor:
        """The contrastive loss."""
        loss: Tensor = self.method(batch["query"], batch["key"]).loss
        return loss


class PublishedCAST(BareMoCo):
    """CAST with the operations of the public reference code, which runs two forward passes of the query.

    The second pass is for the CAM, whose score is taken from a second set of all logits. Each pass updates the
    momentum encoder, parameter by parameter; each step computes the accuracy over all logits, clips the gradient and
    reads its metrics from the device, after the optimiser's step. (The loss is castlit's: the reference's does not run
    on a current torch.)

    Args:
        method: On its device already.
        autocast: bfloat16 autocast.
    """

    def __init__(self, method: MoCo, autocast: bool) -> None:
        super().__init__(method, autocast)
        self.attention = AttentionLoss()
        self.metrics: tuple[Tensor, ...] = ()

    def run(self, batches: Iterable[Batch]) -> None:
        """Take one step on each batch."""
        for batch in batches:
            with torch.autocast(batch["query"].device.type, torch.bfloat16, enabled=self.autocast):
                loss = self.loss(batch)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.method.parameters(), 2.0)
            self.optimizer.step()
            for metric in (loss, *self.metrics):
                metric.item()

    def loss(self, batch: Batch) -> Tensor:
        """Contrastive and attention loss."""
        self._update_momentum_encoder()
        z_q = self.method.embed(batch["query"])
        z_k = self._encode_key(batch["key"])
        logits = self._logits(z_q, z_k) / self.method.temperature
        self.method.queue.enqueue(z_k)

        self._update_momentum_encoder()
        with self.attention.tap(self.method.encoder) as activations:
            z_q = self.method.embed(batch["query"])
        of_masked = self._logits(z_q, self._encode_key(apply_mask(batch["key"], batch["key_mask"])))
        one_hot = torch.zeros_like(of_masked)
        one_hot[:, 0] = 1
        score = (of_masked * one_hot).sum(1)
        attention = self.attention(score, activations, batch["query_mask"]).loss

        contrastive = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
        logits.detach().topk(5, 1)
        self.metrics = (contrastive, attention)
        return self.attention.combine(contrastive, attention)

    @torch.no_grad()
    def _encode_key(self, images: Tensor) -> Tensor:
        return F.normalize(self.method.momentum_encoder(images), dim=1)

    def _logits(self, z_q: Tensor, z_k: Tensor) -> Tensor:
        """Products with the positive and with a copy of the queue, (N, 1 + K)."""
        with torch.autocast(z_q.device.type, enabled=False):
            positive = (z_q.float() * z_k.float()).sum(1, keepdim=True)
            return torch.cat([positive, z_q.float() @ self.method.queue.snapshot().T], dim=1)

    @torch.no_grad()
    def _update_momentum_encoder(self) -> None:
        pairs = zip(self.method.momentum_encoder.parameters(), self.method.encoder.parameters(), strict=True)
        for average, trained in pairs:
            average.data = average.data * self.method.momentum + trained.data * (1.0 - self.method.momentum)
