"""Keys that walk the form of a new run, and the letters that stand for its commands."""

from pathlib import Path

from textual.widgets import OptionList

from tests.tui.launch.shown import focus, launch_screen, says
from workbench.screens.launch import LaunchScreen
from workbench.screens.name_preset import NamePreset
from workbench.widgets.form import FormView
from workbench.widgets.form_parts import StageRow
from workbench.widgets.text_page import TextPage


def place(screen: LaunchScreen) -> int:
    """The number of the field that has the focus."""
    form = screen.query_one(FormView)
    assert form.current is not None
    return form.rows.index(form.current)


async def test_tab_goes_round_the_panes_and_shift_tab_back(home: Path) -> None:
    async with launch_screen(home, "both") as (pilot, screen):
        assert screen.query_one(FormView).has_focus_within
        await pilot.press("shift+tab")
        assert screen.query_one(StageRow).has_focus
        await pilot.press("shift+tab")
        assert screen.query_one("#presets", OptionList).has_focus
        await pilot.press("shift+tab")
        assert screen.query_one("#launch").has_focus
        await pilot.press("tab", "tab", "tab")
        assert screen.query_one(FormView).has_focus_within


async def test_pages_are_ten_fields_and_end_at_the_ends(home: Path) -> None:
    async with launch_screen(home) as (pilot, screen):
        last = len(screen.query_one(FormView).rows) - 1
        await pilot.press("pagedown")
        assert place(screen) == 10
        await pilot.press("pagedown", "pageup", "up", "down")
        assert place(screen) == 10
        await pilot.press("pageup", "pageup")
        assert place(screen) == 0
        await pilot.press(*["pagedown"] * (last // 10 + 2))
        assert place(screen) == last


async def test_stages_go_round_both_ways(home: Path) -> None:
    async with launch_screen(home, "both") as (pilot, screen):
        for key, stage in (("ctrl+pageup", 1), ("ctrl+pagedown", 0), ("ctrl+pagedown", 1)):
            await pilot.press(key)
            await pilot.pause()
            assert screen.stage == stage
        await pilot.press("shift+tab")
        for key, stage in (("]", 0), ("[", 1)):
            await pilot.press(key)
            await pilot.pause()
            assert screen.stage == stage


async def test_letters_are_commands_outside_texts_and_have_keys_for_inside(home: Path) -> None:
    async with launch_screen(home) as (pilot, screen):
        screen.query_one("#presets").focus()
        await pilot.press("i")
        await pilot.pause()
        assert isinstance(pilot.app.screen, TextPage)
        await pilot.press("escape", "y")
        command = says(screen, "command")
        assert pilot.app.clipboard == command
        await focus(pilot, screen, "data.split")
        await pilot.press("i", "y")
        assert says(screen, "command") == f"{command} --set data.split=iy"
        await pilot.press("ctrl+y")
        assert pilot.app.clipboard == f"{command} --set data.split=iy"
        await pilot.press("ctrl+z")
        screen.query_one("#presets").focus()
        await pilot.press("s")
        await pilot.pause()
        assert isinstance(pilot.app.screen, NamePreset)
