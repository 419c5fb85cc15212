"""Online probes, the Grad-CAM panel, the run's record; and what makes a run go on as if it had never stopped."""

from castlit.callbacks.atomic_io import AtomicCheckpointIO
from castlit.callbacks.finite_loss import FiniteLoss
from castlit.callbacks.last_checkpoint import LastCheckpoint
from castlit.callbacks.log_short_epochs import LogShortEpochs
from castlit.callbacks.metrics_csv import MetricsCSV
from castlit.callbacks.panel import GradCAMPanel
from castlit.callbacks.probes import KNNProbe, PointingProbe
from castlit.callbacks.pruning import Pruning
from castlit.callbacks.record import Change, RunRecord
from castlit.callbacks.resume import ExactResume
from castlit.callbacks.scores import LabelLogit, MaskedKey
from castlit.callbacks.self_masks import SelfMasks
from castlit.callbacks.supervision import AttentionSupervision
from castlit.callbacks.wandb import wandb_logger

__all__ = [
    "AtomicCheckpointIO",
    "AttentionSupervision",
    "Change",
    "ExactResume",
    "FiniteLoss",
    "GradCAMPanel",
    "KNNProbe",
    "LabelLogit",
    "LastCheckpoint",
    "LogShortEpochs",
    "MaskedKey",
    "MetricsCSV",
    "PointingProbe",
    "Pruning",
    "RunRecord",
    "SelfMasks",
    "wandb_logger",
]
