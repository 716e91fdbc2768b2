"""The launch screen in a test: opened, typed into, and read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Static

from rlhf_engine.runs.directory import RunDir
from workbench.app import WorkbenchApp
from workbench.screens.launch import LaunchScreen
from workbench.widgets.form import FieldRow, FormView

ApPilot = Pilot[None]


class App(WorkbenchApp):
    """The application with its monitor noted down instead of opened."""

    opened: RunDir | None = None

    def open_monitor(self, run: RunDir) -> None:
        self.opened = run


@asynccontextmanager
async def launch_screen(
    home: Path, preset: str | None = "tiny", size: tuple[int, int] = (120, 40)
) -> AsyncIterator[tuple[ApPilot, LaunchScreen]]:
    app = App(home)
    async with app.run_test(size=size) as pilot:
        app.open_form(preset)
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, LaunchScreen)
        await until(pilot, lambda: screen.form is not None or preset == "both")
        yield pilot, screen


async def focus(pilot: ApPilot, screen: LaunchScreen, key: str) -> FieldRow:
    row = screen.query_one(FormView).row(key)
    row.editor.focus()
    await pilot.pause()
    return row


async def type_over(pilot: ApPilot, screen: LaunchScreen, key: str, text: str) -> FieldRow:
    """Replace a field's text: an editor selects all of it when it gets the focus."""
    row = await focus(pilot, screen, key)
    await pilot.press(*text)
    await pilot.pause()
    return row


def says(screen: LaunchScreen, name: str) -> str:
    return str(screen.query_one(f"#{name}", Static).content)


async def until(pilot: ApPilot, holds: Callable[[], bool]) -> None:
    """Wait for what another process brings."""
    for _ in range(600):
        if holds():
            await pilot.pause()
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never came about")


async def estimated(pilot: ApPilot, screen: LaunchScreen) -> None:
    await until(pilot, lambda: "free 16.00 GiB" in says(screen, "memory"))
