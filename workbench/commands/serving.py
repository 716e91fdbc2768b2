"""The verb `serve`: the screens in a browser."""

import errno
from pathlib import Path

import click

from workbench.commands.common import Unusable, say, with_home


@click.command()
@with_home
@click.option("--host", default="127.0.0.1", help="Address to listen on; else this machine alone.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Else any free one.")
def serve(home: Path, host: str, port: int) -> None:
    """The screens in a browser.

    Listens on this machine alone. From another one, go through a tunnel:
    `ssh -L PORT:127.0.0.1:PORT HOST`, with the port that it prints. Engines go on when it ends.
    """
    from workbench.web import LOOPBACK, WebServer, open_port

    only_here = host in LOOPBACK
    try:
        opened = open_port(host, port)
    except OSError as error:
        raise Unusable(_why(error, host, port)) from None
    if not only_here:
        say(
            f"WARNING: on {host} without a password: whoever reaches this port controls the runs "
            "and starts programs as you.\nLeave --host out and use ssh -L instead."
        )
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"http://{shown}:{opened.getsockname()[1]}")
    say("the screens are there; ctrl+c ends this server, the engines go on")
    WebServer(home, opened, only_here).run()


def _why(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken by another program: choose another one, or leave --port out"
    if error.errno == errno.EACCES:
        return f"port {port} is kept for the system: choose one above 1023, or leave --port out"
    return f"cannot listen on {host}: {error.strerror or error}; leave --host out for this machine"
