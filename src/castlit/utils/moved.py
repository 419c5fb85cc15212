"""Names of castlit 0.1 that moved in 0.2, for checkpoints and configurations written before."""

import importlib

MOVED = {
    "castlit.nn.Described": "castlit.utils.serializable.Described",
    "castlit.nn.InputError": "castlit.utils.validation.InputError",
    "castlit.nn.LARS": "castlit.optim.LARS",
    "castlit.nn.OptimizerRecipe": "castlit.optim.OptimizerRecipe",
    "castlit.nn.Spec": "castlit.utils.serializable.Spec",
    "castlit.nn.build": "castlit.utils.serializable.build",
    "castlit.nn.describe": "castlit.utils.serializable.describe",
    "castlit.nn.lars.LARS": "castlit.optim.lars.LARS",
    "castlit.nn.momentum_copy": "castlit.optim.momentum_copy",
    "castlit.nn.optim.OptimizerRecipe": "castlit.optim.recipe.OptimizerRecipe",
    "castlit.nn.scheduled_momentum": "castlit.optim.scheduled_momentum",
    "castlit.nn.update_average": "castlit.optim.update_average",
}


def current_name(name: str) -> str:
    """Return where a class or function is now, given its full name in any version."""
    return MOVED.get(name, name)


def moved_attribute(module: str, name: str) -> object:
    """Find what a module had in an earlier version: for its ``__getattr__``.

    Raises:
        AttributeError: No version of the module has had this name.
    """
    new = MOVED.get(f"{module}.{name}")
    if new is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    package, _, attribute = new.rpartition(".")
    return getattr(importlib.import_module(package), attribute)
