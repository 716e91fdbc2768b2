"""Whatever happens to viewers, the engine goes on: real processes, a real store, five terminals."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from rlhf_engine.runs import inbox
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import StoreReader
from tests.terminal import Terminal

WORKBENCH = str(Path(sys.executable).with_name("workbench"))
STEPS, SPEED = 1_000_000, 50
PATIENCE = 120.0
# SQLite moves its log into the store from 1,000 pages of 4 KiB on, and then starts it again.
LOG_BYTES = 3 * 1000 * 4096
# Where SQLite locks the bytes of a reader's mark in the log's index.
READ_MARKS = range(123, 128)


@contextmanager
def engine(home: Path) -> Iterator[RunDir]:
    """A fake engine at work; it is stopped at the end, and must have gone on until then."""
    command = [sys.executable, "-m", "tests.fake_engine", str(home)]
    command += ["--steps", str(STEPS), "--speed", str(SPEED), "--samples", "4"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    run = RunDir(home / "runs" / process.stdout.readline().strip())
    try:
        yield run
        assert process.poll() is None
        inbox.send(run.inbox, "stop")
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def steps_done(run: RunDir) -> int:
    reader = StoreReader.open(run.store)
    if reader is None:
        return 0
    with reader:
        last = reader.last_step()
    return last.step if last else 0


def goes_on(run: RunDir, steps: int) -> None:
    """Wait until the engine has done so many steps more."""
    goal, end = steps_done(run) + steps, time.monotonic() + PATIENCE
    while steps_done(run) < goal:
        assert time.monotonic() < end, f"the engine stands at step {steps_done(run)}"
        time.sleep(0.1)


def attached(run: RunDir) -> Terminal:
    terminal = Terminal([WORKBENCH, "attach", run.id, "--home", str(run.home)])
    terminal.until(lambda text: f"/{STEPS}" in text)
    return terminal


@contextmanager
def looked_at(terminals: list[Terminal]) -> Iterator[None]:
    """Meanwhile everything that the viewers paint is read, as terminals do."""
    done = threading.Event()

    def read(terminal: Terminal) -> None:
        try:
            while not done.is_set():
                terminal.read(0.1)
                terminal.forget()
        except EOFError:
            pass

    threads = [threading.Thread(target=read, args=(terminal,)) for terminal in terminals]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def stop_between_reads(pid: int, index: Path) -> None:
    """SIGSTOP a viewer while it holds no mark in the log; inside a read it would keep it back."""
    inode = index.stat().st_ino
    for _ in range(100):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.05)
        if not any(
            _marks(line, pid, inode) for line in Path("/proc/locks").read_text().split("\n")
        ):
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)
    pytest.fail("the viewer reads all the time")


def _marks(line: str, pid: int, inode: int) -> bool:
    words = line.split()
    if len(words) < 8 or words[-4] != str(pid) or words[-3].split(":")[-1] != str(inode):
        return False
    last = READ_MARKS[-1] if words[-1] == "EOF" else int(words[-1])
    return int(words[-2]) <= READ_MARKS[-1] and last >= READ_MARKS[0]


def test_viewers_stopped_killed_and_hung_up_on_leave_the_engine_alone(tmp_path: Path) -> None:
    with engine(tmp_path) as run, ExitStack() as stack:
        goes_on(run, 5)
        viewers = [stack.enter_context(attached(run)) for _ in range(5)]
        stopped, killed, hung_up, *_ = viewers
        with looked_at(viewers):
            stop_between_reads(stopped.process.pid, run.path / "run.db-shm")
            killed.process.kill()
            hung_up.process.send_signal(signal.SIGHUP)
            goes_on(run, 400)
            assert (run.path / "run.db-wal").stat().st_size < LOG_BYTES
            stopped.process.send_signal(signal.SIGCONT)
            goes_on(run, 20)
        stopped.forget()
        now = steps_done(run)
        stopped.until(lambda text: any(f"{now + ahead}/" in text for ahead in range(500)))
    assert_whole(run)


def test_ctrl_z_gives_the_shell_back_and_fg_the_screens(tmp_path: Path) -> None:
    with engine(tmp_path) as run:
        goes_on(run, 5)
        with Terminal(["bash", "--norc", "-i"]) as terminal:
            terminal.press(f"{WORKBENCH} attach {run.id} --home {tmp_path}\n")
            terminal.until(lambda text: f"/{STEPS}" in text)
            terminal.press("\x1a")
            terminal.until_said("Stopped")
            goes_on(run, 50)
            terminal.press("fg\n")
            terminal.until(lambda text: f"/{STEPS}" in text)
    assert_whole(run)


def assert_whole(run: RunDir) -> None:
    """The store is sound, and no step is missing or twice there."""
    db = sqlite3.connect(f"{run.store.as_uri()}?mode=ro", uri=True)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    steps = [step for (step,) in db.execute("SELECT step FROM steps ORDER BY seq")]
    assert steps == list(range(1, len(steps) + 1))
    outcomes = db.execute("SELECT outcome FROM sessions").fetchall()
    db.close()
    assert outcomes == [("stopped",)]


def test_a_viewer_ends_with_its_terminal_where_hang_ups_are_ignored(tmp_path: Path) -> None:
    command = ["sh", "-c", f"trap '' HUP; exec {WORKBENCH} --home {tmp_path}"]
    terminal = Terminal(command)
    try:
        terminal.until(lambda text: "No runs yet" in text)
        terminal.hang_up()
        assert terminal.process.wait(PATIENCE) == -signal.SIGHUP
    finally:
        terminal.process.kill()
