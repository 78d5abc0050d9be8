"""The part `memory`: what an instance's process holds, over many requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.servers import start as servers
from benchmarks.servers.load import measure
from benchmarks.servers.repository import Served
from benchmarks.servers.target import Protocol

MODEL = Served("kindaware", "mlp")
CONCURRENCY = 32
NUM_SAMPLES = 20
_KIB = 1024
_STUB = "triton_python_backend_stub"


def run_memory(protocol: Protocol, num_requests: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Send requests to one instance, and read its process's memory from time to time.

    Returns:
        Samples: requests so far; MiB resident; MiB of it that no file backs, which is where a leak shows. And
        by how much the latter grew over the second half.
    """
    samples: list[dict[str, float]] = []
    with servers.triton([MODEL], say) as server:
        target = servers.target_of(server, MODEL, protocol)
        stub = find_stub(server.pid, MODEL.name)
        measure(target, CONCURRENCY, 2.0)
        sent = 0
        while sent < num_requests:
            while sent < num_requests * (len(samples) + 1) / NUM_SAMPLES:
                sent += measure(target, CONCURRENCY, 0.5, settle_seconds=0.0).num_requests
            samples.append({"requests": sent, **read_memory(stub)})
            say(
                "memory: {requests} requests, {resident_mib:.1f} MiB, {anonymous_mib:.1f} anonymous".format(
                    **samples[-1]
                )
            )
    half = samples[len(samples) // 2 :]
    growth = half[-1]["anonymous_mib"] - half[0]["anonymous_mib"]
    return {"model": MODEL.name, "samples": samples, "growth_in_second_half_mib": growth}


def find_stub(server_pid: int, model: str) -> int:
    """Find the process of a model's only instance among the descendants of a server.

    Raises:
        LookupError: there is not exactly one.
    """
    parents = {int(path.name): _parent(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found = []
    for pid in parents:
        command = _command(pid)
        if command and command[0].endswith(_STUB) and f"/{model}/" in " ".join(command):
            ancestor: int | None = pid
            while ancestor and ancestor != server_pid:
                ancestor = parents.get(ancestor)
            found += [pid] if ancestor else []
    if len(found) != 1:
        raise LookupError(f"stubs of {model}: expected 1, got {len(found)}")
    return found[0]


def read_memory(pid: int) -> dict[str, float]:
    """Resident memory of a process, all of it and the part that no file backs, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {
        "resident_mib": int(fields["VmRSS"].split()[0]) / _KIB,
        "anonymous_mib": int(fields["RssAnon"].split()[0]) / _KIB,
    }


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _parent(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
