"""The screens in a real terminal: stopped, killed, without UTF-8, without colours, redirected."""

import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from rlhf_engine.runs.lock import is_held

from .fakes import FakeEngine, finished_run, make_run

WORKBENCH = [sys.executable, "-c", "from workbench.cli import main; main()"]
PATIENCE = 60


class Terminal:
    """A terminal with the screens in it, and all that they have written."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        terminal = {"TERM": "xterm-256color", "WORKBENCH_HOME": str(home)}
        without = ("NO_COLOR", "COLUMNS", "LINES", "COLORTERM", "TMUX")
        inherited = {name: value for name, value in os.environ.items() if name not in without}
        self.process = subprocess.Popen(
            WORKBENCH,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=inherited | terminal | environ,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.written = b""

    def until(self, wanted: bytes) -> None:
        """Read until the screens have written this, from now on."""
        start, end = len(self.written), time.monotonic() + PATIENCE
        while wanted not in self.written[start:]:
            assert time.monotonic() < end, self.written[-3000:]
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.written += os.read(self.master, 65536)
                except OSError:  # the other end is closed
                    assert wanted in self.written[start:], self.written[-3000:]

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)


@contextmanager
def screens(home: Path, **environ: str) -> Iterator[Terminal]:
    terminal = Terminal(home, **environ)
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.master)


@dataclass
class Pane:
    """The only pane of a tmux server of its own."""

    socket: str

    def ask(self, *words: str) -> str:
        command = ["tmux", "-f", os.devnull, "-L", self.socket, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    @property
    def title(self) -> str:
        return self.ask("display-message", "-p", "#{pane_title}").strip()

    def type(self, key: str) -> None:
        self.ask("send-keys", key)

    def sees(self, *words: str) -> None:
        """Wait until the pane shows all of these."""
        end = time.monotonic() + PATIENCE
        while not all(word in (shown := self.ask("capture-pane", "-p")) for word in words):
            assert time.monotonic() < end, shown
            time.sleep(0.1)


@contextmanager
def tmux(folder: Path, home: Path) -> Iterator[Pane]:
    """The screens in a tmux that has no settings, at 120x40; once left, a word says so."""
    pane = Pane(f"workbench-test-{os.getpid()}")
    script = folder / "screens.sh"
    program = shlex.join(WORKBENCH)
    script.write_text(
        "printf '\\033]2;untouched\\033\\\\'\n"
        f"export WORKBENCH_HOME={shlex.quote(str(home))}\n"
        f"unset NO_COLOR COLORTERM COLUMNS LINES\n{program}\n"
        "echo left the screens\nsleep 600\n"
    )
    pane.ask("new-session", "-d", "-x", "120", "-y", "40", "sh", str(script))
    try:
        yield pane
    finally:
        pane.ask("kill-server")


def status(terminal: Terminal, wanted: str) -> None:
    end = time.monotonic() + PATIENCE
    while psutil.Process(terminal.process.pid).status() != wanted:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_stopped_and_continued_the_screens_come_back(home: Path) -> None:
    run = make_run(home, name="busy")
    with FakeEngine(run), screens(home) as terminal:
        terminal.until(b"busy")
        terminal.type(b"\x1a")
        status(terminal, psutil.STATUS_STOPPED)
        assert is_held(run.lock)
        os.killpg(terminal.process.pid, signal.SIGCONT)
        terminal.until(b"busy")
        terminal.type(b"?")
        terminal.until(b"Everywhere")
        assert is_held(run.lock)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_killed_screens_leave_the_engine_alone(home: Path, end: signal.Signals) -> None:
    run = make_run(home, name="busy")
    with FakeEngine(run):
        with screens(home) as terminal:
            terminal.until(b"busy")
            terminal.process.send_signal(end)
            terminal.process.wait(PATIENCE)
        assert is_held(run.lock)


def test_without_utf_8_everything_is_ascii(home: Path) -> None:
    finished_run(home)
    with screens(home, PYTHONUTF8="0", LC_ALL="C", PYTHONCOERCECLOCALE="0") as terminal:
        terminal.until(b"v done")
        terminal.type(b"\r")
        terminal.until(b"KL to ref")
        terminal.until(b"entropy" if b"entropy" in terminal.written else b"samples")
        assert terminal.written.isascii()
        assert b"\\u28" not in terminal.written
        assert re.search(rb"-{20}", terminal.written)


def test_no_color_writes_no_colour(home: Path) -> None:
    finished_run(home)
    with screens(home, NO_COLOR="1") as terminal:
        terminal.until("✓ done".encode())
        terminal.type(b"\r")
        terminal.until(b"KL to ref")
        styles = set(re.findall(rb"\x1b\[([\d;]*)m", terminal.written))
        assert styles
        shades = {b"39", b"49", b"0", b"1", b"2", b"3", b"4", b"7", b""}
        assert {part for style in styles for part in style.split(b";")} <= shades


@pytest.mark.parametrize("keys", [b"\r", b"4"], ids=["monitor", "samples"])
def test_sixteen_colours_are_enough(home: Path, keys: bytes) -> None:
    finished_run(home)
    with screens(home, TERM="screen") as terminal:
        terminal.until("✓ done".encode())
        terminal.type(b"\r")
        terminal.until(b"KL to ref")
        if keys != b"\r":
            terminal.type(keys)
            terminal.until(b"samples of")
        styles = set(re.findall(rb"\x1b\[([\d;]*)m", terminal.written))
        parts = {int(part) for style in styles for part in style.split(b";") if part}
        assert parts & {*range(31, 38), *range(91, 98)}, "there are colours"
        assert not parts & {38, 48}, "and none beyond the sixteen"


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_inside_tmux(home: Path, tmp_path: Path) -> None:
    finished_run(home, name="inside")
    with tmux(tmp_path, home) as pane:
        pane.sees("inside", "✓ done")
        pane.type("Enter")
        pane.sees("KL to ref", "samples · newest first")
        pane.type("4")
        pane.sees("samples of inside", "hi ␛]2;3␇")
        assert pane.title == "untouched", "text of a model sets no title"
        pane.type("q")
        pane.sees("KL to ref")
        pane.type("C-q")
        pane.sees("left the screens")


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_redirected_it_says_so_and_ends(home: Path, stream: str) -> None:
    master, slave = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout"), slave) | {stream: subprocess.DEVNULL}
    done = subprocess.run(
        WORKBENCH, **streams, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
    )
    os.close(master)
    os.close(slave)
    assert done.returncode == 2
    assert "workbench ls" in done.stderr


def test_a_terminal_that_cannot_place_its_cursor_is_refused(home: Path) -> None:
    with screens(home, TERM="dumb") as terminal:
        terminal.until(b"TERM=xterm-256color")
        assert terminal.process.wait(PATIENCE) == 2
