"""What stands around the screens: help, jump mode, palette, themes, settings, one table of keys."""

import importlib
import pkgutil
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from textual.binding import Binding
from textual.color import Color
from textual.content import Content
from textual.dom import DOMNode
from textual.pilot import Pilot
from textual.theme import Theme
from textual.widgets import Input

import workbench
from rlhf_engine.runs.directory import find_run
from tests.tui.fake_run import FakeRun, fake_run
from tests.tui.screen_text import screen_text
from tests.tui.viewer import Viewer
from workbench.app import WorkbenchApp
from workbench.keys import tables
from workbench.screens.help import HelpScreen
from workbench.screens.home import HomeScreen
from workbench.screens.home_filter import FilterLine
from workbench.screens.home_table import RunsTable
from workbench.screens.jump import JumpScreen, labels
from workbench.screens.monitor import MonitorScreen
from workbench.themes import DARK, LIGHT, PLAIN, SIXTEEN, theme_for

SIZES = [(120, 40), (80, 24)]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    """One finished run; ages and GPUs stay out of the pictures."""
    monkeypatch.setattr("workbench.screens.home_table.age", lambda seconds: "1m")
    monkeypatch.setattr("workbench.screens.home.gpu_line", lambda: "")
    run = fake_run(tmp_path, total=50)
    run.steps(50)
    run.samples("Why?", "Because.")
    run.store.end_session("done")
    run.store.close()
    (run.run.path.rename(run.run.path.with_name("20260301-110000-demo")))
    return run


async def shows(pilot: Pilot[None], words: str) -> str:
    """The screen's text once it holds these words and has stopped changing."""
    before = ""
    for _ in range(200):
        await pilot.pause(0.05)
        now = screen_text(pilot.app)
        if words in now and now == before:
            return now
        before = now
    raise AssertionError(f"{words!r} never came:\n{before}")


def painted(app: WorkbenchApp) -> set[str]:
    """Every colour that goes out to the terminal now."""
    found = set()
    for strip in app.screen._compositor.render_strips():
        for segment in strip.apply_filter(app._no_colour, app.screen.background_colors[1]):
            if app._no_colour.enabled and segment.style:
                found |= {str(segment.style.color), str(segment.style.bgcolor)}
    return found


# Jump mode


@pytest.mark.parametrize("size", SIZES)
async def test_jump_mode_puts_a_letter_on_each_pane(
    fake: FakeRun, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    app = WorkbenchApp(fake.run.home)
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "demo")
        await pilot.press("slash", "d")
        assert isinstance(app.focused, Input)
        await pilot.press("ctrl+o")
        await shows(pilot, "jump: type the letters")
        assert await Viewer(app, pilot).picture(snapshot) == snapshot
        await pilot.press("a")
        assert isinstance(app.screen, HomeScreen)
        assert isinstance(app.focused, RunsTable)
        await pilot.press("ctrl+o", "s")
        assert app.focused is app.screen.query_one(FilterLine).query_one(Input)


@pytest.mark.parametrize("key", ["escape", "ctrl+o"])
async def test_jump_mode_is_left_without_going_anywhere(fake: FakeRun, key: str) -> None:
    app = WorkbenchApp(fake.run.home)
    async with app.run_test() as pilot:
        await shows(pilot, "demo")
        focused = app.focused
        await pilot.press("ctrl+o")
        assert isinstance(app.screen, JumpScreen)
        await pilot.press("7", key)
        assert isinstance(app.screen, HomeScreen)
        assert app.focused is focused


async def test_jump_mode_ends_when_the_terminal_changes(fake: FakeRun) -> None:
    app = WorkbenchApp(fake.run.home)
    async with app.run_test(size=(120, 40)) as pilot:
        await shows(pilot, "demo")
        await pilot.press("ctrl+o")
        await pilot.resize_terminal(90, 30)
        await shows(pilot, "? Help")
        assert isinstance(app.screen, HomeScreen)


