"""The built-in scenes' protocol."""

from castlit.evaluation.scenes.protocol import evaluate_scenes

__all__ = ["evaluate_scenes"]
