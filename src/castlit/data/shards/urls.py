"""Find shards: expand patterns of local paths and of URLs that webdataset opens."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from webdataset.gopen import gopen_schemes
from webdataset.shardlists import expand_urls

from castlit.data.io.folders import refuse_unfinished
from castlit.utils.validation import InputError


def find_shards(key: str, urls: str | Path | Sequence[str | Path]) -> list[str]:
    """The shards that match patterns, in the order of the patterns.

    Braces expand as in webdataset (``/data/{000..099}.tar``). Local patterns may also contain ``*`` and ``?``, and a
    folder means its ``*.tar``; both are sorted by name.

    Args:
        key: Name of the argument, for messages.
        urls: One or several patterns: local paths, ``http:``, ``pipe:`` and other URLs that webdataset opens.

    Raises:
        InputError: A pattern is invalid or matches nothing, or a shard is listed twice.
        FileNotFoundError: A local shard does not exist.
    """
    given = [urls] if isinstance(urls, (str, Path)) else list(urls or ())
    patterns = [os.fspath(each) if isinstance(each, Path) else each for each in given]
    if not patterns or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        raise InputError(f"{key} must be a pattern such as /data/{{000..099}}.tar, or a list of patterns; got {urls!r}")
    try:
        expanded = [(pattern, url) for pattern in patterns for url in expand_urls(pattern)]
    except ValueError as error:
        raise InputError(f"{key}: {error}") from None
    found = [shard for pattern, url in expanded for shard in _matches(f"{key}={pattern}", url)]
    missing = [path for path in map(local_path, found) if path is not None and not path.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more of the {len(found)} shards)" if len(missing) > 1 else ""
        raise FileNotFoundError(f"{key}: {missing[0]} does not exist{more}")
    for folder in dict.fromkeys(path.parent for path in map(local_path, found) if path is not None):
        refuse_unfinished(folder)
    if len(set(found)) < len(found):
        twice = next(url for url in found if found.count(url) > 1)
        raise InputError(f"{key}: {twice} is listed twice")
    return found


def local_path(url: str) -> Path | None:
    """The local file of a URL; None if it is not local."""
    parts = urlparse(url)
    if parts.scheme == "":
        return Path(url).expanduser()
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _matches(what: str, url: str) -> list[str]:
    path = local_path(url)
    if path is None:
        scheme = urlparse(url).scheme
        if scheme not in gopen_schemes:
            raise InputError(f"{what}: webdataset opens no {scheme}: URLs; pipe: opens the output of any command")
        return [url]
    folder, pattern = (path, "*.tar") if path.is_dir() else (path.parent, path.name)
    if not any(sign in pattern for sign in "*?") or path.is_file():
        return [url]
    # Archives of macOS leave ._0.tar beside 0.tar.
    found = [str(each) for each in sorted(folder.glob(pattern)) if not each.name.startswith(".")]
    if not found:
        raise InputError(f"{what} matches nothing: there is no {pattern} in {folder}")
    return found
