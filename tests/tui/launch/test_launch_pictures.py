"""The form as text where something is wrong or means harm, in the two sizes it is drawn for."""

from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from tests.tui.fake_run import HOSTILE
from tests.tui.launch.conftest import SINGLE, Engine
from tests.tui.launch.shown import focus, launch_screen, says, until
from tests.tui.viewer import Viewer

pytestmark = pytest.mark.usefixtures("usual_home")
SIZES = pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=["120x40", "80x24"])
Size = tuple[int, int]
ESCAPED = "".join(f"\\U{ord(sign):08x}" for sign in HOSTILE)


@SIZES
async def test_a_hostile_preset(
    home: Path, engine: Engine, size: Size, snapshot: SnapshotAssertion
) -> None:
    text = SINGLE.replace("# Vowels, quickly.", "# [/b] [red] $(x) {y} 漢字 [/INST]")
    text = text.replace("[data]\n", f'[data]\nsystem = "{ESCAPED}"\nsplit = "{ESCAPED}"\n')
    (home / "presets").mkdir()
    (home / "presets" / "[red]evil.toml").write_text(text, encoding="utf-8")
    said = {"what": f"data {HOSTILE}: 9 of 10 rows kept", "facts": [HOSTILE], "example": HOSTILE}
    engine.answers_with("check", {"level": "warn", **said})
    async with launch_screen(home, "[red]evil", size) as (pilot, screen):
        await focus(pilot, screen, "ppo.advantage")
        await pilot.press("v")
        await until(pilot, lambda: "1 warning" in says(screen, "data"))
        await focus(pilot, screen, "data.split")
        viewer = Viewer(screen.app, pilot)
        assert await viewer.picture(snapshot) == snapshot
        assert not set(viewer.text) & {"\x1b", "\x07", "\x9b", "\u202e"}


@SIZES
async def test_refused_data(
    home: Path, engine: Engine, size: Size, snapshot: SnapshotAssertion
) -> None:
    wrong = "data rows.jsonl: line 3: no JSON; put that right or leave the line out"
    engine.answers_with("check", {"level": "error", "what": wrong})
    async with launch_screen(home, "tiny", size) as (pilot, screen):
        await until(pilot, lambda: "free 16.00 GiB" in says(screen, "memory"))
        await focus(pilot, screen, "ppo.advantage")
        await pilot.press("v")
        await until(pilot, lambda: "1 error," in says(screen, "data"))
        assert await Viewer(screen.app, pilot).picture(snapshot) == snapshot


@SIZES
async def test_what_does_not_fit(
    home: Path, size: Size, snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.widgets.form_memory.free_memory", lambda _: 2**29)
    async with launch_screen(home, "tiny", size) as (pilot, screen):
        await until(pilot, lambda: "does not fit" in says(screen, "memory"))
        await pilot.press("ctrl+g")
        viewer = Viewer(screen.app, pilot)
        await viewer.sees("launch anyway")
        assert await viewer.picture(snapshot) == snapshot
