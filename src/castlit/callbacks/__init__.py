"""Online probes, the Grad-CAM panel, the run's record."""

from castlit.callbacks.log_short_epochs import LogShortEpochs
from castlit.callbacks.panel import GradCAMPanel
from castlit.callbacks.probes import KNNProbe, PointingProbe
from castlit.callbacks.record import Change, RunRecord
from castlit.callbacks.wandb import wandb_logger

__all__ = ["Change", "GradCAMPanel", "KNNProbe", "LogShortEpochs", "PointingProbe", "RunRecord", "wandb_logger"]
