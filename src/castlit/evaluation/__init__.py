"""How good an encoder is: one file per protocol."""

from castlit.evaluation.grounding import Grounding, grounding
from castlit.evaluation.knn import knn_accuracy
from castlit.evaluation.linear import linear_probe

__all__ = ["Grounding", "grounding", "knn_accuracy", "linear_probe"]
