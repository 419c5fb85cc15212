"""Grounding: does a network look at the objects? Grad-CAMs against masks, as metrics and images."""

from castlit.evaluation.grounding.protocol import evaluate_grounding
from castlit.evaluation.grounding.scores import Grounding, ImageScores, grounding, image_scores

__all__ = ["Grounding", "ImageScores", "evaluate_grounding", "grounding", "image_scores"]
