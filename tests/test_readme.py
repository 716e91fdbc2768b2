"""The README says what the program does."""

import re
from pathlib import Path

from workbench.keys import markdown

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_key_tables_are_those_of_the_program() -> None:
    found = re.search(r"<!-- keys: .* -->\n(.*)\n<!-- /keys -->", README, re.DOTALL)
    assert found is not None
    assert found.group(1).strip() == markdown().strip(), "run: python -m workbench.keys"
