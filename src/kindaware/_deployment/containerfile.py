"""The Containerfile: NVIDIA's image, locked packages, the models, a user without rights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kindaware._deployment.pod import USER
from kindaware._deployment.release import Release
from kindaware._deployment.workload import PORTS

CONTEXT = "models"
"""Name of the build context with the models, so that they need not lie beside the Containerfile."""

FOLDER = "/opt/kindaware"
LOCK = "requirements.lock"

Instruction = tuple[str, str]


@dataclass(frozen=True)
class Base:
    """An image with a server, and which packages fit it.

    Attributes:
        image: its name.
        release: of Triton.
        python: version of Python that its stub is built for.
        machine: its processor, such as `x86_64`.
    """

    image: str
    release: Release
    python: str
    machine: str


def make_instructions(base: Base, wheels: Sequence[str]) -> list[Instruction]:
    """Return the instructions of the Containerfile, with their arguments.

    Args:
        base: the default of the argument BASE.
        wheels: names of the files beside it that the lock refers to.
    """
    return [
        ("ARG", f"BASE={base.image}"),
        ("FROM", "${BASE}"),
        # Ubuntu 24.04 marks its Python as its own; in an image there is nobody else to take care of.
        ("ENV", "PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1"),
        ("COPY", " ".join([LOCK, *wheels, f"{FOLDER}/"])),
        # Packages of the distribution can't be uninstalled, only hidden.
        (
            "RUN",
            f"python3 -m pip install --ignore-installed --no-deps --require-hashes -r {FOLDER}/{LOCK}",
        ),
        ("COPY", f"--from={CONTEXT} . /models"),
        ("USER", f"{USER}:{USER}"),
        ("EXPOSE", " ".join(map(str, PORTS.values()))),
        ("CMD", '["tritonserver", "--model-repository=/models"]'),
    ]


def write_containerfile(instructions: Sequence[Instruction], command: str) -> str:
    """Return the text of a Containerfile."""
    lines = [f"# Written by `{command}`; run it again instead of editing this."]
    return "\n".join([*lines, *(f"{name} {arguments}" for name, arguments in instructions), ""])
