"""Engines that start in a moment: forked from a process that has their libraries loaded.

Loading torch, transformers and PEFT takes a core six seconds, which is most of what a tiny run
takes. All else is as `launch` does it: a process of its own in a session of its own, with the
run's folder, log, environment and lock, that signals and kills reach. What is lost is that two
engines of one test have hash seeds of their own: tests marked `cold` start theirs the plain way.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rlhf_engine.runs.lock import HANDED_OVER

MOST_BYTES = 1 << 20


class Nursery:
    """A process that forks an engine for each request."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")))
        command = [sys.executable, "-P", "-c", "from tests.engine.warm import main; main()"]
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            )

    def popen(
        self,
        args: Sequence[str],
        *,
        stdout: int,
        cwd: Path,
        pass_fds: Sequence[int],
        env: Mapping[str, str],
        **_: Any,
    ) -> SimpleNamespace:
        """In place of `subprocess.Popen` as `launch` calls it."""
        wish = {"args": args[args.index("rlhf_engine") :], "cwd": str(cwd), "env": dict(env)}
        socket.send_fds(self._socket, [json.dumps(wish).encode()], [stdout, *pass_fds])
        return SimpleNamespace(pid=int(self._socket.recv(MOST_BYTES)))

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


def main() -> None:
    """Load what an engine loads, then fork one for each request until there are no more."""
    from rlhf_engine import __main__ as engine
    from rlhf_engine.memory import compact_heap, expand_segments

    compact_heap()
    expand_segments()
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    import rlhf_engine.work  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        while True:
            wish, files, _, _ = socket.recv_fds(asked, MOST_BYTES, 8)
            if not wish:
                return
            child = os.fork()
            if child == 0:
                break
            for file in files:
                os.close(file)
            asked.send(str(child).encode())
    _become(json.loads(wish), files)
    sys.exit(engine.main())


def _become(wish: dict[str, Any], files: list[int]) -> None:
    """Be the process that was asked for: the log, and the lock if one is handed over."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(wish["cwd"])
    os.environ.clear()
    os.environ.update(wish["env"])
    log, *locks = files
    for standard in (1, 2):
        os.dup2(log, standard)
    os.close(log)
    for lock in locks:
        fcntl.fcntl(lock, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        os.environ[HANDED_OVER] = str(lock)
    sys.argv = list(wish["args"])
