"""Configurations of castlit.train, composed in this process."""

from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from castlit.cli.config_dir import CONFIG_MODULE


def composed(folder, *overrides):
    """The config of a run in a folder, as castlit.train gets it."""
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        words = [f"hydra.runtime.output_dir={folder}", *overrides]
        config = compose("train", overrides=words, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return config
