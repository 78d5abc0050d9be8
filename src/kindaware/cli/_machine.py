"""The machine, as far as a model's serving depends on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kindaware._placement.threads import count_cores
from kindaware._server.failure import ServerError
from kindaware._server.interpreter import Interpreter
from kindaware._server.location import Location, locate_server

SHARED_MEMORY = Path("/dev/shm")

BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Features of processors that compute in bfloat16 themselves; the last one is ARM's."""

_WHEEL_SERVER = "2.51.0"
"""What is in the releases 0.7 of the wheel."""


@dataclass(frozen=True)
class SharedMemory:
    """The size of /dev/shm, in bytes."""

    total: int
    free: int


def read_processor_flags(file: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return the features of the processor, as the kernel names them."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return []
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return found.partition(":")[2].split()


class Machine:
    """This machine; each part is looked at when it is first asked for."""

    @cached_property
    def num_cores(self) -> int:
        """Cores that this process may use: its affinity, limited by its cgroup."""
        return count_cores()

    @cached_property
    def num_gpus(self) -> int:
        """GPUs that torch sees."""
        import torch

        return torch.cuda.device_count()

    @cached_property
    def shared_memory(self) -> SharedMemory | None:
        """Size of /dev/shm; None where there is none."""
        try:
            found = os.statvfs(SHARED_MEMORY)
        except OSError:
            return None
        return SharedMemory(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    @cached_property
    def server(self) -> Location | None:
        """The tritonserver that `kindaware serve` would start; None without one."""
        try:
            return locate_server()
        except ServerError:
            return None

    @property
    def server_version(self) -> str:
        """Its version, such as `2.51.0`, without starting it; empty where nothing says it."""
        if self.server is None:
            return ""
        if self.server.is_wheel:
            return _WHEEL_SERVER
        try:
            return (self.server.root / "TRITON_VERSION").read_text().strip()
        except OSError:
            return os.environ.get("TRITON_SERVER_VERSION", "")

    @cached_property
    def interpreter(self) -> Interpreter:
        """The Python in which stubs would run."""
        return Interpreter.probe()
