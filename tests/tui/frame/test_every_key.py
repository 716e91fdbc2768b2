"""No key of the tables goes without a test that presses it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.keys import Key, tables

TESTS = Path(__file__).parent.parent
# The folders whose tests press a table's keys.
FOLDERS = {
    "Everywhere": ("frame", "app", "samples", "compare"),
    "Runs": ("app",),
    "New run": ("launch",),
    "Form": ("launch",),
    "Editing a list or table": ("launch",),
    "Saving a preset": ("launch",),
    "Lists": ("app", "monitor"),
    "Monitor": ("monitor",),
    "Knobs": ("monitor",),
    "Table of figures": ("monitor",),
    "Roll back": ("monitor",),
    "Fork": ("monitor",),
    "Samples": ("samples",),
    "Compare": ("compare",),
    "Choosing": ("compare",),
    "Row of a pipeline": ("launch",),
    "Pages of text": ("monitor",),
    "Questions": ("app", "frame", "monitor"),
}
# Pressed in a real terminal, by tests/cli/test_cli_terminal.py: nothing else can be suspended.
IN_A_TERMINAL = ("app.suspend",)


def pressed(folder: str) -> Iterator[str]:
    """What the tests of a folder press: the words of `press(...)`, and of lists that are looped
    over to be pressed."""
    for path in (TESTS / folder).glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            presses = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "press"
            if presses or isinstance(node, ast.Tuple | ast.List):
                for part in ast.walk(node):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value


@pytest.mark.parametrize("table", tables())
def test_every_key_has_a_test(table: str) -> None:
    keys: list[Key] = [key for key in tables()[table] if key.id not in IN_A_TERMINAL]
    found = {word for folder in FOLDERS[table] for word in pressed(folder)}
    names = [(key.id, name) for key in keys for name in key.keys.split(",")]
    assert [(key, name) for key, name in names if name not in found] == []
