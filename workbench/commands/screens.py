"""Opening the TUI: without a verb, and `attach`."""

import os
import signal
import sys
from pathlib import Path

import click

from rlhf_engine.runs.directory import RunDir
from workbench.commands.common import Unusable, with_run
from workbench.garbage import loading

THREAD_TURN_SECONDS = 1e-3


def has_terminal() -> bool:
    """Whether a person can use screens here: keys come from stdin, stderr is painted on."""
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def open_screens(home: Path, open_run: str | None = None) -> None:
    """Show the TUI until it is closed; says what to use instead where there is no terminal."""
    if not has_terminal():
        raise Unusable(
            "the screens need a terminal, and input or output is redirected here; use "
            "`workbench ls`, `workbench tail RUN` or `workbench demo --headless` "
            "(`workbench --help` lists all)"
        )
    if os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        raise Unusable(
            f"the screens cannot be drawn with TERM={os.environ.get('TERM', '')}: "
            "export TERM=xterm-256color if the terminal can place its cursor, or use the verbs "
            "(`workbench --help` lists all)"
        )
    # A shell may have been told to ignore hang-ups, as by nohup: without their terminal the screens
    # would only turn a core in vain.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # A key must not wait long for the thread that reads the run.
    sys.setswitchinterval(THREAD_TURN_SECONDS)
    with loading():
        from workbench.app import WorkbenchApp

    WorkbenchApp(home, open_run=open_run).run()


@click.command()
@with_run
def attach(run: RunDir) -> None:
    """Open the live monitor of a run."""
    open_screens(run.home, run.id)
