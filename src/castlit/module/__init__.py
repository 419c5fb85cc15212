"""CASTModule, which joins method, attention loss and optimiser, and its parts."""

from castlit.module.cast import CASTModule

__all__ = ["CASTModule"]
