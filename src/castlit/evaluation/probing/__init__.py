"""Classification by labels: a linear classifier on frozen features, nearest neighbours, fine-tuning."""

from castlit.evaluation.probing.classifier import Classifier, Recipe
from castlit.evaluation.probing.labelled import Labelled, balanced_subset, open_labelled
from castlit.evaluation.probing.protocols import evaluate_finetune, evaluate_knn, evaluate_linear

__all__ = [
    "Classifier",
    "Labelled",
    "Recipe",
    "balanced_subset",
    "evaluate_finetune",
    "evaluate_knn",
    "evaluate_linear",
    "open_labelled",
]
