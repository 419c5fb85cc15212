"""Print the lowest version of every dependency that pyproject.toml allows, as pip requirements.

pip install -r <(python .github/minimum_versions.py dev) installs them; the fast tests then show that every floor holds.
"""

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pip install tomli

FLOOR = re.compile(r"([\w.\[\]-]+?)\s*(?:>=|==)\s*([\w.]+)")


def minimum(*extras: str) -> list[str]:
    """Requirements of the package and of some of its extras, each pinned to its floor.

    Args:
        *extras: Names under ``[project.optional-dependencies]``.
    """
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    pinned, names = [], list(extras)
    lines = list(project["dependencies"])
    for extra in names:
        for line in project["optional-dependencies"][extra]:
            own = re.fullmatch(r"castlit\[(.+)\]", line)
            if own:
                names += [name.strip() for name in own[1].split(",")]
            else:
                lines.append(line)
    for line in lines:
        floor = FLOOR.match(line)
        if floor is None:
            raise ValueError(f"pyproject.toml: {line!r} has no floor")
        marker = line.partition(";")[2].strip()
        pinned.append(f"{floor[1]}=={floor[2]}" + (f"; {marker}" if marker else ""))
    return pinned


if __name__ == "__main__":
    print("\n".join(minimum(*sys.argv[1:])))
