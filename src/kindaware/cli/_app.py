"""The command and its subcommands put together."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from kindaware.cli._infer import infer
from kindaware.cli._reporting import EXIT_CODES, INTERRUPTED, WRONG_COMMAND_LINE, reported, shows_tracebacks
from kindaware.cli.bench._command import bench
from kindaware.cli.check import check
from kindaware.cli.config import config
from kindaware.cli.deploy import deploy_containerfile, deploy_kubernetes, deploy_ray
from kindaware.cli.doctor import doctor
from kindaware.cli.new import new
from kindaware.cli.profile import profile
from kindaware.cli.run import run as run_command
from kindaware.cli.serve import serve
from kindaware.cli.size import size
from kindaware.cli.watch import watch

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
    debug: Annotated[bool, typer.Option(_DEBUG, help="Also print the traceback of an error.")] = False,
) -> None:
    """Serve PyTorch models from Triton's Python backend, on the device their instance_group asks for."""


@dataclass(frozen=True)
class _Command:
    """A command as it is listed.

    Attributes:
        function: what it does.
        short: a help of one line.
        examples: what is typed in.
        endings: what exit codes mean; 2 and 130 by default what they mean everywhere.
    """

    function: Callable[..., None]
    short: str
    examples: Sequence[str]
    endings: Mapping[int, str]

    @property
    def epilog(self) -> str:
        """What its help ends with."""
        return _epilog(self.examples, self.endings)


@dataclass(frozen=True)
class _Group:
    """Commands under a common name.

    Attributes:
        commands: by the second word of the command line.
        short: a help of one line.
        endings: what exit codes mean.
    """

    commands: Mapping[str, _Command]
    short: str
    endings: Mapping[int, str]

    @property
    def epilog(self) -> str:
        """What its help ends with: an example of each command."""
        return _epilog([command.examples[0] for command in self.commands.values()], self.endings)


def _epilog(examples: Sequence[str], endings: Mapping[int, str]) -> str:
    endings = {WRONG_COMMAND_LINE: "the command line is wrong", INTERRUPTED: "Ctrl-C", **endings}
    lines = [f"  {code:<3}  {meaning}" for code, meaning in sorted(endings.items())]
    # \b keeps the lines of a paragraph.
    return "\n".join(["\b", "Examples:", *(f"  {one}" for one in examples), "", "\b", "Exit codes:", *lines])


_WRITTEN = {0: "the files were written", 1: "they are there already, or the models can't be deployed so"}

