"""The command and its subcommands put together."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Annotated

import typer

from kindaware.cli._infer import infer
from kindaware.cli._reporting import EXIT_CODES, reported, shows_tracebacks
from kindaware.cli.bench._command import bench
from kindaware.cli.check import check
from kindaware.cli.config import config
from kindaware.cli.doctor import doctor
from kindaware.cli.new import new
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


_COMMANDS: dict[str, tuple[Callable[..., None], str, list[str]]] = {
    "new": (
        new,
        "Make a model's directory, ready to serve.",
        [
            "kindaware new iris",
            "kindaware new resnet18 --from torchvision.models:resnet18",
            "kindaware new mine --from mypackage.nets:Net --example 3x64x64",
            "kindaware new chat --task stream",
            "kindaware new ported --from old/1/model.py",
        ],
    ),
    "check": (
        check,
        "Say what is wrong with a model, without a server.",
        [
            "kindaware check models",
            "kindaware check models/resnet50 --kind CPU",
            "kindaware check models --strict --json",
        ],
    ),
    "run": (
        run_command,
        "Run a model once, without a server.",
        [
            "kindaware run models/resnet50 -i cat.jpg --labels labels.txt",
            "kindaware run models/iris --random --watch",
            "kindaware run models/iris --random --kind GPU --accelerator simulated",
        ],
    ),
    "serve": (
        serve,
        "Serve models with a real tritonserver.",
        [
            "kindaware serve models",
            "kindaware serve models --watch",
            "kindaware serve models --set resnet50.kindaware.precision=bf16-true",
            "kindaware serve models -- --log-verbose=1   # what follows -- goes to tritonserver",
        ],
    ),
    "infer": (
        infer,
        "Send a request to a running server.",
        [
            "kindaware infer resnet50 -i cat.jpg --top 5",
            "kindaware infer add -i A=[1] -i B=b.npy",
            "kindaware infer storyteller -i 'Once upon a time'",
            "kindaware infer iris --random --json",
        ],
    ),
    "bench": (
        bench,
        "Measure throughput and latency under load.",
        [
            "kindaware bench localhost:8001 --model resnet50",
            "kindaware bench models/net -c 1,8 --plot net.png",
            "kindaware bench localhost:8001 --rate 50,100 --json",
            "kindaware bench models/net --compare kindaware.num_threads=1",
            "kindaware bench models/net --tune --latency-ms 50",
        ],
    ),
    "profile": (
        profile,
        "Show where execute spends its time.",
        [
            "kindaware profile models/resnet50",
            "kindaware profile models/resnet50 --rows 4",
        ],
    ),
    "config": (
        config,
        "Write config.pbtxt from what model.py declares.",
        [
            "kindaware config models/resnet50",
            "kindaware config models/resnet50 --write",
            "kindaware config models/resnet50 --check   # in a test, or a hook of git",
        ],
    ),
    "doctor": (
        doctor,
        "Say what this machine has for serving.",
        ["kindaware doctor", "kindaware doctor --json"],
    ),
}
"""By name, in the order in which they are met: the function, a short help, and what is typed in."""


def _epilog(examples: list[str]) -> str:
    # \b keeps the lines of a paragraph.
    return "\b\nExamples:\n" + "\n".join(f"  {one}" for one in examples)


for _name, (_command, _short, _examples) in _COMMANDS.items():
    app.command(_name, short_help=_short, epilog=_epilog(_examples))(reported(_name, _command))
