"""The protocol ``scenes``, on the built-in scenes."""

from castlit.evaluation.scenes.protocol import evaluate_scenes

__all__ = ["evaluate_scenes"]
