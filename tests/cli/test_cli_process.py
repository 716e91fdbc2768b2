"""The command line as a process: what it imports, broken pipes, Ctrl+C."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from .fakes import FakeEngine, finished_run, make_run

WORKBENCH = [sys.executable, "-c", "from workbench.cli import main; main()"]


def test_the_command_line_imports_neither_torch_nor_textual(home: Path) -> None:
    finished_run(home)
    script = (
        "import sys\nfrom workbench.cli import main\n"
        "main(['ls'], standalone_mode=False)\nmain(['doctor'], standalone_mode=False)\n"
        "print({'torch', 'textual', 'transformers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_reader_that_has_enough_is_no_error(home: Path) -> None:
    run = make_run(home)
    with FakeEngine(run):
        process = subprocess.Popen(
            [*WORKBENCH, "tail", run.id, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_ctrl_c_leaves_without_a_traceback_and_the_run_goes_on(home: Path) -> None:
    run = make_run(home)
    with FakeEngine(run):
        process = subprocess.Popen(
            [*WORKBENCH, "tail", run.id], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert process.returncode == 130
    assert err.strip() == b""


def test_a_terminal_without_utf_8_gets_signs_that_it_has(home: Path) -> None:
    run = finished_run(home)
    environ = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [*WORKBENCH, "metrics", run.id], capture_output=True, text=True, env=environ, check=True
    )
    assert done.stdout.splitlines()[2].split()[2] == "-"
