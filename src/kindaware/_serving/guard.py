"""Whether this process is a model's: there a call of `serve` would start a server from within a server."""

from __future__ import annotations

import os
from pathlib import PurePath

from kindaware._errors import ConfigError

_STUB = "triton_python_backend_stub"


def refuse_in_stub(program: str = "/proc/self/exe") -> None:
    """Refuse to serve from within a model's process, which imports the module that a class is from.

    Args:
        program: a link to the executable.

    Raises:
        ConfigError: this is the process of a model.
    """
    try:
        name = PurePath(os.readlink(program)).name
    except OSError:
        return
    if name == _STUB:
        raise ConfigError.of(
            "kindaware.serve",
            expected="a call in a program of your own",
            got="one while a server imports the module of a model",
            remedy='put the call under if __name__ == "__main__":, or into another file',
        )
