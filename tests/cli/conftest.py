import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from workbench.cli import main

from .fakes import Records, Workbench


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("WORKBENCH_HOME", str(path))
    monkeypatch.setenv("COLUMNS", "80")
    return path


@pytest.fixture
def workbench(home: Path) -> Workbench:
    """Run one command line against the test's home."""

    def invoke(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def records(workbench: Workbench) -> Records:
    """Run a read verb with --json and parse its lines, refusing what strict JSON refuses."""

    def invoke(*arguments: str | Path) -> list[dict[str, Any]]:
        result = workbench(*arguments, "--json")
        assert result.exit_code == 0, result.stderr

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is not JSON")

        return [json.loads(line, parse_constant=refuse) for line in result.stdout.splitlines()]

    return invoke
