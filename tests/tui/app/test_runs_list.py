"""Reading the runs of a home, and the words of a filter."""

import os
from pathlib import Path

import pytest

from tests.tui.app.conftest import ended
from workbench.runs_filter import FilterError, parse_filter
from workbench.runs_list import RunsList
from workbench.screens.home_table import age, figure


def kept(home: Path, text: str) -> list[str]:
    return [row.name for row in parse_filter(text)(RunsList(home).read())]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("state:lost", ["killed"]),
        ("-kind:ppo", ["demo-sft"]),
        ("demo", ["demo-sft", "demo-ppo"]),
        ("DEMO -ppo", ["demo-sft"]),
        ("kl>3", []),
        ("kl>=3 score<1 name:old", ["old-run"]),
        ("step=3 state:failed", ["no-memory"]),
    ],
)
def test_filter_keeps(several: Path, text: str, names: list[str]) -> None:
    assert kept(several, text) == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kl>much", "needs a number"),
        ("colour:red", "colour: is not known; known: kind:"),
        ("speed<3", "known: kl, score, step"),
    ],
)
def test_filter_that_cannot_be(text: str, said: str) -> None:
    with pytest.raises(FilterError, match=said):
        parse_filter(text)


def test_ended_run_is_read_again_only_when_its_store_changes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended(home, "20260301-110000", "fine")
    runs = RunsList(home)
    (first,) = runs.read()
    monkeypatch.setattr("workbench.runs_list.run_state", lambda _: pytest.fail("was read"))
    assert runs.read() == [first]
    monkeypatch.undo()
    os.utime(run.store, (1, 1))
    assert runs.read() == [first]
    assert runs.read()[0] is not first


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0s"), (59, "59s"), (61, "1m"), (7300, "2h"), (900_000, "10d")]
)
def test_age_in_one_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (-3e-8, "+0.00"), (float("nan"), "nan"), (123.4, "+123"), (2e6, "2e+06")],
)
def test_figures_fit_their_column(value: float | None, text: str) -> None:
    assert figure(value, signed=True) == text
