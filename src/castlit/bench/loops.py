"""Bare training loops, without Lightning: the yardsticks of the step."""

from collections.abc import Iterable

import torch
from torch import Tensor

from castlit.attention import AttentionLoss, tap
from castlit.methods import MoCo
from castlit.module import masked
from castlit.nn import OptimizerRecipe

Batch = dict[str, Tensor]


class BareMoCo:
    """MoCo v2 as one would write it by hand: forward, backward, step, momentum update.

    Args:
        method: On its device already.
        autocast: bfloat16 autocast.
    """

    def __init__(self, method: MoCo, autocast: bool) -> None:
        self.method, self.autocast = method.train(), autocast
        parameters = [parameter for parameter in method.parameters() if parameter.requires_grad]
        self.optimizer, _ = OptimizerRecipe().build(parameters, 1000, 1000)

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
    """CAST with the work of the public reference code: the query goes through the network twice.

    The second pass is for the CAM, whose score it takes out of all the logits, rebuilt for that; and the momentum
    encoder moves once for each pass. (The loss is castlit's: the reference's own does not run on a current torch.)

    Args:
        method: On its device already.
        autocast: bfloat16 autocast.
    """

    def __init__(self, method: MoCo, autocast: bool) -> None:
        super().__init__(method, autocast)
        self.attention = AttentionLoss()

    def loss(self, batch: Batch) -> Tensor:
        """Contrastive and attention loss."""
        contrastive = super().loss(batch)
        self.method.after_step()
        with tap(self.method.encoder, "layer4") as activations:
            z_q = self.method.embed(batch["query"])
        z_km = self.method.target(masked(batch["key"], batch["key_mask"]))
        positive = (z_q * z_km).sum(1, keepdim=True)
        logits = torch.cat([positive, z_q @ self.method.queue.snapshot().T.to(z_q.dtype)], dim=1)
        one_hot = torch.zeros_like(logits)
        one_hot[:, 0] = 1
        score = (logits * one_hot).sum(1).float()
        return self.attention.combine(contrastive, self.attention(score, activations, batch["query_mask"]).loss)
