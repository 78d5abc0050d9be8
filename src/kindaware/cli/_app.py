"""The command and its subcommands put together."""

from __future__ import annotations

import importlib.metadata
from typing import Annotated

import typer

from kindaware.cli._infer import infer
from kindaware.cli._reporting import EXIT_CODES, reported, shows_tracebacks
from kindaware.cli.profile import profile
from kindaware.cli.run import run as run_command
from kindaware.cli.serve import serve

_DEBUG = "--debug"

app = typer.Typer(
    name="kindaware",
    help="Serve PyTorch models from Triton's Python backend, on the device their instance_group asks for.",
    epilog=EXIT_CODES,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(argv: list[str]) -> None:
    """Run the command, and exit with its status.

    What follows `--` is for the server, and is passed on as the context's object. `--debug` may stand
    anywhere before it.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    shows_tracebacks.set(_DEBUG in argv[:end])
    own = [one for one in argv[:end] if one != _DEBUG]
    app(args=own, obj=tuple(argv[end + 1 :]), prog_name="kindaware")


def _print_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        typer.echo(f"kindaware {importlib.metadata.version('kindaware')}")
        raise typer.Exit


@app.callback()
def _kindaware(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Print the traceback of an error too.")] = False,
) -> None:
    """Serve PyTorch models from Triton's Python backend, on the device their instance_group asks for."""


app.command(
    "serve",
    epilog="Examples: kindaware serve models; kindaware serve models/resnet50 --watch; "
    "kindaware serve models --kind CPU --set resnet50.kindaware.precision=bf16-true. "
    "What follows -- goes to tritonserver unchanged: kindaware serve models -- --log-verbose=1",
)(reported("serve", serve))
app.command(
    "infer",
    epilog="Examples: kindaware infer resnet50 -i cat.jpg --top 5; kindaware infer add -i A=[1] -i B=b.npy; "
    "kindaware infer storyteller -i 'Once upon a time'; kindaware infer iris --random --json",
)(reported("infer", infer))
app.command(
    "profile",
    epilog="The model runs in this process, on a stand-in for Triton's module: see "
    "docs/reference/commands/profile.md",
)(reported("profile", profile))
app.command(
    "run",
    epilog="Examples: kindaware run models/resnet50 -i cat.jpg --labels labels.txt; "
    "kindaware run models/iris --random --watch; "
    "kindaware run models/iris --random --kind GPU --accelerator simulated",
)(reported("run", run_command))
