"""Who a KeyboardInterrupt comes from: somebody who stops a test, or a hook on a server."""

from __future__ import annotations

import sys

_STUB_ONLY = "c_python_backend_utils"


def is_stub() -> bool:
    """Whether this is a process of Triton's Python backend: only these have the C++ module built in.

    Source: python_backend `pb_stub.cc`, PYBIND11_EMBEDDED_MODULE.
    """
    return _STUB_ONLY in sys.builtin_module_names


def stops_test(error: BaseException) -> bool:
    """Return whether an error is that of somebody who stops a test.

    In a stub a hook has raised it, which fails its own request, as SystemExit does.
    """
    # Not isinstance, which asks an error for its class, if it is of another.
    return issubclass(type(error), KeyboardInterrupt) and not is_stub()
