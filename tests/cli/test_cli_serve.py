"""`workbench serve`: the page, the screens through its websocket, and who may not have them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from rlhf_engine.runs.lock import is_held

from .fakes import FakeEngine, Workbench, make_run

WORKBENCH = [sys.executable, "-c", "from workbench.cli import main; main()"]


@pytest.fixture
def server(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server on a free port, and its address."""
    process = subprocess.Popen(
        [*WORKBENCH, "serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


def browse(url: str, until: str, keys: str = "") -> str:
    """Open the page's websocket as a browser does; what the app paints until it shows `until`."""

    async def visit() -> str:
        painted = ""
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{url}/ws?width=100&height=30", origin=url) as channel,
        ):
            if keys:
                await channel.send_json(["stdin", keys])
            async for message in channel:
                painted += message.data.decode() if message.type is aiohttp.WSMsgType.BINARY else ""
                if until in painted:
                    return painted
        raise AssertionError(f"closed before {until!r}: {painted[-500:]}")

    return asyncio.run(asyncio.wait_for(visit(), 60))


def status(url: str, **headers: str) -> tuple[int, str]:
    async def ask() -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers=headers) as response,
        ):
            return response.status, await response.text()

    return asyncio.run(ask())


def test_a_browser_sees_the_screens_and_leaves_no_app_behind(
    home: Path, server: tuple[subprocess.Popen[str], str]
) -> None:
    process, url = server
    run = make_run(home, name="busy")
    with FakeEngine(run):
        assert url.startswith("http://127.0.0.1:")
        assert "busy" in browse(url, "busy")
        children = psutil.Process(process.pid).children(recursive=True)
        deadline = time.monotonic() + 30
        while any(child.is_running() for child in children) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not psutil.Process(process.pid).children(recursive=True)

        async def leave_open() -> list[psutil.Process]:
            async with (
                aiohttp.ClientSession() as session,
                session.ws_connect(f"{url}/ws", origin=url) as channel,
            ):
                async for message in channel:
                    if message.type is aiohttp.WSMsgType.BINARY and b"busy" in message.data:
                        break
                apps = psutil.Process(process.pid).children(recursive=True)
                # As ctrl+c does: to the server and to its apps.
                os.killpg(process.pid, signal.SIGINT)
                await asyncio.to_thread(process.wait, 30)
                return apps

        apps = asyncio.run(leave_open())
        assert apps
        assert process.returncode == 0
        assert not psutil.wait_procs(apps, timeout=20)[1]
        assert is_held(run.lock)


def test_the_page_asks_nothing_of_other_places(server: tuple[subprocess.Popen[str], str]) -> None:
    _, url = server
    code, page = status(url)
    assert code == 200
    named = {word.split("/")[2] for word in page.split('"') if "://" in word}
    assert named == {url.removeprefix("http://"), "www.w3.org"}  # the latter names a format
    assert 'rel="icon" href="data:,"' in page
    assert page.index(".xterm-helper-textarea") < page.index("</head>")
    through_a_tunnel = status(url, Host="localhost:9000")[1]
    assert 'data-session-websocket-url="ws://localhost:9000/ws"' in through_a_tunnel


def test_other_sites_in_the_same_browser_are_refused(
    server: tuple[subprocess.Popen[str], str],
) -> None:
    _, url = server
    assert status(f"{url}/ws", Origin="http://evil.example")[0] == 403
    assert status(url, Host="evil.example")[0] == 403


def test_a_taken_port_is_named(workbench: Workbench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = workbench("serve", "--port", str(port))
    assert result.exit_code == 2
    assert f"port {port} is taken" in result.stderr
    assert "--port" in result.stderr


def test_a_host_that_is_not_ours(workbench: Workbench) -> None:
    result = workbench("serve", "--host", "192.0.2.1")
    assert result.exit_code == 2
    assert "cannot listen on 192.0.2.1" in result.stderr


def test_listening_for_others_warns(home: Path) -> None:
    process = subprocess.Popen(
        [*WORKBENCH, "serve", "--host", "0.0.0.0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://0.0.0.0:")
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert "whoever reaches this port controls the runs" in told
