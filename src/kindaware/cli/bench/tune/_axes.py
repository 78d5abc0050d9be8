"""Which settings are tried, and with which values: those that make sense on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kindaware._errors import OptionError
from kindaware._placement.threads import count_cores
from kindaware.cli._machine import BF16_FLAGS, read_processor_flags

THREADS, INSTANCES = "kindaware.num_threads", "instance_group.count"
DELAY = "dynamic_batching.max_queue_delay_microseconds"
PRECISION, COMPILE, FORMAT = "kindaware.precision", "kindaware.compile", "kindaware.memory_format"
DEFAULTS = {
    THREADS: "auto",
    INSTANCES: "1",
    DELAY: "0",
    PRECISION: "32-true",
    COMPILE: "off",
    FORMAT: "contiguous",
}
_COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class Axis:
    """A setting, and the values that are tried of it."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """What of the machine decides which settings make sense.

    Attributes:
        num_cores: that this process may use.
        has_bf16: whether the processor computes in bfloat16 itself.
        has_compiler: whether there is a C++ compiler, which `torch.compile` needs.
    """

    num_cores: int
    has_bf16: bool
    has_compiler: bool

    @classmethod
    def detect(cls, cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
        """Look at this machine."""
        compilers = [os.environ.get("CXX"), *_COMPILERS]
        return cls(
            num_cores=count_cores(),
            has_bf16=not BF16_FLAGS.isdisjoint(read_processor_flags(cpuinfo)),
            has_compiler=any(shutil.which(one) for one in compilers if one),
        )


def make_axes(config: Mapping[str, Any], machine: Machine, *, is_kindaware: bool) -> list[Axis]:
    """Return what to try of a model, what is likely to gain most first.

    Args:
        config: the model's, completed by the server.
        machine: where it runs.
        is_kindaware: whether the model reads `kindaware.*` parameters.
    """
    groups = config.get("instance_group", ())
    on_gpu = any(str(one.get("kind")) == "KIND_GPU" for one in groups)
    axes = []
    if is_kindaware:
        if on_gpu or machine.has_bf16:
            half = ("16-mixed", "16-true") if on_gpu else ()
            axes.append(Axis(PRECISION, ("32-true", "bf16-mixed", "bf16-true", *half)))
        if any(_is_picture(one) for one in config.get("input", ())):
            axes.append(Axis(FORMAT, ("contiguous", "channels_last")))
    if len(groups) <= 1:  # several groups are of the author's own making
        axes.append(Axis(INSTANCES, ("1", "2") if on_gpu else _powers(machine.num_cores)))
    if is_kindaware:
        if not on_gpu:
            axes.append(Axis(THREADS, ("auto", *_powers(machine.num_cores))))
        if machine.has_compiler:
            axes.append(Axis(COMPILE, ("off", "default") if on_gpu else ("off", "default", "frozen")))
    if int(config.get("max_batch_size", 0)) > 1 and "ensemble_scheduling" not in config:
        axes.append(Axis(DELAY, ("0", "500", "2000", "5000")))
    return axes


def with_given(axes: Sequence[Axis], given: Sequence[Axis]) -> list[Axis]:
    """Return the axes with the given ones in their place, or after them."""
    return list({axis.key: axis for axis in [*axes, *given]}.values())


def parse_axes(options: Sequence[str]) -> list[Axis]:
    """Read `--try KEY=VALUE|VALUE`.

    Raises:
        OptionError: an option is not of that form.
    """
    found = []
    for option in options:
        key, _, values = option.partition("=")
        if not (key and values and all(values.split("|"))):
            raise OptionError.of(
                f"--try {option}",
                expected="a setting and the values to try",
                got=repr(option),
                remedy="write it like --try 'kindaware.precision=32-true|bf16-true'",
            )
        found.append(Axis(key, tuple(values.split("|"))))
    return found


def makes_sense(settings: Mapping[str, str], machine: Machine) -> bool:
    """Return whether instances and threads together are no more than the cores."""
    threads = settings.get(THREADS, "auto")
    count = int(settings.get(INSTANCES, "1"))
    return not threads.isdecimal() or count == 1 or count * int(threads) <= machine.num_cores


def _powers(most: int) -> tuple[str, ...]:
    """Return 1, 2, 4 and so on, up to the number and with it."""
    numbers = [2**power for power in range(most.bit_length()) if 2**power < most]
    return tuple(map(str, [*numbers, most]))


def _is_picture(tensor: Mapping[str, Any]) -> bool:
    return len(tensor.get("dims", ())) == 3 and str(tensor.get("data_type")) in ("TYPE_FP32", "TYPE_FP16")
