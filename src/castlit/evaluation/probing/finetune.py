"""The protocol ``finetune``: backbone and classifier trained together on few labels."""

from pathlib import Path
from typing import Any

from torch import nn

from castlit.evaluation.probing.linear import evaluate_linear
from castlit.reporting.results import Results
from castlit.utils.validation import require_number


def evaluate_finetune(backbone: nn.Module, output: Path, name: str, seed: int, **settings: Any) -> Results:  # noqa: ANN401
    """Train backbone and classifier together on a fraction of the labels; otherwise as :func:`evaluate_linear`.

    Batch norms keep updating their statistics. The schedule is in ``conf/protocol/finetune.yaml``.

    Args:
        backbone: Maps normalised images to a feature map; a copy is trained.
        output: The run's folder.
        name: The checkpoint as typed.
        seed: See :func:`evaluate_linear`.
        **settings: Other arguments of :func:`evaluate_linear`, with ``backbone_lr`` > 0.

    Returns:
        ``top1`` and ``top5``, in [0, 100].

    Raises:
        InputError: See :func:`evaluate_linear`; or ``backbone_lr`` is 0.
    """
    require_number("protocol.backbone_lr", settings.get("backbone_lr", 0.0), above=0)
    return evaluate_linear(backbone, output, name, seed, **settings)
