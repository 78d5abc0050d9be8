"""What the rehearsals have in common: what their figures depend on, and a port for a server."""

import importlib.metadata
import os
import platform
import socket
import sys
from datetime import datetime, timezone
from pathlib import Path


def describe_run():
    """Return date, command, machine and versions of a run that begins now. No names of hosts, no paths."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processors = [line.partition(": ")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": {
            "processor": next(iter(processors), platform.machine()),
            "cores": len(os.sched_getaffinity(0)),
            "load_average": round(os.getloadavg()[0], 1),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": importlib.metadata.version("torch"),
        },
    }


def free_port():
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
