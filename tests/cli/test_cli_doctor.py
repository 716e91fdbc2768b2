"""What `doctor` concludes from a machine that is described to it."""

import json
import sys
from pathlib import Path

import pytest

from tests.fake_nvml import FakeNvml
from workbench.doctor import colours, devices, examine, file_system, signs, terminal

from .fakes import Workbench

MOUNTS = r"""/dev/sda1 / ext4 rw 0 0
server:/export /home nfs4 rw 0 0
/dev/sdb1 /home/me/my\040disk xfs rw 0 0
tmpfs /homestead tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("home", "level", "kind"),
    [
        ("/var/runs", "ok", "ext4 at /"),
        ("/home/me/runs", "warn", "nfs4 at /home"),
        ("/home/me/my disk/runs", "ok", "xfs"),
        ("/homestead/runs", "ok", "tmpfs"),
    ],
)
def test_the_file_system_is_that_of_the_longest_mount_point(
    home: str, level: str, kind: str
) -> None:
    found = file_system(Path(home), MOUNTS)
    assert found.level == level
    assert kind in found.what
    assert ("WORKBENCH_HOME" in found.advice) == (level == "warn")


@pytest.mark.parametrize(
    ("environ", "level", "told"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "ok", "all colours"),
        ({"TERM": "xterm-256color"}, "warn", "256 colours"),
        ({"TERM": "screen"}, "warn", "16 colours"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "ok", "NO_COLOR"),
        ({"TERM": "dumb"}, "bad", "cursor"),
        ({}, "bad", "cursor"),
    ],
)
def test_colours(environ: dict[str, str], level: str, told: str) -> None:
    found = colours(environ)
    assert found.level == level
    assert told in found.what


def test_inside_tmux_the_advice_is_the_line_to_add() -> None:
    found = colours({"TERM": "screen-256color", "TMUX": "/run/tmux,1,0"})
    assert 'set -as terminal-features ",*:RGB"' in found.advice


def test_inside_screen_the_advice_is_for_its_own_file() -> None:
    found = colours({"TERM": "screen", "STY": "1.pts"})
    assert ".screenrc: term screen-256color and defutf8 on" in found.advice


@pytest.mark.parametrize(
    ("environ", "utf8", "tmux", "level", "told"),
    [
        ({"TERM": "xterm"}, True, True, "ok", "braille"),
        ({"TERM": "xterm"}, False, True, "warn", "LC_ALL=C.UTF-8"),
        ({"TERM": "screen"}, True, False, "warn", "tmux -u"),
        ({"TERM": "linux"}, True, True, "warn", 'signs = "ascii"'),
    ],
)
def test_signs(environ: dict[str, str], utf8: bool, tmux: bool, level: str, told: str) -> None:
    found = signs(environ, utf8, tmux)
    assert found.level == level
    assert told in found.what + found.advice


def test_a_terminal_too_small_for_the_screens_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("LINES", "24")
    size, *_ = terminal({"TERM": "xterm"}, True)
    assert (size.level, size.advice) == ("bad", "the screens need at least 60x16")


def test_the_device_and_packages_are_always_told(home: Path, workbench: Workbench) -> None:
    told = " ".join(finding.what for finding in examine(home))
    assert "GPU" in told or "cuda:0" in told
    assert "torch 2." in told
    assert str(home) in told
    result = workbench("doctor", "--json")
    levels = {json.loads(line)["level"] for line in result.stdout.splitlines()}
    assert levels <= {"ok", "warn", "bad"}
    assert result.exit_code == (1 if "bad" in levels else 0)


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        ("nvmlDeviceGetCount", "cannot be counted"),
        ("nvmlDeviceGetMemoryInfo", "cuda:1 does not say"),
        (("nvmlDeviceGetHandleByIndex", 0), "cuda:1 NVIDIA"),
    ],
)
def test_a_gpu_that_does_not_answer_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, refused: object, told: str
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml({refused}))
    found = list(devices())
    assert any(told in finding.what for finding in found)
    silent = next(finding for finding in found if finding.level == "warn")
    assert "nvidia-smi" in silent.advice
