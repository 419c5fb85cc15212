"""Contrastive methods: MoCo, MoCo v3, DenseCL, SimCLR, BYOL, SimSiam, VICReg."""

from castlit.methods.base import Method, MethodOutput
from castlit.methods.byol import BYOL
from castlit.methods.densecl import DenseCL
from castlit.methods.info_nce import info_nce, info_nce_in_batch, nt_xent
from castlit.methods.moco import MoCo
from castlit.methods.moco_v3 import MoCoV3
from castlit.methods.simclr import SimCLR
from castlit.methods.simsiam import SimSiam
from castlit.methods.vicreg import VICReg, vicreg_loss

__all__ = [
    "BYOL",
    "DenseCL",
    "Method",
    "MethodOutput",
    "MoCo",
    "MoCoV3",
    "SimCLR",
    "SimSiam",
    "VICReg",
    "info_nce",
    "info_nce_in_batch",
    "nt_xent",
    "vicreg_loss",
]
