"""The screens in a browser: a page with a terminal, and an app of its own for each page."""

import asyncio
import html
import re
import shlex
import signal
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Stands in the page for the address that it is asked under: through a tunnel that is another one.
NOWHERE = "workbench.invalid"
# The page of textual-serve asks Google for a font that the library also brings along.
_ELSEWHERE = re.compile(r"<link[^>]*https?://(?!workbench\.invalid)[^>]*>")

# Without it the page, once it is there, would hear keys only after a click. An icon that is empty
# is one request less.
_LISTEN = """<link rel="icon" href="data:,"><script>
new MutationObserver((_, watch) => {
  const keys = document.querySelector(".xterm-helper-textarea");
  if (keys && document.body.classList.contains("-first-byte")) { keys.focus(); watch.disconnect(); }
}).observe(document.documentElement, {subtree: true, childList: true, attributes: true});
</script></head>"""


def open_port(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. OSError if that cannot be."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen()
    except OSError:
        opened.close()
        raise
    return opened


class WebServer(Server):
    """Serves the screens of one home on a socket that listens already."""

    def __init__(self, home: Path, opened: socket.socket, only_here: bool) -> None:
        words = [sys.executable, "-P", "-m", "workbench.served", str(home)]
        # `exec`: no shell stays between the server and the app.
        super().__init__(
            f"exec {shlex.join(words)}", title="RLHF Workbench", public_url=f"http://{NOWHERE}"
        )
        self._opened, self._only_here = opened, only_here

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        loop = asyncio.new_event_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.request_exit)
        web.run_app(
            self._make_app(),
            sock=self._opened,
            handle_signals=False,
            shutdown_timeout=5,
            access_log=None,
            print=lambda *_: None,
            loop=loop,
        )

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._refuse_strangers)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """The command says what there is to say."""

    @web.middleware
    async def _refuse_strangers(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Keep other sites, open in the same browser, from reaching the runs through it."""
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text=f"pages of {origin} may not use the workbench")
        if self._only_here and urlsplit(f"//{request.host}").hostname not in LOOPBACK:
            raise web.HTTPForbidden(text=f"open http://127.0.0.1 instead of {request.host}")
        response: web.StreamResponse = await handler(request)
        return response

    async def handle_index(self, request: web.Request) -> web.Response:
        """The page, which asks nothing of any other place."""
        response = await super().handle_index(request)
        assert isinstance(response, web.Response)
        page = _ELSEWHERE.sub("", response.text or "").replace("</head>", _LISTEN)
        response.text = page.replace(f"//{NOWHERE}", f"//{html.escape(request.host)}")
        return response
