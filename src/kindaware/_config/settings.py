"""The settings: class attributes, overridden by `kindaware.*` parameters in config.pbtxt."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from kindaware._errors import ConfigError

PREFIX = "kindaware."
RELOADS = PREFIX + "reloads"
"""Not a setting: the library writes this parameter into the configuration when it requests a reload."""

PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "16-mixed", "16-true")
MEMORY_FORMATS = ("contiguous", "channels_last")
MAX_THREADS = 2**15 - 1
AUTO = "auto"
FROZEN = "frozen"
ERROR_DETAILS = ("message", "full", "id")
COMPILE_MODES = ("off", "default", "reduce-overhead", "max-autotune", FROZEN)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Settings:
    """The settings in effect; see docs/reference/settings.md.

    Attributes:
        on_missing_gpu: `error`, or `cpu` to fall back to the CPU if the requested GPU isn't visible.
        model_devices: for KIND_MODEL: `all`, `round_robin`, `cpu`, or devices such as `cuda:0,cuda:1`; None
            if unset.
        num_threads: torch's intra-op threads on the CPU: a number, `share` for an equal share of the cores,
            or None for `auto`: as many of that share as make a CPU instance faster.
        wait_policy: `passive` to let torch's CPU threads sleep while they wait, or `default`.
        keep_memory: `on` to let a process on the CPU reuse the memory of one forward for the next, `off`, or
            `auto` for `on` unless the environment tunes malloc.
        primitive_cache: maximum number of oneDNN's primitives that a process keeps; None for `auto`.
        move_modules: whether modules are moved to the instance's device; False if `load` has placed them.
        precision: one of `PRECISIONS`, Lightning's names.
        inference_mode: whether hooks compute in torch's inference mode; False for no_grad alone.
        memory_format: `contiguous` or `channels_last`.
        compile: `off`, a mode of `torch.compile`, or `frozen` for its default mode with weights as constants.
        compile_cache: whether modules on the CPU are compiled ahead of time, into the cache on disk.
        optimize: `auto` to try precision, memory format, compilation and threads when an instance on the CPU
            loads, and keep what is fastest; or `off`.
        tolerance: largest error of an output that `optimize` may accept of another precision, in parts of the
            output's largest value; None for FP32 only.
        cuda_graphs: batch sizes, in rows, for which `forward`, or what `step` calls, gets a CUDA graph,
            ascending; empty for `off`.
        output_device: `cpu`, or `instance` to leave the outputs of a GPU instance on its GPU.
        pinned_limit_bytes: maximum pinned host memory, in bytes, that a GPU instance keeps for staging.
        overlap_calls: whether a GPU instance reads the next call, and answers the last, while the device
            computes one.
        warmup: batch sizes, in rows, to run once before the instance is ready; empty for `off`, None if
            unset.
        cast_outputs: whether an output of another dtype is converted to the declared one.
        allow_response_cache: whether the configuration may have `response_cache`.
        reload_on_fault: whether the server is asked to reload the model after a device fault.
        metrics: whether the instance's counters are exported on Triton's `/metrics`.
        tracing: whether requests, stages and hooks get spans of OpenTelemetry.
        cancellation: `on` to drop cancelled requests before their batch is formed, `off`, or `auto` for `on`
            if forwards take long enough to justify the cost of asking.
        isolate_errors: whether a batch on which `forward` raises is halved to find the offending requests.
        max_isolation: largest share of an instance's time that may go into that; 1 for no bound.
        pad: fill value by input name for inputs of different sizes, as written; None for no padding.
        unpad: for each output of variable size, the inputs, padded by `pad` or `collate`, that its dimensions
            of -1 are as long as; None for a dimension that follows none.
        max_padding: the largest share of a batch that may be padding; None for `auto`: as much as takes less
            time than a further forward.
        max_rows_per_forward: most rows of one forward, `auto` to measure it in the warm-up; None for no limit
            but `max_batch_size`.
        max_streams: maximum number of streams, of an asynchronous `stream` or of `step`, that run at once.
        max_begins_per_step: most requests that `begin` between two steps.
        items_per_response: most items of a stream that share a response.
        drain_seconds: how long `unload` lets the streams of `step` go on, in seconds.
        max_stream_bytes: most bytes that the items of one stream may come to; 0 for no limit.
        max_sequences: maximum number of sequences whose state an instance keeps.
        error_detail: what clients read of an exception: `message` for its class and text without paths,
            `full` for its text as it is and the line that raised it, or `id` for its id in the log alone.
    """

    on_missing_gpu: str = "error"
    model_devices: str | None = None
    num_threads: int | str | None = None
    wait_policy: str = "default"
    keep_memory: str = "auto"
    primitive_cache: int | None = None
    move_modules: bool = True
    precision: str = "32-true"
    inference_mode: bool = True
    memory_format: str = "contiguous"
    compile: str = "off"
    compile_cache: bool = False
    optimize: str = "off"
    tolerance: float | None = None
    cuda_graphs: tuple[int, ...] = ()
    output_device: str = "cpu"
    pinned_limit_bytes: int = 256 * 2**20
    overlap_calls: bool = False
    warmup: tuple[int, ...] | None = None
    cast_outputs: bool = False
    allow_response_cache: bool = False
    reload_on_fault: bool = False
    metrics: bool = True
    tracing: bool = False
    cancellation: str = "auto"
    isolate_errors: bool = True
    max_isolation: float = 0.5
    pad: Mapping[str, Any] | None = None
    unpad: Mapping[str, tuple[str | None, ...]] | None = None
    max_padding: float | None = None
    max_rows_per_forward: int | str | None = None
    max_streams: int = 64
    max_begins_per_step: int = 4
    items_per_response: int = 1
    drain_seconds: int = 5
    max_stream_bytes: int = 256 * 2**20
    max_sequences: int = 1024
    error_detail: str = "message"

    @property
    def keeps_outputs(self) -> bool:
        """Whether the outputs of a GPU instance stay on its GPU."""
        return self.output_device == "instance"

    @classmethod
    def resolve(
        cls,
        attributes: Mapping[str, Any],
        parameters: Mapping[str, str],
        *,
        known: Collection[str] = (),
    ) -> Settings:
        """Merge the class's settings with those in config.pbtxt, which take precedence.

        Args:
            attributes: setting names and values from the class.
            parameters: the configuration's `parameters`; keys without the prefix `kindaware.` are ignored.
            known: names of the settings that this kind of model has; empty for all of them.

        Raises:
            ConfigError: a `kindaware.*` key is unknown, or a value is not allowed.
        """
        values = {}
        known = known or SETTING_NAMES
        # An attribute is checked even where a parameter overrides it, so that the class is right on its own.
        for name, value in attributes.items():
            values[name] = _read(name, value, f"setting {name!r}")
        for key, text in parameters.items():
            # Also matches near misses such as Kind_Aware_warmup, which would otherwise be silently ignored.
            if key != RELOADS and re.match(r"kind_?aware[\W_]", key, re.IGNORECASE):
                name = key.removeprefix(PREFIX)
                if not key.startswith(PREFIX) or name not in known:
                    raise _unknown(key, known)
                values[name] = _read(name, text, f"parameter {key!r}")
        return cls(**values)

    def changed(self) -> frozenset[str]:
        """Return the names of the settings that don't have their default values."""
        return frozenset(one.name for one in fields(self) if getattr(self, one.name) != one.default)


