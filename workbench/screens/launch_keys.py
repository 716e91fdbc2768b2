"""The keys of the launch form."""

from workbench.keys import Key

LAUNCH_KEYS = (
    Key("new.launch", "ctrl+g", "launch", "Launch", "Start the runs, if everything is valid"),
    Key("new.validate", "v,ctrl+r", "validate", "Check", "Look at model, data and rewards now"),
    Key("new.details", "i,ctrl+l", "details", "Details", "Memory and data on the whole screen"),
    Key("new.save", "s,ctrl+s", "save", "Save", "Save the form as a preset of your own"),
    Key("new.undo", "u,ctrl+t", "undo", "Undo field", "Give the field its value of the preset"),
    Key("new.pane", "tab", "pane(1)", "Next pane", "Presets, stages, fields, facts, name, Launch"),
    Key("new.pane_before", "shift+tab", "pane(-1)", "Pane before", "Pane before", show=False),
    Key("new.field", "down", "field(1)", "Next field", "Next field", show=False),
    Key("new.field_before", "up", "field(-1)", "Field before", "Field before", show=False),
    Key("new.page", "pagedown", "field(10)", "Ten fields on", "Ten fields on", show=False),
    Key("new.page_before", "pageup", "field(-10)", "Ten back", "Ten fields back", show=False),
    Key("new.stage", "],ctrl+pagedown", "stage(1)", "Next stage", "Next stage", show=False),
    Key("new.stage_before", "[,ctrl+pageup", "stage(-1)", "Stage before", "Stage before", False),
    Key("new.copy", "y,ctrl+y", "copy", "Copy command", "Copy the command line to the clipboard"),
    Key("new.back", "escape", "back", "Back", "Drop what was typed, after asking, and go back"),
)
