"""A program in a terminal of its own: keys in, painted bytes out, and what they cost."""

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

COLUMNS, LINES = 120, 40
PATIENCE = 60.0
# Asked whether it paints whole frames at once, the terminal says yes, as most do: the mark at the
# end of a frame then tells when a change is on the screen as a whole.
ASKED, ANSWER, FRAME_ENDS = b"\x1b[?2026$p", b"\x1b[?2026;2$y", b"\x1b[?2026l"
ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_=>])")
CPU_CLOCK = 2


class Terminal:
    """One run of a command at 120x40; `text` holds the whole frames since the last `forget`."""

    def __init__(self, command: Sequence[str], env: dict[str, str] | None = None) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self._new = b""
        self.bytes = 0
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(env or {})},
            preexec_fn=lambda: os.login_tty(slave),
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the program, and wait for it with its output read."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._master)

    def hang_up(self) -> None:
        """Close the terminal, as a window or a connection closes."""
        os.close(self._master)

    def read(self, seconds: float) -> float | None:
        """Take what comes within so many seconds; when it came, None if nothing did."""
        if not select.select([self._master], [], [], max(0.0, seconds))[0]:
            return None
        try:
            came = os.read(self._master, 1 << 16)
        except OSError:
            raise EOFError(f"the program has ended; it said {self._new[-2000:]!r}") from None
        at = time.monotonic()
        self.bytes += len(came)
        self._new += came
        if ASKED in came:
            os.write(self._master, ANSWER)
        return at

    def forget(self) -> None:
        self._new = b""

    @property
    def text(self) -> str:
        whole = self._new[: self._new.rfind(FRAME_ENDS) + 1]
        return ESCAPES.sub(b"", whole).decode("utf-8", errors="replace")

    def until(self, painted: Callable[[str], object]) -> float:
        """Read until what was painted satisfies, and its frame is whole; the moment it was."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            at = self.read(end - time.monotonic())
            if at is not None and painted(self.text):
                return at
        raise TimeoutError(f"it was never painted; the end of what was:\n{self.text[-4000:]}")

    def until_said(self, words: str) -> None:
        """Read until these words have come, in a frame or outside of one."""
        end = time.monotonic() + PATIENCE
        while words.encode() not in ESCAPES.sub(b"", self._new):
            if time.monotonic() > end:
                raise TimeoutError(f"{words!r} was never said: {self._new[-2000:]!r}")
            self.read(1.0)

    def rest(self, seconds: float) -> None:
        """Let time pass; what comes is counted and read as by a terminal."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.read(left)

    def press(self, key: str) -> float:
        """Send a key; the moment at which it was sent."""
        self.forget()
        os.write(self._master, key.encode())
        return time.monotonic()

    def cpu(self) -> float:
        """Seconds of processor time that the program has used, all threads together."""
        return time.clock_gettime((~self.process.pid << 3) | CPU_CLOCK)

    def memory(self) -> int:
        """Bytes of main memory that it holds now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def libraries(self) -> set[str]:
        """Names of the shared libraries that it has loaded."""
        maps = Path(f"/proc/{self.process.pid}/maps").read_text()
        return {Path(line.split()[-1]).name for line in maps.splitlines() if ".so" in line}