class PlacementSettings:
    """The settings of `DevicePlacement` as class attributes, so that editors and type checkers know them."""

    on_missing_gpu: ClassVar[str] = "error"
    model_devices: ClassVar[str | None] = None
    num_threads: ClassVar[int | str] = "auto"
    wait_policy: ClassVar[str] = "default"


class ModelSettings:
    """The settings that `KindAwareModel` has beyond those of `DevicePlacement`, as class attributes."""

    keep_memory: ClassVar[str] = "auto"
    primitive_cache: ClassVar[int | str] = "auto"
    move_modules: ClassVar[bool] = True
    precision: ClassVar[str] = "32-true"
    inference_mode: ClassVar[bool] = True
    memory_format: ClassVar[str] = "contiguous"
    compile: ClassVar[str] = "off"
    compile_cache: ClassVar[bool] = False
    optimize: ClassVar[str] = "off"
    tolerance: ClassVar[float | None] = None
    cuda_graphs: ClassVar[str | Sequence[int]] = "off"
    output_device: ClassVar[str] = "cpu"
    pinned_limit_bytes: ClassVar[int] = 256 * 2**20
    overlap_calls: ClassVar[bool] = False
    warmup: ClassVar[str | Sequence[int] | None] = None
    cast_outputs: ClassVar[bool] = False
    allow_response_cache: ClassVar[bool] = False
    reload_on_fault: ClassVar[bool] = False
    metrics: ClassVar[bool] = True
    tracing: ClassVar[bool] = False
    cancellation: ClassVar[str] = "auto"
    isolate_errors: ClassVar[bool] = True
    max_isolation: ClassVar[float] = 0.5
    pad: ClassVar[str | Mapping[str, Any] | None] = None
    unpad: ClassVar[str | Mapping[str, str | Sequence[str | None] | None] | None] = None
    max_padding: ClassVar[float | str] = "auto"
    max_rows_per_forward: ClassVar[int | str] = "off"
    max_streams: ClassVar[int] = 64
    max_begins_per_step: ClassVar[int] = 4
    items_per_response: ClassVar[int] = 1
    drain_seconds: ClassVar[int] = 5
    max_stream_bytes: ClassVar[int] = 256 * 2**20
    max_sequences: ClassVar[int] = 1024
    error_detail: ClassVar[str] = "message"


