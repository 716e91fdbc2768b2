"""The keys of the monitor."""

from workbench.keys import Key

KNOB_KEYS = (
    Key("monitor.knobs", "k", "knobs", "Knobs", "To the knobs: choose one, type a value"),
    Key("monitor.lower", "[", "scale(0.8)", "×0.8", "Stage the chosen or main knob ×0.8"),
    Key("monitor.raise", "]", "scale(1.25)", "×1.25", "Stage the chosen or main knob ×1.25"),
    Key("monitor.halve", "{", "scale(0.5)", "×0.5", "Stage the chosen or main knob ×0.5", False),
    Key("monitor.double", "}", "scale(2.0)", "×2", "Stage the chosen or main knob ×2", show=False),
    Key(
        "monitor.send", "enter", "enter", "Send", "Send what is staged; else the table", show=False
    ),
    Key("monitor.previous", "z", "previous", "Previous", "Stage the value before", show=False),
    Key("monitor.advice", "a", "advice", "Advice", "Stage what a guard advises", show=False),
)
RUN_KEYS = (
    Key("monitor.pause", "p", "pause", "Pause", "Pause after this phase, or go on"),
    Key("monitor.checkpoint", "c", "checkpoint", "Save", "Save a checkpoint after this step"),
    Key("monitor.evaluate", "e", "evaluate", "Evaluate", "Measure the held-out data now", False),
    Key("monitor.rollback", "b", "rollback", "Roll back", "Go back to a step; asks which", False),
    Key("monitor.fork", "F", "fork", "Fork", "A new run from a checkpoint, changed", show=False),
    Key("monitor.resume", "r", "resume", "Resume", "Go on after a pause or an end", show=False),
    Key("monitor.stop", "X", "stop", "Stop", "Save a checkpoint and end the run; asks first"),
)
DISPLAY_KEYS = (
    Key("monitor.samples", "s", "samples", "Samples", "The newest responses on the whole screen"),
    Key("monitor.table", "t", "table", "Table", "Every figure of every step as text", False),
    Key("monitor.log", "L", "log", "Engine log", "The end of the engine's log", show=False),
    Key("monitor.left", "left,h", "cross(-1)", "Crosshair", "Crosshair to the left", show=False),
    Key("monitor.right", "right,l", "cross(1)", "Crosshair", "Crosshair to the right", show=False),
    Key("monitor.before", "shift+left,comma", "single(-1)", "Step before", "One step back", False),
    Key(
        "monitor.after",
        "shift+right,full_stop",
        "single(1)",
        "Step after",
        "One step on",
        show=False,
    ),
    Key("monitor.first", "home", "cross_end(1)", "First", "Crosshair to the first step", False),
    Key("monitor.last", "end", "cross_end(-1)", "Last", "Crosshair to the last step", show=False),
    Key("monitor.freeze", "f", "freeze", "Freeze", "Stop the display; the run goes on", show=False),
    Key("monitor.scale", "y", "log_scale", "Log", "Logarithmic or linear", show=False),
    Key("monitor.smooth", "m", "smooth", "Smooth", "Smoothing .97, none, .9", show=False),
    Key("monitor.axis", "x", "axis", "Axis", "Steps or time along the charts", show=False),
    Key("monitor.window", "w", "window", "Window", "All steps, last 500, last 100", show=False),
    Key("monitor.view", "v", "turn_over", "One chart", "One chart after the other, all", False),
    Key("monitor.back", "escape", "escape", "Drop/back", "Drop what is staged; back", show=False),
    Key("monitor.leave", "q", "back", "Back", "Back to the runs; the engine goes on"),
)
MONITOR_KEYS: tuple[Key, ...] = (*KNOB_KEYS, *RUN_KEYS, *DISPLAY_KEYS)
