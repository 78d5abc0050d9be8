"""One simulated GPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kindaware.testing.accelerator._memory import DeviceMemory
from kindaware.testing.accelerator._random import DeviceRandom
from kindaware.testing.accelerator._timeline import Stream

if TYPE_CHECKING:
    from kindaware.testing.accelerator._graphs import Capture


@dataclass
class Device:
    """One simulated GPU.

    Attributes:
        ordinal: its number.
        memory: its allocator.
        random: its random numbers.
        error: what it was lost by; None while it works.
        captures: what is being captured, by stream.
    """

    ordinal: int
    memory: DeviceMemory
    random: DeviceRandom = field(default_factory=DeviceRandom)
    error: Exception | None = None
    captures: dict[Stream, Capture] = field(default_factory=dict)
