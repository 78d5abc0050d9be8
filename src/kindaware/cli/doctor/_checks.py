"""What a doctor looks at: one function for each line of its report."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kindaware._server.failure import ServerError
from kindaware._server.location import locate_server
from kindaware.cli._machine import BF16_FLAGS, Machine, read_processor_flags
from kindaware.cli.doctor._faults import faults_of

Status = Literal["ok", "note", "warning", "error"]
"""`error` prevents serving; `note` is good to know, and nothing to correct."""

_GIB, _MIB = 2**30, 2**20
_DOCKER_DEFAULT_BYTES = 64 * _MIB
"""Of /dev/shm in a container that was started without --shm-size."""

_LEAST_SHARED_BYTES = 16 * _MIB
_PORTS = (8000, 8001, 8002)


@dataclass(frozen=True)
class Line:
    """What a check has found.

    Attributes:
        name: of what was looked at.
        status: see `Status`.
        text: what is there.
        remedy: what to do; empty where all is well.
    """

    name: str
    status: Status
    text: str
    remedy: str = ""


Check = Callable[[Machine], Iterator[Line]]
CHECKS: list[Check] = []
"""In the order of the report."""


def check(function: Check) -> Check:
    """Add a check to the report."""
    CHECKS.append(function)
    return function


@check
def system(machine: Machine) -> Iterator[Line]:
    """Linux, and the version of Python."""
    text = f"{platform.python_version()} ({sys.executable})"
    yield Line("python", "ok", text)
    if sys.platform != "linux":
        yield Line("system", "error", sys.platform, "serve on Linux: Triton runs nowhere else")


@check
def packages(machine: Machine) -> Iterator[Line]:
    """The library's own packages."""
    yield Line("kindaware", "ok", _version("kindaware") or "not installed as a package")
    client = _version("tritonclient")
    if client:
        yield Line("tritonclient", "ok", client)
    else:
        yield Line(
            "tritonclient",
            "warning",
            "not installed: no check, profile, config and infer, and no ModelHarness",
            "pip install 'tritonclient[http,grpc]'",
        )


@check
def torch_build(machine: Machine) -> Iterator[Line]:
    """The version of torch, what it was built for, and the driver."""
    import torch

    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
    has_device = any(Path("/dev").glob("nvidia[0-9]*"))
    if has_device and not torch.version.cuda:
        yield Line(
            "torch",
            "warning",
            f"{torch.__version__}, {built}, and there is a GPU",
            "install a build for CUDA: https://pytorch.org/get-started/locally",
        )
        return
    yield Line("torch", "ok", f"{torch.__version__}, {built}")
    if has_device and not machine.num_gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        yield Line(
            "cuda",
            "warning",
            f"there is a GPU that torch doesn't see; driver {driver_version() or 'not found'}",
            f"unset CUDA_VISIBLE_DEVICES, which is {visible!r}"
            if visible is not None
            else f"update the driver, which must know CUDA {torch.version.cuda}",
        )


@check
def gpus(machine: Machine) -> Iterator[Line]:
    """The GPUs that torch sees."""
    import torch

    if not machine.num_gpus:
        yield Line("gpu", "note", "none: models run on the CPU, and KIND_GPU is refused")
    for ordinal in range(machine.num_gpus):
        found = torch.cuda.get_device_properties(ordinal)
        yield Line(
            f"gpu {ordinal}",
            "ok",
            f"{found.name}, {found.total_memory / _GIB:.0f} GiB, driver {driver_version() or 'unknown'}",
        )


@check
def processor(machine: Machine) -> Iterator[Line]:
    """The cores that may be used, and whether the processor computes in BF16."""
    cores, all_cores = machine.num_cores, os.cpu_count() or machine.num_cores
    limited = f" of {all_cores}, by affinity or cgroup" if cores < all_cores else ""
    yield Line("cores", "ok", f"{cores}{limited}")
    if threads := os.environ.get("OMP_NUM_THREADS"):
        yield Line("threads", "note", f"OMP_NUM_THREADS={threads} sets the threads of every CPU instance")
    flags = set(read_processor_flags())
    names = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8") if name in flags]
    if flags & BF16_FLAGS:
        fast = "BF16 is fast (kindaware.precision bf16-true, or kindaware.optimize auto)"
        yield Line("processor", "ok", f"{', '.join(names)}: {fast}")
    else:
        yield Line("processor", "note", f"{', '.join(names) or platform.machine()}: BF16 is slower than FP32")


