"""A new run: choose a preset, change fields, see the command line, launch."""

import shlex
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import DescendantFocus
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Button, Footer, Input, OptionList, Select, Static
from textual.widgets.option_list import Option

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import preset_files
from rlhf_engine.job.spec import Spec
from rlhf_engine.runs.directory import RunDir, RunNotFound, all_runs
from rlhf_engine.runs.launch import launch
from rlhf_engine.runs.sample import printable
from workbench.form_model import NAME, Form, Verdict
from workbench.keys import Key
from workbench.screens.confirm import ConfirmScreen
from workbench.widgets.form import FieldRow, FormView, help_text, problem_of
from workbench.widgets.form_parts import StageRow, preset_line, summary

LAUNCH_KEYS = (
    Key("new.launch", "ctrl+g", "launch", "Launch", "Start the runs, if everything is valid"),
    Key("new.undo", "u,ctrl+z", "undo", "Undo field", "Give the field its value of the preset"),
    Key("new.pane", "tab", "pane(1)", "Next pane", "Presets, stages, fields, name, Launch"),
    Key("new.pane_before", "shift+tab", "pane(-1)", "Pane before", "Pane before", show=False),
    Key("new.field", "down,enter", "field(1)", "Next field", "Next field", show=False),
    Key("new.field_before", "up", "field(-1)", "Field before", "Field before", show=False),
    Key("new.page", "pagedown", "field(10)", "Ten fields on", "Ten fields on", show=False),
    Key("new.page_before", "pageup", "field(-10)", "Ten back", "Ten fields back", show=False),
    Key("new.stage", "],ctrl+pagedown", "stage(1)", "Next stage", "Next stage", show=False),
    Key("new.stage_before", "[,ctrl+pageup", "stage(-1)", "Stage before", "Stage before", False),
    Key("new.copy", "y", "copy", "Copy command", "Copy the command line to the clipboard"),
    Key("new.back", "escape", "back", "Back", "Drop what was typed, after asking, and go back"),
)
