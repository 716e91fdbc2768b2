"""A person in front of a screen: presses keys, waits for words, compares pictures."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from syrupy.assertion import SnapshotAssertion
from textual.pilot import Pilot

from tests.tui.screen_text import screen_text
from workbench.app import WorkbenchApp

PATIENCE = 60.0


@dataclass
class Viewer:
    app: WorkbenchApp
    pilot: Pilot[None]

    @property
    def text(self) -> str:
        return screen_text(self.app)

    @property
    def told(self) -> str:
        """What the app's notifications say."""
        return "\n".join(notification.message for notification in self.app._notifications)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for something to become true; the screen's text says what was there instead."""
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, f"it never came:\n{self.text}"
            await self.pilot.pause()
            await asyncio.sleep(0.01)

    async def sees(self, *words: str) -> None:
        await self.until(lambda: all(word in self.text for word in words))

    async def is_told(self, words: str) -> None:
        """Wait for a notification."""
        await self.until(lambda: words in self.told)

    async def settled(self) -> str:
        """The screen's text once it has stopped changing."""
        before = ""
        while (now := self.text) != before:
            before = now
            await self.pilot.pause(0.2)
        return now

    async def picture(
        self,
        snapshot: SnapshotAssertion,
        look: Callable[[], str] | None = None,
        name: str | None = None,
    ) -> str:
        """What the screen looks like once it looks like its snapshot, or never will.

        A slow machine may stop changing for a while before all of a screen is there.
        """
        look = look or (lambda: self.text)
        index = name or snapshot.index
        end = time.monotonic() + (0 if snapshot.update_snapshots else PATIENCE)
        while True:
            await self.settled()
            if is_like(snapshot, index, now := look()) or time.monotonic() > end:
                return now


def is_like(snapshot: SnapshotAssertion, index: str | int, text: str) -> bool:
    """Whether a text equals the snapshot, without a verdict; syrupy has no public way to ask."""
    stored, _ = snapshot._recall_data(index=index)
    return stored is not None and snapshot.extension.matches(
        serialized_data=snapshot._serialize(text), snapshot_data=stored
    )


async def settle(pilot: Pilot[Any]) -> None:
    """Let threads finish, their messages arrive, and the screen be painted."""
    for _ in range(2):
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
    await pilot.pause()
