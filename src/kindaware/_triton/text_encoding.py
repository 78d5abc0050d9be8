"""UTF-8 for files and prints in a stub, whose interpreter ignores the environment's locale and uses ASCII.

Names of files and arguments of programs stay ASCII: Python fixes their encoding when it starts.
Source: python_backend `pb_stub.cc`, py::scoped_interpreter; CPython, PyConfig_InitIsolatedConfig.
"""

from __future__ import annotations

import contextlib
import io
import locale
import sys

from kindaware._hooks.interruption import is_stub


def use_utf8() -> None:
    """Make UTF-8 the default encoding of files, and of prints, which reach the server's log line by line.

    Only in a stub whose locale is still that of C.
    """
    if not is_stub():
        return
    if locale.setlocale(locale.LC_CTYPE) in ("C", "POSIX"):
        # Not on every system; then files stay as they are.
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
