"""Optimisers: the recipe, LARS, and the momentum encoder's moving average."""

from castlit.optim.ema import momentum_copy, scheduled_momentum, update_average
from castlit.optim.lars import LARS
from castlit.optim.recipe import OptimizerRecipe

__all__ = ["LARS", "OptimizerRecipe", "momentum_copy", "scheduled_momentum", "update_average"]
