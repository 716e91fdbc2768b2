"""The verb `doctor`: whether this machine and terminal serve."""

from pathlib import Path

import click

from workbench.commands.common import FAILED, emit, json_option, with_home
from workbench.commands.text import paragraph, terminal_width
from workbench.doctor import examine


@click.command()
@with_home
@json_option
@click.pass_context
def doctor(ctx: click.Context, home: Path, as_json: bool) -> None:
    """Look at versions, device, memory, disk, terminal."""
    findings = examine(home)
    for finding in findings:
        if as_json:
            emit(vars(finding))
            continue
        for label, text in ((finding.level, finding.what), ("", finding.advice)):
            if text:
                for line in paragraph(label, text, 6, max(60, terminal_width())):
                    click.echo(line)
    if any(finding.level == "bad" for finding in findings):
        ctx.exit(FAILED)
