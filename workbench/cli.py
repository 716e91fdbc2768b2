"""The command line `workbench`: the same verbs as the TUI, data on stdout, talk on stderr."""

import click

from workbench.commands import (
    asking,
    comparing,
    engine,
    estimating,
    lineage,
    machine,
    reading,
    records,
    screens,
    serving,
    starting,
    steering,
    tail,
)
from workbench.commands.common import Verbs, chosen_home, home_option
from workbench.demo import demo
from workbench.signs import use_stand_ins


@click.group(
    cls=Verbs,
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
        screens.open_screens(chosen_home(ctx))


for verb in (
    *(demo, starting.run, starting.presets, engine.check, estimating.estimate),
    *(reading.ls, reading.show, comparing.compare, screens.attach, serving.serve, tail.tail),
    *(records.metrics, records.samples, records.knobs, records.commands, records.events),
    *(steering.set_, steering.pause, steering.resume, steering.checkpoint, steering.stop),
    *(asking.sample, asking.measure),
    *(steering.rollback, lineage.fork, lineage.replay),
    *(engine.export, machine.doctor),
):
    main.add_command(verb)
