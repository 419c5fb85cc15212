"""Whether a command would compose: before it is run many times."""

from collections.abc import Sequence

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from castlit.cli.config_dir import CONFIG_MODULE, composable, split_config_dir
from castlit.cli.errors import explain_error
from castlit.cli.overrides import for_hydra, refuse_mistakes
from castlit.cli.suggestions import suggest_override
from castlit.utils.validation import InputError


def why_refused(config_name: str, overrides: Sequence[str]) -> str | None:
    """Return the line in which a program would refuse its overrides before it starts; None if they compose.

    It works inside a program, too, whose own configuration stays.

    Args:
        config_name: The program's primary config in ``castlit.conf``.
        overrides: The words of its command line.
    """
    own, rest = split_config_dir(list(overrides))
    if any(word.startswith("-") for word in rest):
        return None  # an option of Hydra's, which its compose() does not take
    running = GlobalHydra.instance().hydra
    try:
        refuse_mistakes(rest, any_group=own is not None)
        words = composable(for_hydra(overrides))
        GlobalHydra.instance().clear()
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            compose(config_name, words)
    except InputError as error:
        return str(error)
    except (HydraException, OmegaConfBaseException) as error:
        refusal = f"{error} {error.__cause__ or ''}"
        return suggest_override(config_name, words, refusal) or explain_error(error)
    finally:
        GlobalHydra.instance().hydra = running
    return None