async def test_jump_mode_reaches_every_field_of_the_form(tmp_path: Path) -> None:
    app = WorkbenchApp(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2")
        await shows(pilot, "presets")
        reached = set()
        await pilot.press("ctrl+o")
        assert isinstance(app.screen, JumpScreen)
        marks = list(app.screen._targets)
        assert len(marks) > 8
        await pilot.press("escape")
        for mark in (marks[0], marks[3], marks[-1]):
            await pilot.press("ctrl+o")
            assert isinstance(app.screen, JumpScreen)
            wanted, _ = app.screen._targets[mark]
            await pilot.press(*mark)
            await pilot.pause()
            assert app.focused is wanted
            reached.add(wanted)
        assert len(reached) == 3


def test_no_label_begins_another() -> None:
    for count in (1, 26, 27, 300):
        found = list(labels(count))
        assert len(set(found)) == count
        assert not [a for a in found for b in found if a != b and b.startswith(a)]


# Help and palette


@pytest.mark.parametrize("size", SIZES)
async def test_help_begins_with_the_focused_pane(
    fake: FakeRun, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    app = WorkbenchApp(fake.run.home)
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "demo")
        await pilot.press("question_mark")
        await shows(pilot, "Focused pane: runs")
        assert await Viewer(app, pilot).picture(snapshot) == snapshot
        for key in ("escape", "q", "question_mark"):
            assert isinstance(app.screen, HelpScreen)
            await pilot.press(key)
            assert isinstance(app.screen, HomeScreen)
            await pilot.press("question_mark")


async def test_the_palette_has_keys_that_a_line_of_text_takes(fake: FakeRun) -> None:
    app = WorkbenchApp(fake.run.home)
    async with app.run_test(size=(120, 40)) as pilot:
        await shows(pilot, "demo")
        await pilot.press("slash")
        assert isinstance(app.focused, Input)
        await pilot.press("ctrl+p", *"help")
        await shows(pilot, "Keys of the focused pane")
        await pilot.press("enter")
        await shows(pilot, "Everywhere")
        assert isinstance(app.screen, HelpScreen)


async def test_ctrl_q_leaves_from_the_monitor(
    fake: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    app = WorkbenchApp(fake.run.home, open_run="demo")
    async with app.run_test() as pilot:
        await shows(pilot, "demo")
        assert isinstance(app.screen, MonitorScreen)
        await pilot.press("ctrl+q")
    assert not app.is_running


async def test_a_click_in_the_footer_is_its_key(fake: FakeRun) -> None:
    app = WorkbenchApp(fake.run.home)
    async with app.run_test(size=(120, 40)) as pilot:
        shown = await shows(pilot, "? Help")
        line = shown.splitlines()[-1]
        await pilot.click(offset=(line.index("Help"), 39))
        assert isinstance(app.screen, HelpScreen)


async def test_a_click_chooses_a_run_and_a_second_opens_it(fake: FakeRun) -> None:
    other = fake_run(fake.run.home, name="other")
    other.store.close()
    app = WorkbenchApp(fake.run.home)
    async with app.run_test(size=(120, 40)) as pilot:
        shown = await shows(pilot, "other")
        row = next(y for y, line in enumerate(shown.splitlines()) if "demo" in line)
        await pilot.click(offset=(30, row))
        current = app.screen.query_one(RunsTable).current
        assert current is not None
        assert current.name == "demo"
        await pilot.click(offset=(30, row))
        await pilot.pause(0.1)
        assert isinstance(app.screen, MonitorScreen)


def test_every_binding_stands_in_a_table_of_keys() -> None:
    known = {key.id for keys in tables().values() for key in keys}
    missing = []
    for found in pkgutil.walk_packages(workbench.__path__, "workbench."):
        module = importlib.import_module(found.name) if found.name != "workbench.web" else None
        for node in vars(module).values() if module else ():
            if not (isinstance(node, type) and issubclass(node, DOMNode)):
                continue
            if not node.__module__.startswith("workbench."):
                continue
            for binding in node.__dict__.get("BINDINGS", ()):
                # Those that a widget of Textual has anyway are repeated, not ours.
                if binding in getattr(node.__base__, "BINDINGS", ()):
                    continue
                assert isinstance(binding, Binding)
                if binding.id not in known:
                    missing.append(f"{node.__name__}: {binding.key}")
    assert not missing, "give each a Key in a table, and register that in workbench.keys.tables"


def test_no_id_is_used_twice() -> None:
    ids = [key.id for keys in tables().values() for key in keys]
    assert len(ids) == len(set(ids))


# Themes and settings


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", [LIGHT, PLAIN, SIXTEEN], ids=lambda theme: str(theme.name))
async def test_every_theme_says_states_in_words(
    fake: FakeRun, theme: object, size: tuple[int, int], snapshot: SnapshotAssertion
) -> None:
    app = WorkbenchApp(fake.run.home)
    async with app.run_test(size=size) as pilot:
        await shows(pilot, "demo")
        app.theme = theme.name  # type: ignore[attr-defined]
        await shows(pilot, "✓ done")
        assert await Viewer(app, pilot).picture(snapshot) == snapshot
        await pilot.press("enter")
        await shows(pilot, "KL")
        await pilot.press("1", "2")
        await shows(pilot, "Launch")


async def test_a_theme_is_chosen_in_the_palette_and_remembered(fake: FakeRun) -> None:
    home = fake.run.home
    (home / "settings.toml").write_text("# mine\n")
    app = WorkbenchApp(home)
    async with app.run_test(size=(120, 40)) as pilot:
        await shows(pilot, "demo")
        assert app.theme == DARK.name
        await pilot.press("ctrl+p", *"theme: light")
        await shows(pilot, "Theme: Light")
        await pilot.press("enter")
        for _ in range(50):
            await pilot.pause(0.05)
            if app.theme == LIGHT.name:
                break
        assert app.theme == LIGHT.name
    assert (home / "settings.toml").read_text() == '# mine\ntheme = "workbench-light"\n'
    assert [path.name for path in home.glob("settings*")] == ["settings.toml"]
    assert WorkbenchApp(home).theme == LIGHT.name


async def test_broken_settings_are_named_and_kept(fake: FakeRun) -> None:
    path = fake.run.home / "settings.toml"
    path.write_text('theme = "work')
    app = WorkbenchApp(fake.run.home)
    async with app.run_test() as pilot:
        await shows(pilot, "demo")
        told = [notification.message for notification in app._notifications]
        assert "settings.toml: cannot be read" in told[0]
        assert "delete it" in told[0]
        app.choose_theme(LIGHT)
        assert app.theme == LIGHT.name
        await pilot.pause(0.1)
        assert "holds until you leave" in "".join(n.message for n in app._notifications)
    assert path.read_text() == 'theme = "work'


async def test_unknown_settings_are_named(fake: FakeRun) -> None:
    path = fake.run.home / "settings.toml"
    path.write_text('theme = "workbench-lihgt"\ncolour = 3\n')
    app = WorkbenchApp(fake.run.home)
    async with app.run_test() as pilot:
        await shows(pilot, "demo")
        told = "\n".join(notification.message for notification in app._notifications)
        assert "did you mean 'workbench-light'?" in told
        assert "'colour' is no setting" in told
        assert app.theme == DARK.name


async def test_no_color_shows_no_colour(fake: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = WorkbenchApp(fake.run.home, open_run="demo")
    async with app.run_test(size=(120, 40)) as pilot:
        await shows(pilot, "entropy")
        assert app.theme == PLAIN.name
        colours = painted(app)
        assert colours
        assert not {colour for colour in colours if "default" not in colour and colour != "None"}


@pytest.mark.parametrize(
    ("environ", "colours", "chosen", "expected"),
    [
        ({}, "truecolor", "", DARK),
        ({}, "256", "", DARK),
        ({}, "standard", "", SIXTEEN),
        ({}, "standard", LIGHT.name, LIGHT),
        ({"NO_COLOR": "1"}, "truecolor", LIGHT.name, PLAIN),
        ({"NO_COLOR": ""}, "truecolor", "", DARK),
        ({}, None, LIGHT.name, PLAIN),
        ({}, "truecolor", "gone", DARK),
    ],
)
def test_the_first_theme_suits_the_terminal(
    environ: dict[str, str], colours: str | None, chosen: str, expected: object
) -> None:
    assert theme_for(environ, colours, chosen) is expected


@pytest.mark.parametrize("key", ["3", "4", "5", "2"])
@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: str(theme.name))
async def test_titles_of_panes_can_be_read(fake: FakeRun, theme: Theme, key: str) -> None:
    """Contrast of at least 3 to 1, as WCAG 2.2 asks of large text and parts of an interface."""
    app = WorkbenchApp(fake.run.home, open_run="demo")
    app.board.add(find_run(fake.run.home, "demo"))
    async with app.run_test(size=(120, 40)) as pilot:
        app.theme = theme.name
        await shows(pilot, "✓ done")
        await pilot.press(key)
        await pilot.pause(0.5)
        titled = 0
        for widget in app.screen.query("*"):
            ground = widget.background_colors[0]
            for title, (color, _, _) in (
                (widget._border_title, widget._get_title_style_information(ground)),
                (widget._border_subtitle, widget._get_subtitle_style_information(ground)),
            ):
                # The words of a legend have colours of their own.
                if title and has_plain_words(title):
                    titled += 1
                    drawn = ground + (color if color.a else widget.styles.border_top[1])
                    assert contrast(ground, drawn) >= 3, (widget, title)
        assert titled


def has_plain_words(title: Content) -> bool:
    styled = {at for span in title.spans for at in range(span.start, span.end)}
    return any(not sign.isspace() and at not in styled for at, sign in enumerate(title.plain))


def contrast(one: Color, other: Color) -> float:
    """The ratio of two colours' relative luminance (WCAG 2.2)."""

    def luminance(color: Color) -> float:
        parts = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color.normalized
        ]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


async def test_a_screen_opened_out_of_use_has_its_focus_once_the_terminal_is_in_use(
    fake: FakeRun, tmp_path: Path
) -> None:
    """A browser's page and a pane of tmux tell that they are not in use before the first key."""
    app = WorkbenchApp(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        app.app_focus = False
        await app.push_screen(HomeScreen(tmp_path))
        await shows(pilot, "demo")
        assert app.focused is None
        app.app_focus = True
        await pilot.press("enter")
        await shows(pilot, "KL to ref")
        assert isinstance(app.screen, MonitorScreen)
