"""Errors in CUDA's words, and errors for what is not simulated."""

from __future__ import annotations

import torch

from kindaware._errors import message

AcceleratorError: type[Exception] = getattr(torch, "AcceleratorError", RuntimeError)
"""What torch raises for a CUDA error; a class of its own from torch 2.8 on."""

OUTSIDE = message(
    "simulated accelerator",
    expected="to be used inside its harness",
    got="a use outside",
    remedy="move the use into the with block",
)
SECOND = message(
    "simulated accelerator",
    expected="to be the only one in the process",
    got="a second",
    remedy="end the harness with the first one before",
)

_NOT_STICKY = (
    "invalid argument",
    "invalid configuration argument",
    "invalid device function",
    "invalid device ordinal",
    "invalid resource handle",
    "no kernel image is available for execution on the device",
    "out of memory",
    "too many resources requested for launch",
)


def cuda_error(words: str, detail: str = "") -> Exception:
    """Return the error that torch raises for a CUDA error.

    Args:
        words: CUDA's own.
        detail: what happened in the simulation.
    """
    return AcceleratorError(f"CUDA error: {words}" + (f"\n(simulated: {detail})" if detail else ""))


def is_sticky(error: BaseException) -> bool:
    """Return whether an error means that a device is lost: any of CUDA's that does not leave it as it was.

    Source: CUDA Runtime API, "Enumerator for error types": sticky ones leave the process "in an inconsistent
    state", the others don't.
    """
    if not isinstance(error, AcceleratorError) or "CUDA error" not in str(error):
        return False
    words = str(error).partition("CUDA error: ")[2]
    # An error of a capture only loses the capture.
    return not (words.startswith(_NOT_STICKY) or "captur" in words.partition("\n")[0])


def not_on_host(name: str, error: object = "") -> NotImplementedError:
    """Return the error for an operation that CUDA has and the host lacks."""
    return not_simulated(
        expected="an operation that torch has for the CPU too",
        got=f"{name} {error}".strip(),
        remedy="test this model on a real GPU, or keep the operation out of the test",
    )


def not_simulated(*, expected: str, got: str, remedy: str) -> NotImplementedError:
    """Return the error for what a real GPU can do and a simulated one can't."""
    return NotImplementedError(message("simulated accelerator", expected=expected, got=got, remedy=remedy))
