"""The command and its subcommands put together."""

from __future__ import annotations

import importlib.metadata
from typing import Annotated

import typer

from kindaware.cli._serve import serve
from kindaware.cli.profile import profile

app = typer.Typer(
    name="kindaware",
    help="Serve PyTorch models from Triton's Python backend, on the device their instance_group asks for.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def run(argv: list[str]) -> None:
    """Run the command; what follows `--` is for the server, and is passed on as the context's object."""
    end = argv.index("--") if "--" in argv else len(argv)
    app(args=argv[:end], obj=tuple(argv[end + 1 :]), prog_name="kindaware")


def _print_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        typer.echo(f"kindaware {importlib.metadata.version('kindaware')}")
        raise typer.Exit


@app.callback()
def _kindaware(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Serve PyTorch models from Triton's Python backend, on the device their instance_group asks for."""


app.command(
    "serve",
    epilog="What follows -- goes to tritonserver unchanged: kindaware serve models -- --log-verbose=1",
)(serve)
app.command(
    "profile", epilog="The model runs in this process, on a stand-in for Triton's module: see docs/profile.md"
)(profile)
