"""`codelength explore RUN...`: a page on this machine, to try a run on images."""

from __future__ import annotations

import importlib.util
import socket

import click

from codelength.errors import UsageError


@click.command("explore")
@click.argument("runs", nargs=-1, required=True, type=click.Path())
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of 127.0.0.1; a free one by default.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
def command(runs: tuple[str, ...], port: int, no_browser: bool) -> None:
    """Open a page on the folders RUN..., for this machine only; its address is printed.

    Pick or upload an image and see its code length, map and rank under each run; draw samples, complete half an image.
    """
    if importlib.util.find_spec("nicegui") is None:
        raise UsageError("codelength explore needs NiceGUI; pip install 'codelength[explore]'")
    from codelength.explore.page import HOST, serve
    from codelength.explore.session import Explorer
    from codelength.run import load_run

    explorer = Explorer([load_run(run) for run in runs])
    port = _free_port(HOST, port)
    click.echo(f"http://{HOST}:{port}/")
    click.echo("press Ctrl-C to end", err=True)
    serve(explorer, port, show=not no_browser)


def _free_port(host: str, port: int) -> int:
    """The port, if it is free; a free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"port {port} of {host} cannot be used ({error.strerror}); choose another --port"
            ) from error
        return int(probe.getsockname()[1])
