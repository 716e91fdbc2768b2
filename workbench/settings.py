"""What a person has chosen for the screens, kept in `<home>/settings.toml`."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rlhf_engine.job.errors import nearest
from rlhf_engine.runs.directory import write_private

NAME = "settings.toml"
Table = TypeVar("Table", bound=Mapping[str, object])


class SettingsError(Exception):
    """The file is wrong; the message says where and what to do."""


@dataclass(frozen=True)
class Settings:
    """`theme` is a theme's name, empty for the one that suits the terminal; `signs` is `ascii`
    for terminals that show no others, else empty."""

    theme: str = ""
    signs: str = ""


def read_settings(home: Path, choices: Mapping[str, tuple[str, ...]]) -> tuple[Settings, list[str]]:
    """What was chosen, and what is wrong with the rest; `choices` holds the values of each key."""
    path = home / NAME
    try:
        table = _parse(path, tomllib.loads)
    except SettingsError as error:
        return Settings(), [str(error)]
    chosen, problems = {}, []
    for key, value in table.items():
        if key not in choices:
            problems.append(f"{path}: {key!r} is no setting; {nearest(key, choices)}")
        elif value not in choices[key]:
            problems.append(f"{path}: {key} = {value!r}; {nearest(str(value), choices[key])}")
        else:
            chosen[key] = str(value)
    return Settings(**chosen), problems


def remember(home: Path, key: str, value: str) -> None:
    """Keep one setting and the rest of the file, comments too; SettingsError if it is broken."""
    import tomlkit

    path = home / NAME
    document = _parse(path, tomlkit.parse)
    document[key] = value
    try:
        write_private(path, tomlkit.dumps(document))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written: {error}") from None


def _parse(path: Path, parse: Callable[[str], Table]) -> Table:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return parse("")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path}: cannot be read: {error}; correct it, or delete it to start anew"
        ) from None
