"""`kindaware deploy containerfile`: the command line."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from kindaware.cli._shared_options import OutputFolder, Overwrites, PrintsLine


class Processor(str, Enum):
    """What --machine takes."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"


def deploy_containerfile(
    repository: Annotated[
        Path,
        typer.Argument(
            metavar="REPOSITORY", help="The models, which the image gets a copy of.", show_default=False
        ),
    ],
    output: OutputFolder,
    triton: Annotated[
        str, typer.Option(metavar="YY.MM", help="Release of NVIDIA's image; it says which Python and numpy.")
    ] = "26.07",
    base: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE", help="Another image with a tritonserver on its PATH.", show_default="NVIDIA's"
        ),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(metavar="3.N", help="Python of its stub.", show_default="the release's"),
    ] = None,
    requirements: Annotated[
        list[Path] | None,
        typer.Option(
            "--requirements",
            "-r",
            metavar="FILE",
            help="What the models need, for pip; repeatable.",
            show_default=False,
        ),
    ] = None,
    kindaware: Annotated[
        Path | None,
        typer.Option(
            "--kindaware",
            metavar="PATH",
            help="A clone or a wheel of kindaware.",
            show_default="where this one was installed from",
        ),
    ] = None,
    extras: Annotated[
        list[str] | None,
        typer.Option(
            "--extra",
            metavar="NAME",
            help="An extra of kindaware, such as cli for kindaware watch; repeatable.",
            show_default=False,
        ),
    ] = None,
    machine: Annotated[Processor, typer.Option(help="The image's processor.")] = Processor.X86_64,
    is_forced: Overwrites = False,
    is_json: PrintsLine = False,
) -> None:
    """Write a Containerfile on NVIDIA's image, and lock the packages that go into it."""
    # Here, since the help does without them.
    from kindaware._deployment.release import Release
    from kindaware.cli.deploy._containerfile_session import parse_base, write_image

    write_image(
        repository,
        output,
        parse_base(Release.parse(triton), base, python, machine.value),
        requirements=requirements or (),
        source=kindaware,
        extras=extras or (),
        is_forced=is_forced,
        is_json=is_json,
    )
