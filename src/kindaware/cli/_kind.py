"""The options --kind and --device-id."""

from __future__ import annotations

from enum import Enum

from kindaware._errors import OptionError


class Kind(str, Enum):
    """What --kind takes of a command that loads the model itself."""

    CPU = "CPU"
    GPU = "GPU"
    MODEL = "MODEL"


class ServerKind(str, Enum):
    """What --kind takes of a command that starts a server."""

    CPU = "CPU"


def read_device_id(device_id: int | None, kind: Kind | None) -> int:
    """Return the ordinal of the GPU that an instance gets.

    Raises:
        OptionError: it is given for an instance that --kind doesn't put on a GPU.
    """
    if device_id is not None and kind is not Kind.GPU:
        raise OptionError.of(
            f"--device-id {device_id}",
            expected="--kind GPU with it",
            got="none" if kind is None else f"--kind {kind.value}",
            remedy="add --kind GPU, or leave --device-id out",
        )
    return device_id or 0
