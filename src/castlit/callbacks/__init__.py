"""Online probes, the Grad-CAM panel, masks by the encoder, the run's record; and the callbacks for exact resume."""

from castlit.callbacks.panel import GradCAMPanel
from castlit.callbacks.probes import KNNProbe, PointingProbe
from castlit.callbacks.progress_bar import ProgressBar
from castlit.callbacks.pruning import Pruning
from castlit.callbacks.record import Change, RunRecord
from castlit.callbacks.run_log import RunLog
from castlit.callbacks.scores import LabelLogit, MaskedKey
from castlit.callbacks.self_masks import SelfMasks
from castlit.callbacks.short_epochs import LogShortEpochs
from castlit.callbacks.supervision import AttentionSupervision
from castlit.callbacks.wandb import wandb_logger
from castlit.reporting.metrics_csv import MetricsCSV
from castlit.resume.checkpoint_io import AtomicCheckpointIO
from castlit.resume.exact_resume import ExactResume
from castlit.resume.finite_loss import FiniteLoss
from castlit.resume.last_checkpoint import LastCheckpoint

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
    "ProgressBar",
    "Pruning",
    "RunLog",
    "RunRecord",
    "SelfMasks",
    "wandb_logger",
]
