"""What is known of server versions, with what a model's author can do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """Something that servers before a release do wrong.

    Attributes:
        until: the first version without it, such as (2, 52).
        release: the same as the name of a container's release.
        text: what goes wrong.
        remedy: what to do as long as that version is used.
    """

    until: tuple[int, int]
    release: str
    text: str
    remedy: str


FAULTS = (
    Fault(
        (2, 52),
        "24.11",
        "with numpy 2 models get and send wrong data, without an error",
        "keep numpy below 2",
    ),
    Fault(
        (2, 57),
        "25.04",
        "an error in the middle of a called model's stream is lost, and the caller may wait for ever",
        "raise it before the first response, or stream with kindaware in both models",
    ),
    Fault(
        (2, 60),
        "25.08",
        "the server waits for ever for a model whose process dies while it loads",
        "start it with kindaware serve, which watches the processes",
    ),
    Fault(
        (2, 65),
        "26.01",
        "a model whose process has died stays ready, and each batch on it fails after a second",
        "restart the server, or reload the model, when requests fail with UNAVAILABLE or INTERNAL",
    ),
)
"""Those of 2.51 were measured, the releases were read."""


def faults_of(version: str) -> list[Fault]:
    """Return the known faults of a server version, such as `2.51.0`; none for one that can't be read."""
    parts = version.split(".")
    if len(parts) < 2 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return []
    return [one for one in FAULTS if (int(parts[0]), int(parts[1])) < one.until]
