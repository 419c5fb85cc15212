"""How good an encoder is: one folder per protocol or family of protocols."""

from castlit.evaluation.backgrounds import evaluate_backgrounds
from castlit.evaluation.frozen import linear_probe
from castlit.evaluation.grounding import Grounding, evaluate_grounding, grounding
from castlit.evaluation.probing import evaluate_finetune, evaluate_knn, evaluate_linear
from castlit.evaluation.saliency import SaliencyScores, evaluate_saliency
from castlit.evaluation.scenes import evaluate_scenes
from castlit.evaluation.voc07 import evaluate_voc07
from castlit.nn.nearest_neighbours import knn_accuracy

__all__ = [
    "Grounding",
    "SaliencyScores",
    "evaluate_backgrounds",
    "evaluate_finetune",
    "evaluate_grounding",
    "evaluate_knn",
    "evaluate_linear",
    "evaluate_saliency",
    "evaluate_scenes",
    "evaluate_voc07",
    "grounding",
    "knn_accuracy",
    "linear_probe",
]
