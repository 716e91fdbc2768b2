"""The command line `workbench`: the same verbs as the TUI, data on stdout, talk on stderr."""

import click

from workbench.commands.common import Verbs, chosen_home, home_option
from workbench.signs import use_stand_ins

# Where each verb is; a module is imported when its verb is called, so that none waits for others.
VERBS = {
    "demo": "workbench.demo:demo",
    "run": "workbench.commands.starting:run",
    "presets": "workbench.commands.starting:presets",
    "check": "workbench.commands.engine:check",
    "estimate": "workbench.commands.estimating:estimate",
    "ls": "workbench.commands.reading:ls",
    "show": "workbench.commands.reading:show",
    "compare": "workbench.commands.comparing:compare",
    "attach": "workbench.commands.screens:attach",
    "serve": "workbench.commands.serving:serve",
    "tail": "workbench.commands.tail:tail",
    "metrics": "workbench.commands.records:metrics",
    "samples": "workbench.commands.records:samples",
    "knobs": "workbench.commands.records:knobs",
    "commands": "workbench.commands.records:commands",
    "events": "workbench.commands.records:events",
    "set": "workbench.commands.steering:set_",
    "pause": "workbench.commands.steering:pause",
    "resume": "workbench.commands.steering:resume",
    "checkpoint": "workbench.commands.steering:checkpoint",
    "stop": "workbench.commands.steering:stop",
    "sample": "workbench.commands.asking:sample",
    "measure": "workbench.commands.asking:measure",
    "rollback": "workbench.commands.steering:rollback",
    "fork": "workbench.commands.lineage:fork",
    "replay": "workbench.commands.lineage:replay",
    "export": "workbench.commands.engine:export",
    "doctor": "workbench.commands.machine:doctor",
}


@click.group(
    cls=Verbs,
    verbs=VERBS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@home_option
@click.version_option(package_name="rlhf-workbench")
@click.pass_context
def main(ctx: click.Context) -> None:
    """RLHF on one GPU, from the terminal. Without a verb: the screens.

    RUN is a run's id, its beginning, its name, or `last`. Exit codes: 0 done, 1 failed, 2 usage
    or invalid spec, 3 run not found.
    """
    use_stand_ins()
    if ctx.invoked_subcommand is None:
        from workbench.commands.screens import open_screens

        open_screens(chosen_home(ctx))
