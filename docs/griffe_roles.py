"""Docstrings hold Sphinx's roles, which editors understand; on the site they become links."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?([\w.]+)`")


class Roles(griffe.Extension):
    """Turn :class:`a.b.C` into a link to C where the site documents it, and into plain code elsewhere."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:  # noqa: ANN401
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(_link, obj.docstring.value)


def _link(role: re.Match[str]) -> str:
    return f'<autoref optional identifier="{role[1]}"><code>{role[1]}</code></autoref>'
