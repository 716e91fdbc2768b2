"""The base of questions and pages that stand in front of a screen."""

from typing import ClassVar

from textual.binding import BindingType
from textual.screen import ModalScreen, ScreenResultType

from workbench.keys import HELP_KEY, bindings


class Dialog(ModalScreen[ScreenResultType]):
    """Takes the keys of everything behind it away, but not the help."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings([HELP_KEY])]
