"""The keys of a screen in its last line."""

from typing import Any

from textual.screen import Screen
from textual.widgets import Footer


class KeyLine(Footer):
    """Textual's footer, whose widgets are made anew only where it would say something else.

    Each move of the focus tells it that keys may have changed, and making them anew takes longer
    than all else that such a key does.
    """

    DEFAULT_CSS = "KeyLine { background: $panel; }"

    def __init__(self) -> None:
        super().__init__()
        self._due = False
        self._said: object = None

    def bindings_changed(self, screen: Screen[Any]) -> None:
        self._bindings_ready = True
        if screen.app.app_focus and self.is_attached and screen is self.screen and not self._due:
            self._due = True
            self.call_after_refresh(self._say)

    async def _say(self) -> None:
        self._due = False
        if not self.is_attached:
            return
        says = (
            self.show_command_palette,
            [
                (bound.binding, bound.enabled, bound.tooltip)
                for bound in self.screen.active_bindings.values()
                if bound.binding.show
            ],
        )
        if says != self._said:
            self._said = says
            await self.recompose()

    def watch_show_command_palette(self) -> None:
        if self._bindings_ready:
            self.bindings_changed(self.screen)
