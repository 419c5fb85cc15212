"""Folders on the command line of ``castlit.compare``, as Hydra understands them."""

from pathlib import Path

from castlit.cli.flags import WITH_VALUE
from castlit.cli.overrides import quoted
from castlit.utils.validation import InputError


def folders_as_runs(arguments: list[str]) -> list[str]:
    """Turn the arguments that are folders into ``runs=[...]``.

    Args:
        arguments: The words of the command line.

    Raises:
        InputError: ``runs=`` is given as well.
    """
    folders: list[str] = []
    others: list[str] = []
    for before, word in zip(["", *arguments], arguments, strict=False):
        # A sweep's job may have a folder that looks like an override: attention.weight=1.
        bare = "=" not in word and not word.startswith(("-", "+")) and (not word.startswith("~") or "/" in word)
        is_folder = before not in WITH_VALUE and (bare or (not word.startswith("-") and Path(word).is_dir()))
        (folders if is_folder else others).append(word)
    if not folders:
        return arguments
    if any(word.startswith("runs=") for word in others):
        raise InputError(f"runs= and {folders[0]}: give the folders in one way")
    listed = ",".join(quoted(folder) for folder in folders)
    return [*others, f"runs=[{listed}]"]
