"""The protocol ``saliency``: saliency maps against ground-truth masks."""

from castlit.evaluation.saliency.protocol import evaluate_saliency
from castlit.evaluation.saliency.scores import SaliencyScores

__all__ = ["SaliencyScores", "evaluate_saliency"]
