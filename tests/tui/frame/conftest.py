"""Every screen of the app as a person reaches it, on runs that are hostile or busy."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_engine.runs.sample import Sample
from tests.tui.fake_run import HOSTILE, FakeRun, alive, fake_run, figures

# The keys of the app's screens, and those that open a page over each of them.
PLACES: dict[str, tuple[str, ...]] = {
    "1": ("question_mark", "ctrl+o", "ctrl+p", "slash"),
    "2": ("ctrl+o", "ctrl+p", "i", "s"),
    "3": ("question_mark", "ctrl+o", "ctrl+p", "s", "L", "k"),
    "4": ("question_mark", "ctrl+o", "ctrl+p"),
    "5": ("question_mark", "ctrl+o", "ctrl+p", "slash", "a", "d", "f", "x", "x", "y", "o"),
}
MARKS = "\u202e\u2066\u200f\u200b\ufeff\u2028 a\u0301\u0323 ﷽ \x00\x7f\x85\r"
# Text as a preset can carry it: TOML knows no bare control characters outside of its strings.
PRESET = """\
# [/b] [red] $(x) {y} 漢字 [/INST]

name = "hostile"
stage = "ppo"
policy = '[/b] $(x)'

[data]
path = '[red]/{y}.jsonl'
system = "QUOTED"
columns = { prompt = "QUOTED" }

[reward]
score = "rule:QUOTED"
"""
PRESETS = {
    "hostile": PRESET.replace("QUOTED", "".join(f"\\U{ord(sign):08x}" for sign in HOSTILE)),
    "[b][red]\x1b]2;file\u202e": f"# {HOSTILE}",
}
LONG = (HOSTILE + MARKS) * (100_000 // len(HOSTILE + MARKS) + 1)
ODD = (math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 0.0)


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The terminal is the same wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[FakeRun]:
    """A live run whose every text and figure means harm, a failed one, and presets."""
    failed = fake_run(tmp_path, name="failed")
    failed.steps(3)
    failed.store.end_session("failed", LONG)
    failed.store.close()
    fake = fake_run(tmp_path)
    names = list(figures("ppo", 1, fake.noise))
    for turn, odd in enumerate(ODD * 5):
        fake.steps(1, **dict.fromkeys(names[turn % 2 :: 1 + turn % 3], odd))
    for text in (HOSTILE + MARKS, LONG):
        numbers = [math.nan, math.inf, -math.inf, 1.0]
        fake.store.samples(
            fake.step,
            [
                Sample(
                    *("train", text[:50], text, text, False),
                    **dict.fromkeys(("score", "gold", "kl", "net_reward"), odd),  # type: ignore[arg-type]
                    pieces=[text[:9], text[9:20], "\x1b[2J", "\u202e"],
                    tokens=[1, 2, 3, 4],
                    **dict.fromkeys(("logp", "ref_logp", "value", "advantage"), numbers),  # type: ignore[arg-type]
                )
                for odd in ODD[:4]
            ],
        )
        fake.store.event(fake.step, "error", text[:40], text)
        fake.store.progress("running", text, 3, math.inf, text)
    fake.turn("kl_coef", 0.2)
    fake.steps(2)
    fake.run.log.write_text(LONG + "\n" + HOSTILE)
    (tmp_path / "keys.toml").write_text(f'"{HOSTILE.encode("unicode_escape").decode()}" = 3')
    (tmp_path / "presets").mkdir()
    for name, content in PRESETS.items():
        (tmp_path / "presets" / f"{name}.toml").write_text(content, encoding="utf-8")
    with alive(fake.run):
        yield fake
    fake.store.close()
