"""Logging in epochs shorter than the logging interval."""

from castlit.utils.lightning import pl


class LogShortEpochs(pl.Callback):
    """Logs at least once per epoch, also if ``log_every_n_steps`` is longer than an epoch."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shorten the interval to the number of batches, which is known here."""
        # Lightning sets this attribute on the Trainer without declaring it.
        if trainer.log_every_n_steps > trainer.num_training_batches > 0:  # type: ignore[attr-defined]
            trainer.log_every_n_steps = int(trainer.num_training_batches)  # type: ignore[attr-defined]
