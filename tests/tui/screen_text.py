"""The screen as text, for snapshots that a person can read and compare."""

from textual.app import App


def screen_text(app: App[None]) -> str:
    """What the terminal shows now, line by line, without colours."""
    # No public way leads to the painted lines; this is the only place that reaches for them.
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)
