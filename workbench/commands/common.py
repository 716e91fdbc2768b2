"""What every verb shares: the home folder, errors as exit codes, and records as JSON lines."""

import functools
import importlib
import json
import math
import os
import sqlite3
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from rlhf_engine.job.errors import SpecError
from rlhf_engine.runs.directory import RunDir, RunNotFound, find_run, home_folder
from rlhf_engine.runs.reader import StoreReader

P = ParamSpec("P")
T = TypeVar("T")

FAILED, INVALID, NOT_FOUND, INTERRUPTED = 1, 2, 3, 130


class Problem(click.ClickException):
    """Ends the command with a sentence on standard error; a failure."""

    exit_code = FAILED


class Unusable(Problem):
    """What was asked for cannot be done as asked."""

    exit_code = INVALID


class Missing(Problem):
    """The run that was named does not exist."""

    exit_code = NOT_FOUND


class Verbs(click.Group):
    """The command line: verbs in the order of their work, errors as sentences and exit codes.

    `verbs` says for each name where its command is, as `module:name`.
    """

    def __init__(self, *arguments: Any, verbs: Mapping[str, str], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._verbs:
            return None
        module, _, name = self._verbs[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RunNotFound as error:
            raise Missing(str(error)) from None
        except SpecError as error:
            raise Unusable(str(error)) from None
        except sqlite3.DatabaseError as error:
            raise Problem(f"the run's store cannot be read: {error}") from None
        except BrokenPipeError:
            # What Python flushes at its exit must not meet the closed pipe once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except OSError as error:
            raise Problem(str(error)) from None
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def _remember_home(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.find_root().obj = value


home_option = click.option(
    "--home",
    type=click.Path(path_type=Path),
    expose_value=False,
    callback=_remember_home,
    help="Folder of all runs; else $WORKBENCH_HOME, else your user data folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a field, for example ppo.kl.coef=0.1; may be given several times.",
)


def chosen_home(ctx: click.Context) -> Path:
    """The home that `--home` names, before or after the verb, or the usual one."""
    try:
        return home_folder(ctx.find_root().obj)
    except OSError as error:
        raise Unusable(
            f"the home folder cannot be made: {error}; choose another with --home"
        ) from None


def with_home(verb: Callable[Concatenate[Path, P], None]) -> Callable[P, None]:
    """Give a verb `--home`, and call it with the home folder first."""

    @home_option
    @click.pass_context
    @functools.wraps(verb)
    def call(ctx: click.Context, /, *args: P.args, **kwargs: P.kwargs) -> None:
        verb(chosen_home(ctx), *args, **kwargs)

    return call


def with_run(verb: Callable[Concatenate[RunDir, P], None]) -> Callable[..., None]:
    """Give a verb the argument RUN and `--home`, and call it with the run first."""

    @with_home
    @click.argument("run_key", metavar="RUN")
    @functools.wraps(verb)
    def call(home: Path, /, run_key: str, *args: P.args, **kwargs: P.kwargs) -> None:
        verb(find_run(home, run_key), *args, **kwargs)

    return call


def from_store(run: RunDir, question: Callable[[StoreReader], T], otherwise: T) -> T:
    """What a run's store answers; `otherwise` while its engine has not made one."""
    reader = StoreReader.open(run.store)
    if reader is None:
        return otherwise
    with reader:
        return question(reader)


def emit(record: Mapping[str, Any]) -> None:
    """Print one JSON line; NaN and infinity become null."""
    click.echo(json.dumps(_finite(record), allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def say(text: str = "") -> None:
    """Talk to the person: on standard error, so that data stays alone on standard output."""
    click.echo(text, err=True)


def engine_command(module: str, *arguments: str | Path) -> list[str]:
    """A module of the engine as a command of its own process."""
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]
