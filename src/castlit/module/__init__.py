"""CASTModule: the one place where method, attention and optimiser meet; and what its steps are made of."""

from castlit.module.cast import CASTModule

__all__ = ["CASTModule"]
