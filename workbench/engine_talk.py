"""Asking the engine about a preset from a screen: its answers as they come, ended when unwanted."""

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlhf_engine.job.presets import Preset
from workbench.commands import common
from workbench.commands.engine import write_specs

# One answer may hold a whole example of the data.
LINE_BYTES = 64 * 2**20
END_SECONDS = 3.0


class EngineFailed(Exception):
    """The engine ended without an answer; the message is the last thing that it said."""


async def answers(
    module: str, home: Path, preset: Preset, hear: Callable[[str], None]
) -> AsyncGenerator[dict[str, Any], None]:
    """What `python -m MODULE` says of each stage of a preset, an object a line.

    `hear` gets what it says beside that, such as what it downloads. Closing the iterator ends
    the process. Raises EngineFailed if it ended in another way than by having answered.
    """
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        files = write_specs(home, preset, Path(folder))
        process = await asyncio.create_subprocess_exec(
            *common.engine_command(module, *files),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"WORKBENCH_HOME": str(home)},
            limit=LINE_BYTES,
            # Whatever it starts, such as a download, ends with it.
            start_new_session=True,
        )
        assert process.stdout is not None, "a pipe was asked for"
        listening = asyncio.create_task(_listen(process, said, hear))
        count = 0
        try:
            async for line in process.stdout:
                count += 1
                yield json.loads(line)
            await listening
            code = await process.wait()
        finally:
            listening.cancel()
            await _end(process)
    if code not in (0, 1) or count < len(preset.stages):
        raise EngineFailed(said[-1] if said else f"it ended with code {code}")


async def _listen(
    process: asyncio.subprocess.Process, said: list[str], hear: Callable[[str], None]
) -> None:
    assert process.stderr is not None, "a pipe was asked for"
    async for line in process.stderr:
        if text := line.decode("utf-8", errors="replace").strip():
            said[:] = [text]
            hear(text)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Interrupt a process that still works, so that it takes its scratch files along."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), END_SECONDS)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
