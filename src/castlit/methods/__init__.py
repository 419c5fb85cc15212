"""What is contrasted: MoCo, SimCLR, BYOL, SimSiam."""

from castlit.methods.base import Method, MethodOutput
from castlit.methods.byol import BYOL
from castlit.methods.info_nce import info_nce, nt_xent
from castlit.methods.moco import MoCo
from castlit.methods.simclr import SimCLR
from castlit.methods.simsiam import SimSiam

__all__ = ["BYOL", "Method", "MethodOutput", "MoCo", "SimCLR", "SimSiam", "info_nce", "nt_xent"]