def _unknown(key: str, known: Collection[str]) -> ConfigError:
    """Return the error for a key that isn't a setting; it lists the nearest setting first."""
    # All of the key's last part, so that the prefix, which is in all of them, doesn't count.
    name = re.sub(r"(?i)^kind_?aware[\W_]", "", key)
    is_elsewhere = name in SETTING_NAMES and name not in known
    nearest = [] if is_elsewhere else difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    names = [*nearest, *(one for one in known if one not in nearest)]
    return ConfigError.of(
        f"parameter {key!r}",
        expected=f"a setting out of {PREFIX}" + ", ".join(names),
        got=repr(key),
        remedy="correct the key in config.pbtxt"
        + (f": did you mean {PREFIX}{nearest[0]}?" if nearest else ""),
    )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Parser:
    """How a setting is read.

    Attributes:
        allowed: the allowed values, in the words of an error message.
        parse: converts a value, or raises ValueError or TypeError.
    """

    allowed: str
    parse: Callable[[Any], Any]


def _read(name: str, value: object, subject: str) -> Any:
    parser = _PARSERS[name]
    try:
        return parser.parse(value)
    except (ValueError, TypeError):
        raise ConfigError.of(
            subject, expected=parser.allowed, got=repr(value)[:80], remedy=f"correct {name}"
        ) from None


def _choice(*allowed: str) -> _Parser:
    def parse(value: object) -> object:
        if value not in allowed:
            raise ValueError
        return value

    return _Parser("one of " + ", ".join(allowed), parse)


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError


def _whole_number(value: object, lowest: int) -> int:
    # Parameters of config.pbtxt are always strings; the length bound spares int() a megabyte of digits.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if type(value) is not int or value < lowest:
        raise ValueError
    return value


def _num_threads(value: object) -> int | str | None:
    # None, since the class attribute may be set to the default of `Settings`.
    if value in ("auto", None):
        return None
    if value == "share":
        return "share"
    number = _whole_number(value, 1)
    if number > MAX_THREADS:
        raise ValueError
    return number


def _tolerance(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError
    return number


def _primitive_cache(value: object) -> int | None:
    return None if value in ("auto", None) else _whole_number(value, 0)


def _sizes(value: object) -> tuple[int, ...]:
    if value == "off":
        return ()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    elif isinstance(value, int):
        value = [value]
    if not isinstance(value, Sequence):
        raise TypeError
    return tuple(_whole_number(size, 1) for size in value)


def _warmup(value: object) -> tuple[int, ...] | None:
    return None if value is None else _sizes(value)


def _model_devices(value: object) -> str | None:
    if value in (None, "all", "round_robin", "cpu"):
        return value
    if not isinstance(value, str):
        raise TypeError
    names = [name.strip() for name in value.split(",")]
    ordinals = [
        _whole_number(name.removeprefix("cuda:") if name.startswith("cuda:") else "", 0) for name in names
    ]
    if len(set(ordinals)) != len(ordinals):
        raise ValueError
    return ",".join(f"cuda:{ordinal}" for ordinal in ordinals)


def _pad(value: object) -> Mapping[str, Any] | None:
    if value in (None, "off"):
        return None
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",")]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError
        value = {name.strip(): text.strip() for name, _, text in pairs}
        # A name was given twice.
        if len(value) < len(pairs):
            raise ValueError
    if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) for name in value):
        raise TypeError
    return dict(value)


def _unpad(value: object) -> Mapping[str, tuple[str | None, ...]] | None:
    if value is None:
        return None
    if isinstance(value, str):
        # Text has no None; an input of that name can be named in the class.
        value = {
            name: [None if one == "none" else one for one in str(entries).split()]
            for name, entries in (_pad(value) or {}).items()
        }
    if not isinstance(value, Mapping):
        raise TypeError
    read = {}
    for name, entries in value.items():
        listed = entries if isinstance(entries, (list, tuple)) else [entries]
        if not listed or not all(isinstance(one, (str, type(None))) for one in (name, *listed)):
            raise TypeError
        read[name] = tuple(listed)
    return read


def _max_padding(value: object) -> float | None:
    return None if value in ("auto", None) else _share(value)


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    share = float(value)
    # Not a number is neither, and so fails too.
    if not 0 <= share <= 1:
        raise ValueError
    return share


