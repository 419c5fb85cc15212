"""Classification of labelled images: linear classifier, fine-tuning, nearest neighbours."""

from castlit.evaluation.probing.classifier_module import Classifier, Recipe
from castlit.evaluation.probing.finetune import evaluate_finetune
from castlit.evaluation.probing.knn import evaluate_knn
from castlit.evaluation.probing.labelled import Labelled, balanced_subset, open_labelled
from castlit.evaluation.probing.linear import evaluate_linear

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
