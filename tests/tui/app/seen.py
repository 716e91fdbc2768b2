"""What stands on the screen of an app, as text."""

from typing import Any

from textual.app import App
from textual.pilot import Pilot


def seen(app: App[Any]) -> str:
    """The screen's lines without the blanks at their ends."""
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


async def settle(pilot: Pilot[Any]) -> None:
    """Let threads finish, their messages arrive, and the screen be painted."""
    for _ in range(2):
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
    await pilot.pause()
