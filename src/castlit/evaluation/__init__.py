"""How good an encoder is: one folder per protocol or family of protocols."""

from typing import TYPE_CHECKING

from castlit.evaluation.grounding import Grounding, evaluate_grounding, grounding
from castlit.nn.nearest_neighbours import knn_accuracy
from castlit.utils.lazy import lazy_attribute

if TYPE_CHECKING:
    from castlit.evaluation.backgrounds import evaluate_backgrounds
    from castlit.evaluation.frozen import linear_probe
    from castlit.evaluation.probing import evaluate_finetune, evaluate_knn, evaluate_linear
    from castlit.evaluation.saliency import SaliencyScores, evaluate_saliency
    from castlit.evaluation.scenes import evaluate_scenes
    from castlit.evaluation.voc07 import evaluate_voc07

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

# Not the function grounding: its package has the same name, and would take its place when it is imported.
_HOMES = {
    "SaliencyScores": "saliency",
    "evaluate_backgrounds": "backgrounds",
    "evaluate_finetune": "probing",
    "evaluate_knn": "probing",
    "evaluate_linear": "probing",
    "evaluate_saliency": "saliency",
    "evaluate_scenes": "scenes",
    "evaluate_voc07": "voc07",
    "linear_probe": "frozen",
}


def __getattr__(name: str) -> object:
    return lazy_attribute(__name__, name, _HOMES)


def __dir__() -> list[str]:
    return __all__
