"""A run ends with a validation, whatever its length."""

import pytorch_lightning as pl


class ValidateLast(pl.Callback):
    """Validates after the last epoch also where ``check_val_every_n_epoch`` would pass it over."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the last epoch be one that is validated."""
        if trainer.max_epochs is not None and trainer.current_epoch == trainer.max_epochs - 1:
            trainer.check_val_every_n_epoch = 1
