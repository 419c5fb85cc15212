"""The import order of the packages in castlit.data."""

import ast
from pathlib import Path

import pytest

import castlit.data

ALLOWED = {
    "io": set(),
    "index": {"io"},
    "transforms": {"io"},
    "scenes": set(),
    "datamodules": {"io", "index", "transforms", "scenes"},
    "shards": {"io", "index", "transforms", "datamodules"},
}


def imported_packages(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[2] for name in names if name.startswith("castlit.data."))


@pytest.mark.parametrize("package", ALLOWED)
def test_import_order(package):
    folder = Path(castlit.data.__file__).parent
    assert {path.parent.name for path in folder.glob("*/__init__.py")} == set(ALLOWED)
    imported = {name for path in (folder / package).glob("*.py") for name in imported_packages(path)}
    assert imported - {package} <= ALLOWED[package]