@check
def memory(machine: Machine) -> Iterator[Line]:
    """Memory that may be used, by the cgroup."""
    total, available = memory_bytes()
    text = f"{total / _GIB:.1f} GiB, {available / _GIB:.1f} GiB available"
    if available < _GIB:
        yield Line("memory", "warning", text, "each instance has its own copy of the model: free some")
    else:
        yield Line("memory", "ok", text)


@check
def shared_memory(machine: Machine) -> Iterator[Line]:
    """/dev/shm, through which a model's process gets its tensors."""
    found = machine.shared_memory
    if found is None:
        yield Line("/dev/shm", "error", "not there", "mount it: the Python backend keeps its tensors there")
        return
    text = f"{found.total / _MIB:,.0f} MiB, {found.free / _MIB:,.0f} MiB free"
    remedy = "docker run --shm-size=1g; in Kubernetes an emptyDir with medium: Memory at /dev/shm"
    if found.free < _LEAST_SHARED_BYTES:
        yield Line("/dev/shm", "error", text, f"remove what is left in it, or give it more: {remedy}")
    elif found.total <= _DOCKER_DEFAULT_BYTES:
        yield Line("/dev/shm", "warning", f"{text}: large batches won't fit", remedy)
    else:
        yield Line("/dev/shm", "ok", text)


@check
def server(machine: Machine) -> Iterator[Line]:
    """The tritonserver that would be started, and whether its stub can run here."""
    try:
        location = locate_server()
    except ServerError as error:
        text, _, remedy = str(error).partition("; ")
        yield Line("tritonserver", "error", text.partition("got ")[2] or text, remedy)
        return
    version = machine.server_version
    yield Line("tritonserver", "ok", f"{version or 'unknown version'}, {location.origin}: {location.path}")
    yield from _stub(machine)
    for fault in faults_of(version):
        yield Line("known fault", "note", f"before {fault.release}: {fault.text}", fault.remedy)


def _stub(machine: Machine) -> Iterator[Line]:
    location, interpreter = machine.server, machine.interpreter
    assert location is not None, "it was found"
    if not location.is_wheel:
        yield Line(
            "stub",
            "note",
            f"the server's own; this is Python {interpreter.version}, numpy {interpreter.numpy}",
        )
        return
    try:
        interpreter.check_for(location.stubs)
    except ServerError as error:
        text, _, remedy = str(error).rpartition("; ")
        yield Line("stub", "error", text, remedy)
    else:
        yield Line("stub", "ok", f"of Python {interpreter.version}, with numpy {interpreter.numpy}")


@check
def ports(machine: Machine) -> Iterator[Line]:
    """The ports that `kindaware serve` takes."""
    busy = [str(port) for port in _PORTS if _is_busy(port)]
    if busy:
        yield Line(
            "ports",
            "warning",
            f"{', '.join(busy)} taken by another program",
            "kindaware serve --http-port 0 --grpc-port 0 --metrics-port 0 takes free ones",
        )
    else:
        yield Line("ports", "ok", f"{', '.join(map(str, _PORTS))} are free")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def driver_version(file: Path = Path("/proc/driver/nvidia/version")) -> str:
    """Return the version of NVIDIA's driver; empty without one."""
    try:
        found = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", file.read_text())
    except OSError:
        return ""
    return found[1] if found else ""


def memory_bytes(
    meminfo: Path = Path("/proc/meminfo"), cgroup_root: Path = Path("/sys/fs/cgroup")
) -> tuple[int, int]:
    """Return the memory that this process may use and how much of it is available, by host and cgroup."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    total, available = (int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    for limit_file, usage_file in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        limit, usage = _number(cgroup_root / limit_file), _number(cgroup_root / usage_file)
        if limit is not None and limit < total:
            total, available = limit, min(available, limit - (usage or 0))
    return total, max(available, 0)


def _number(file: Path) -> int | None:
    """Return the number in a file; None without one, as for `max`."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _is_busy(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
