"""The workbench's own themes; hues from Okabe and Ito (2008), told apart by colour-blind people."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from rich.color import Color as RichColor
from rich.style import Style
from textual.color import Color, ColorParseError
from textual.theme import Theme

DARK = Theme(
    name="workbench-dark",
    primary="#56B4E9",
    secondary="#CC79A7",
    accent="#E69F00",
    success="#3CC39A",
    warning="#E69F00",
    error="#FF7847",
    foreground="#E4E6EA",
    background="#101318",
    surface="#171B22",
    panel="#222833",
    dark=True,
    variables={
        "block-cursor-background": "#2B4A66",
        "block-cursor-foreground": "#FFFFFF",
        "block-cursor-blurred-background": "#232B36",
        "block-cursor-blurred-foreground": "#E4E6EA",
        "footer-key-foreground": "#56B4E9",
    },
)

LIGHT = Theme(
    name="workbench-light",
    primary="#005F99",
    secondary="#A3447A",
    accent="#8A5A00",
    success="#00704F",
    warning="#8A5A00",
    error="#B23B00",
    foreground="#1B1F24",
    background="#FAFAF7",
    surface="#F1F1EC",
    panel="#E4E5DF",
    dark=False,
    variables={
        "block-cursor-background": "#C9E0F2",
        "block-cursor-foreground": "#10151A",
        "block-cursor-blurred-background": "#DFE5EA",
        "block-cursor-blurred-foreground": "#1B1F24",
        "footer-key-foreground": "#005F99",
    },
)

_DEFAULT: Any = "ansi_default"
_TERMINAL: dict[str, Any] = {
    "primary": "ansi_cyan",
    "secondary": "ansi_magenta",
    "accent": "ansi_yellow",
    "success": "ansi_cyan",
    "warning": "ansi_yellow",
    "error": "ansi_bright_red",
    "foreground": "ansi_default",
    "background": "ansi_default",
}
# A cursor that is shown by turning the two colours of its line round needs no colour. The first
# two are what Textual's own styles ask every such theme for.
_REVERSED = {
    "ansi-foreground": "ansi_white",
    "ansi-background": "ansi_black",
    "block-cursor-foreground": "ansi_default",
    "block-cursor-background": "ansi_default",
    "block-cursor-text-style": "bold reverse",
    "block-cursor-blurred-text-style": "underline",
    "input-selection-foreground": "ansi_default",
    "input-selection-background": "ansi_default",
    "button-focus-text-style": "bold reverse",
}

SIXTEEN = Theme(
    name="workbench-16",
    **_TERMINAL,
    ansi=True,
    dark=True,
    variables=_REVERSED
    | {
        "border": "ansi_cyan",
        "border-blurred": "ansi_bright_black",
        "scrollbar": "ansi_cyan",
        "scrollbar-background": "ansi_default",
        "footer-key-foreground": "ansi_cyan",
        "input-selection-background": "ansi_blue",
    },
)

PLAIN = Theme(
    name="workbench-plain",
    **dict.fromkeys(_TERMINAL, _DEFAULT),
    ansi=True,
    dark=True,
    variables=_REVERSED,
)

# By the names that a person chooses them by.
THEMES = {
    "Dark": DARK,
    "Light": LIGHT,
    "Terminal's own 16 colours": SIXTEEN,
    "No colours": PLAIN,
}


def theme_for(environ: Mapping[str, str], colours: str | None, chosen: str) -> Theme:
    """The theme to begin with: none of the colours that NO_COLOR forbids or the terminal lacks.

    `colours` is what the terminal can show as rich names it; `chosen` the name of a theme.
    """
    if environ.get("NO_COLOR") or colours is None:
        return PLAIN
    for theme in THEMES.values():
        if theme.name == chosen:
            return theme
    return SIXTEEN if colours == "standard" else DARK


def rich_style(variables: Mapping[str, str], name: str, bold: bool = False) -> Style:
    """A theme's colour for rich's texts, which know the terminal's own colours by other names."""
    # Without what follows a blank: how strong the colour is.
    return Style(color=_rich_colour(variables.get(name, "ansi_default").split()[0]), bold=bold)


@cache
def _rich_colour(value: str) -> RichColor | None:
    """None for what is no colour of its own, as `auto`; to find that out takes long."""
    try:
        return Color.parse(value).rich_color
    except ColorParseError:
        return None
