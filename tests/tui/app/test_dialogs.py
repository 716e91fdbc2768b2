"""What works everywhere works in front of a question and a page too."""

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.screen import ModalScreen

from tests.tui.screen_text import screen_text
from tests.tui.viewer import settle
from workbench.app import WorkbenchApp
from workbench.screens.confirm import ConfirmScreen
from workbench.screens.help import HelpScreen
from workbench.screens.jump import JumpScreen
from workbench.screens.name_preset import NamePreset
from workbench.screens.pick import Choice, PickScreen
from workbench.widgets.numbers import NumbersPage
from workbench.widgets.text_page import TextPage

Opens = Callable[[WorkbenchApp], ModalScreen[object]]
WITHOUT_TEXT: dict[str, Opens] = {
    "question": lambda app: ConfirmScreen("Stop it?"),
    "text": lambda app: TextPage("log", lambda: "line"),
    "numbers": lambda app: NumbersPage("numbers", [], [], None),
}
WITH_TEXT: dict[str, Opens] = {
    "typed": lambda app: ConfirmScreen("Delete it?", typed="held"),
    "pick": lambda app: PickScreen("Pick", lambda: [Choice("a", "a")], "none"),
    "name": lambda app: NamePreset(app.home, "mine"),
}
OTHERS: dict[str, Opens] = {
    "help": lambda app: HelpScreen(app.screen),
    "jump": lambda app: JumpScreen(app.screen),
}


@pytest.mark.parametrize("name", [*WITHOUT_TEXT, *WITH_TEXT, *OTHERS])
async def test_leaving_and_suspending_work_in_front_of_anything(
    several: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspended: list[bool] = []
    monkeypatch.setattr(WorkbenchApp, "action_suspend_process", lambda self: suspended.append(True))
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        app.push_screen((WITHOUT_TEXT | WITH_TEXT | OTHERS)[name](app))
        await settle(pilot)
        await pilot.press("ctrl+z")
        assert suspended == [True]
        await pilot.press("ctrl+q")
        await pilot.pause()
        assert app._exit


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, "question_mark") for name in WITHOUT_TEXT]
    + [(name, "ctrl+underscore") for name in WITH_TEXT]
    # The same keys under the kitty protocol.
    + [(name, "ctrl+slash") for name in list(WITH_TEXT)[:1]],
)
async def test_help_opens_in_front_of_a_dialog(several: Path, name: str, key: str) -> None:
    app = WorkbenchApp(several)
    async with app.run_test(size=(120, 60)) as pilot:
        await settle(pilot)
        dialog = (WITHOUT_TEXT | WITH_TEXT)[name](app)
        app.push_screen(dialog)
        await settle(pilot)
        await pilot.press(key)
        assert isinstance(app.screen, HelpScreen)
        shown = screen_text(app)
        assert "ctrl+q" in shown or "^q" in shown
        assert "Keys of the focused pane" in shown
        await pilot.press("escape")
        assert app.screen is dialog