_COMMANDS: dict[str, _Command] = {
    "new": _Command(
        new,
        "Create a model's directory, ready to serve.",
        [
            "kindaware new iris",
            "kindaware new resnet18 --from torchvision.models:resnet18",
            "kindaware new mine --from mypackage.nets:Net --example 3x64x64",
            "kindaware new chat --task stream",
            "kindaware new ported --from old/1/model.py",
        ],
        {0: "the directory was made", 1: "it is there already, or the source can't be served"},
    ),
    "check": _Command(
        check,
        "Find mistakes in a model, without a server.",
        [
            "kindaware check models",
            "kindaware check models/resnet50 --kind CPU",
            "kindaware check models --strict --json",
        ],
        {0: "no errors, and with --strict no warnings", 1: "there are some, or there is no model"},
    ),
    "run": _Command(
        run_command,
        "Run a model once, without a server.",
        [
            "kindaware run models/resnet50 -i cat.jpg --labels labels.txt",
            "kindaware run models/iris --random --watch",
            "kindaware run models/iris --random --kind GPU --accelerator simulated",
        ],
        {
            0: "every request was answered; with --watch after Ctrl-C too",
            1: "the model, an input or a request failed",
        },
    ),
    "serve": _Command(
        serve,
        "Serve models with a real tritonserver.",
        [
            "kindaware serve models",
            "kindaware serve models --watch",
            "kindaware serve models --set resnet50.kindaware.precision=bf16-true",
            "kindaware serve models -- --log-verbose=1   # what follows -- goes to tritonserver",
        ],
        {
            0: "stopped by Ctrl-C or SIGTERM",
            1: "the server did not start, or ended by itself, or a model was given up",
            130: "Ctrl-C before the server is started",
        },
    ),
    "watch": _Command(
        watch,
        "Load dead models of a running server again.",
        [
            "kindaware watch localhost:8000",
            "kindaware watch localhost:8000 --host 0.0.0.0 --hang-seconds 30",
            "kindaware watch localhost:8000 --no-heal   # only /healthz",
        ],
        {
            0: "stopped by Ctrl-C or SIGTERM",
            1: "the server can't be watched, or with --exit-on-give-up a model was given up",
            130: "Ctrl-C before it listens",
        },
    ),
    "infer": _Command(
        infer,
        "Send a request to a running server.",
        [
            "kindaware infer resnet50 -i cat.jpg --top 5",
            "kindaware infer add -i A=[1] -i B=b.npy",
            "kindaware infer storyteller -i 'Once upon a time'",
            "kindaware infer iris --random --json",
        ],
        {0: "the request was answered", 1: "it failed, or the server can't be reached"},
    ),
    "bench": _Command(
        bench,
        "Measure throughput and latency under load.",
        [
            "kindaware bench localhost:8001 --model resnet50",
            "kindaware bench models/net -c 1,8 --plot net.png",
            "kindaware bench localhost:8001 --rate 50,100 --json",
            "kindaware bench models/net --compare kindaware.num_threads=1",
            "kindaware bench models/net --tune --latency-ms 50",
        ],
        {0: "every request was answered", 1: "one was not, or the measurement failed"},
    ),
    "size": _Command(
        size,
        "Say how many replicas a load needs.",
        [
            "kindaware size models/net --rate 2000 --p99-ms 50",
            "kindaware size models/net --rate 2000 --p99-ms 50 --instances 1,2,4 --cost-per-hour 1.20",
            "kindaware size localhost:8001 --model net --rate 500 --p99-ms 50 --verify-seconds 20",
        ],
        {0: "the plan was made", 1: "the model can't be measured, or can't keep the limit"},
    ),
    "profile": _Command(
        profile,
        "Show where execute spends its time.",
        [
            "kindaware profile models/resnet50",
            "kindaware profile models/resnet50 --rows 4",
        ],
        {0: "the profile was made", 1: "the model, an input or a request failed"},
    ),
    "config": _Command(
        config,
        "Write config.pbtxt from what model.py declares.",
        [
            "kindaware config models/resnet50",
            "kindaware config models/resnet50 --write",
            "kindaware config models/resnet50 --check   # in a test, or a hook of git",
        ],
        {0: "done, and with --check without a difference", 1: "they differ, or the model can't be read"},
    ),
    "doctor": _Command(
        doctor,
        "Check whether this machine can serve models.",
        ["kindaware doctor", "kindaware doctor --json"],
        {0: "models can be served here", 1: "there is an error"},
    ),
}
"""By name, in the order in which they are met."""


_DEPLOY_COMMANDS: dict[str, _Command] = {
    "ray": _Command(
        deploy_ray,
        "Write a Serve config for a Ray cluster.",
        [
            "kindaware deploy ray models --replicas 2 --output deployment",
            "kindaware deploy ray models --max-replicas 4 --cpus 2 -o deployment",
            "kindaware deploy ray models --gpus 1 -o deployment --force",
        ],
        _WRITTEN,
    ),
    "kubernetes": _Command(
        deploy_kubernetes,
        "Write a kustomize base and overlays for Kubernetes.",
        [
            "kindaware deploy kubernetes models --image registry.example.com/models:1 --output deployment",
            "kindaware deploy kubernetes models --image models:1 --triton 25.06 -o deployment",
            "kindaware deploy kubernetes models --image models:1 --shape X:512 -o deployment",
        ],
        _WRITTEN,
    ),
    "containerfile": _Command(
        deploy_containerfile,
        "Write a Containerfile with locked packages.",
        [
            "kindaware deploy containerfile models --output image",
            "kindaware deploy containerfile models --triton 25.06 -r requirements.txt -o image",
        ],
        _WRITTEN,
    ),
}
"""Those of `kindaware deploy`."""

GROUPS: dict[str, _Group] = {
    "deploy": _Group(_DEPLOY_COMMANDS, "Write files that serve models on several machines.", _WRITTEN),
}
"""Commands with commands of their own, by name; listed after the others."""


def _add(to: typer.Typer, commands: Mapping[str, _Command], *, prefix: str = "") -> None:
    for name, command in commands.items():
        run_it = reported(prefix + name, command.function)
        to.command(name, short_help=command.short, epilog=command.epilog)(run_it)


_add(app, _COMMANDS)
for _name, _group in GROUPS.items():
    _subcommands = typer.Typer(
        help=_group.short,
        epilog=_group.epilog,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    _add(_subcommands, _group.commands, prefix=f"{_name} ")
    app.add_typer(_subcommands, name=_name, short_help=_group.short)
