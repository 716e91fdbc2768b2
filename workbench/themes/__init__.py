"""The workbench's own themes; hues from Okabe and Ito (2008), told apart by colour-blind people."""

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

THEMES = (DARK, LIGHT)