def _row_limit(value: object) -> int | str | None:
    if value in ("off", None):
        return None
    return AUTO if value == AUTO else _whole_number(value, 1)


_SIZES = "'off' or batch sizes such as '1,8'"

# In the order of the table in docs/reference/settings.md.
_PARSERS = {
    "on_missing_gpu": _choice("error", "cpu"),
    "model_devices": _Parser(
        "'all', 'round_robin', 'cpu' or devices such as 'cuda:0,cuda:1'", _model_devices
    ),
    "num_threads": _Parser(f"'auto', 'share' or a whole number from 1 to {MAX_THREADS}", _num_threads),
    "wait_policy": _choice("default", "passive"),
    "keep_memory": _choice("auto", "on", "off"),
    "primitive_cache": _Parser("'auto' or a whole number, 0 or more", _primitive_cache),
    "move_modules": _Parser("'true' or 'false'", _boolean),
    "precision": _choice(*PRECISIONS),
    "inference_mode": _Parser("'true' or 'false'", _boolean),
    "memory_format": _choice(*MEMORY_FORMATS),
    "compile": _choice(*COMPILE_MODES),
    "compile_cache": _Parser("'true' or 'false'", _boolean),
    "optimize": _choice("off", "auto"),
    "tolerance": _Parser("a number from 0 to 1", _tolerance),
    "cuda_graphs": _Parser(_SIZES, lambda value: tuple(sorted(set(_sizes(value))))),
    "output_device": _choice("cpu", "instance"),
    "pinned_limit_bytes": _Parser("a number of bytes, 0 or more", lambda value: _whole_number(value, 0)),
    "overlap_calls": _Parser("'true' or 'false'", _boolean),
    "warmup": _Parser(_SIZES, _warmup),
    "cast_outputs": _Parser("'true' or 'false'", _boolean),
    "allow_response_cache": _Parser("'true' or 'false'", _boolean),
    "reload_on_fault": _Parser("'true' or 'false'", _boolean),
    "metrics": _Parser("'true' or 'false'", _boolean),
    "tracing": _Parser("'true' or 'false'", _boolean),
    "cancellation": _choice("auto", "on", "off"),
    "isolate_errors": _Parser("'true' or 'false'", _boolean),
    "max_isolation": _Parser("a share from 0 to 1", _share),
    "pad": _Parser("'off' or values by input, such as 'INPUT=0,OTHER=1.5'", _pad),
    "unpad": _Parser("inputs by output, such as 'OUTPUT=INPUT,OTHER=none'", _unpad),
    "max_padding": _Parser("'auto' or a share from 0 to 1", _max_padding),
    "max_rows_per_forward": _Parser("'off', 'auto' or a whole number, 1 or more", _row_limit),
    "max_streams": _Parser("a whole number, 1 or more", lambda value: _whole_number(value, 1)),
    "max_begins_per_step": _Parser("a whole number, 1 or more", lambda value: _whole_number(value, 1)),
    "items_per_response": _Parser("a whole number, 1 or more", lambda value: _whole_number(value, 1)),
    "drain_seconds": _Parser("a number of seconds, 0 or more", lambda value: _whole_number(value, 0)),
    "max_stream_bytes": _Parser("a number of bytes, 0 or more", lambda value: _whole_number(value, 0)),
    "max_sequences": _Parser("a whole number, 1 or more", lambda value: _whole_number(value, 1)),
    "error_detail": _choice(*ERROR_DETAILS),
}

SETTING_NAMES = tuple(_PARSERS)

PLACEMENT_SETTINGS = tuple(PlacementSettings.__annotations__)
"""Names of the settings of `DevicePlacement`."""

FAST_PATH_SETTINGS = frozenset(
    {
        # They take effect before the first call, or beside the calls.
        *PLACEMENT_SETTINGS,
        "keep_memory",
        "primitive_cache",
        "move_modules",
        "compile",
        "compile_cache",
        "optimize",
        "tolerance",
        "warmup",
        "allow_response_cache",
        "reload_on_fault",
        "metrics",
        "tracing",
        # The fast path applies them, or the executor does around it.
        "inference_mode",
        "cast_outputs",
        "cancellation",
        "isolate_errors",
        "max_isolation",
        "error_detail",
        "max_rows_per_forward",
        # They concern models that the fast path doesn't serve: on a GPU, with streams, sequences
        # or padding.
        "cuda_graphs",
        "output_device",
        "pinned_limit_bytes",
        "overlap_calls",
        "max_padding",
        "max_streams",
        "max_begins_per_step",
        "items_per_response",
        "drain_seconds",
        "max_stream_bytes",
        "max_sequences",
    }
)
"""Names of the settings that the fast path can do with; a change to any other keeps a model off it."""
