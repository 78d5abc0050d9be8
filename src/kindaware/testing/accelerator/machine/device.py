"""One simulated GPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kindaware.testing.accelerator.machine.memory import DeviceMemory
from kindaware.testing.accelerator.machine.random import DeviceRandom
from kindaware.testing.accelerator.machine.timeline import Stream

if TYPE_CHECKING:
    from kindaware.testing.accelerator.machine.graphs import Capture
    from kindaware.testing.accelerator.machine.processes import Process


@dataclass
class Device:
    """One simulated GPU.

    Attributes:
        ordinal: its number.
        memory: its allocator.
        random: its random numbers.
        errors: what it was lost by, for each process that has lost it, and under None for everybody.
        captures: what is being captured, by stream.
    """

    ordinal: int
    memory: DeviceMemory
    random: DeviceRandom = field(default_factory=DeviceRandom)
    errors: dict[Process | None, Exception] = field(default_factory=dict)
    captures: dict[Stream, Capture] = field(default_factory=dict)

    def lose(self, error: Exception, process: Process | None) -> None:
        """Note what it was lost by, and forget what is being captured."""
        self.errors.setdefault(process, error)
        lost = [
            stream for stream in self.captures if process is None or stream in process.streams(self.ordinal)
        ]
        for stream in lost:
            del self.captures[stream]

    def error_of(self, process: Process) -> Exception | None:
        """Give what it was lost by for a process; never for the server's."""
        return None if process.is_server else self.errors.get(None) or self.errors.get(process)
