"""Lists and tables in the form: TOML or JSON over several lines, judged by the spec."""

from pathlib import Path

import pytest
from textual.widgets import TextArea

from tests.tui.launch.shown import focus, launch_screen, says, type_over
from tests.tui.launch.test_form_model import field
from tests.tui.screen_text import screen_text
from workbench.form_model import Form
from workbench.screens.edit_value import EditValue

TOML = '[{step = 3, knob = "kl_coef", value = 0.1}]'


@pytest.mark.parametrize(
    "text",
    [
        TOML,
        '[\n  {step = 3, knob = "kl_coef", value = 0.1},\n]',
        '[{"step": 3, "knob": "kl_coef", "value": 0.1}]',
    ],
)
def test_a_list_of_tables_is_read_as_toml_and_json(home: Path, text: str) -> None:
    form = Form.open("tiny", home)
    form.type(0, field(form, "changes"), text)
    preset = form.check().preset
    assert preset is not None
    assert [change.value for change in preset.stages[0].changes] == [0.1]
    assert f"--set 'changes={TOML}'" in form.command()


def test_a_table_is_read_from_lines_and_shown_as_such(home: Path) -> None:
    form = Form.open("tiny", home)
    columns = field(form, "data.columns")
    form.type(0, columns, 'prompt = "the question"\nchosen = "good"')
    preset = form.check().preset
    assert preset is not None
    assert preset.stages[0].data.columns == {"prompt": "the question", "chosen": "good"}
    assert columns.lines('{prompt = "q"}') == 'prompt = "q"'


def test_bad_writing_and_bad_meaning_stand_at_the_field(home: Path) -> None:
    form = Form.open("tiny", home)
    changes = field(form, "changes")
    form.type(0, changes, "[{step = 3")
    assert "neither TOML nor JSON" in form.check().problems[0, "changes"]
    wrong = TOML.replace("0.1", "99.0")
    assert "0 <= kl_coef <= 10" in str(form.problem_with(0, changes, wrong))
    assert form.problem_with(0, changes, TOML) is None
    assert "greater" in str(form.problem_with(0, changes, TOML.replace("3", "0")))


async def test_enter_opens_an_editor_that_judges_while_one_types(home: Path) -> None:
    async with launch_screen(home) as (pilot, screen):
        await focus(pilot, screen, "changes")
        await pilot.press("enter")
        await pilot.pause()
        editor = pilot.app.screen
        assert isinstance(editor, EditValue)
        area = editor.query_one(TextArea)
        area.text = "[{step = 3"
        await pilot.pause()
        assert "neither TOML nor JSON" in screen_text(pilot.app)
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert pilot.app.screen is editor
        area.text = TOML.replace("kl_coef", "nothing")
        await pilot.pause()
        assert "'nothing' is no knob" in screen_text(pilot.app)
        area.text = TOML
        await pilot.pause()
        assert "valid" in screen_text(pilot.app)
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert pilot.app.screen is screen
        assert f"'changes={TOML}'" in says(screen, "command")


async def test_escape_leaves_the_field_as_it_was(home: Path) -> None:
    async with launch_screen(home) as (pilot, screen):
        await type_over(pilot, screen, "reward.gold", '["rule:vowels"]')
        await pilot.press("enter")
        await pilot.pause()
        assert pilot.app.screen.query_one(TextArea).text == '[\n  "rule:vowels",\n]'
        await pilot.press("x", "escape")
        await pilot.pause()
        assert pilot.app.screen is screen
        assert says(screen, "command").endswith("""--set 'reward.gold=["rule:vowels"]'""")
