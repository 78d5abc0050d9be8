"""What the process of a running server tells."""

from __future__ import annotations

import re
from pathlib import Path


def read_server_option(pid: int, name: str) -> str:
    """Return an option on the command line of a process; empty if it isn't given, or there is none."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
    # Arguments in /proc are separated by NULs; of a repeated option the last one counts.
    values = re.findall(rf"\0{re.escape(name)}[=\0]([^\0]*)", command)
    return values[-1] if values else ""
