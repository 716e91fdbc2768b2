"""Whether a person sees a screen."""

from typing import Any

from textual.screen import ModalScreen, Screen


def is_seen(screen: Screen[Any]) -> bool:
    """Whether at most questions and pages stand over the screen.

    For Textual the screen right under the top one is current too, however opaque the top one is,
    and whatever changes there paints the whole terminal again.
    """
    stack = screen.app.screen_stack
    if screen not in stack:
        return False
    return all(isinstance(above, ModalScreen) for above in stack[stack.index(screen) + 1 :])
