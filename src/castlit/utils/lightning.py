"""Lightning, by whichever of its two package names the program uses.

``lightning.pytorch`` and ``pytorch_lightning`` hold the same classes twice: a trainer of the one refuses a module of
the other. castlit builds on ``lightning.pytorch`` if the program has imported it before castlit, otherwise on
``pytorch_lightning``. All other files of castlit take Lightning from here.
"""

import importlib
import importlib.abc
import sys
import warnings
from typing import TYPE_CHECKING

__all__ = ["PACKAGE", "SLURMEnvironment", "TrainerFn", "fabric", "pl", "rank_zero_only"]

UNIFIED = "lightning.pytorch"

PACKAGE = UNIFIED if UNIFIED in sys.modules else "pytorch_lightning"
"""The package that castlit builds on."""

if TYPE_CHECKING:
    import lightning_fabric as fabric
    import pytorch_lightning as pl
else:
    pl = importlib.import_module(PACKAGE)
    fabric = importlib.import_module("lightning.fabric" if PACKAGE == UNIFIED else "lightning_fabric")

SLURMEnvironment = fabric.plugins.environments.slurm.SLURMEnvironment
TrainerFn = pl.trainer.states.TrainerFn
rank_zero_only = pl.utilities.rank_zero_only


class _WarnOfOther(importlib.abc.MetaPathFinder):
    """Warns when the program imports ``lightning.pytorch`` after castlit has taken ``pytorch_lightning``."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == UNIFIED:
            sys.meta_path.remove(self)
            warnings.warn(
                "castlit was imported before lightning, so its modules, data modules and callbacks are those of "
                "pytorch_lightning, which lightning's Trainer refuses: import lightning before castlit, or use "
                "pytorch_lightning's Trainer",
                stacklevel=2,
            )


if PACKAGE != UNIFIED:
    sys.meta_path.insert(0, _WarnOfOther())
