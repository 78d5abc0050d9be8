"""The configuration's `sequence_batching`, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kindaware._config.parse import REMEDY, read_list, shorten
from kindaware._errors import ConfigError

_IDLE_MICROSECONDS = 1_000_000
"""Triton's default, used if config.pbtxt has no value. Source: measured on tritonserver 2.51.0."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SequenceSpec:
    """The configuration's `sequence_batching`.

    Attributes:
        controls: names of the control inputs that the server adds to each request; hooks never get them.
        idle_seconds: seconds without a request after which the server ends a sequence.
        is_iterative: whether a request may be rescheduled.
    """

    controls: frozenset[str]
    idle_seconds: float
    is_iterative: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SequenceSpec | None:
        """Read `sequence_batching` from Triton's model configuration; None if it has none.

        Raises:
            ConfigError: the entry is not one that Triton passes, asks for implicit state, or stands beside
                `decoupled: true`.
        """
        if "sequence_batching" not in config:
            return None
        batching, model = config["sequence_batching"], config.get("name")
        subject = "model_config sequence_batching"
        if not isinstance(batching, Mapping):
            raise ConfigError.of(subject, expected="an object", got=shorten(batching), remedy=REMEDY)
        if states := read_list(batching, "state", subject):
            names = [one.get("input_name") for one in states if isinstance(one, Mapping)]
            raise ConfigError.of(
                f"model {model!r} sequence_batching",
                expected="no state, which the Python backend does not have",
                got=f"state with input_name {shorten(names)}",
                remedy="remove it, and keep the state in self.sequence_state",
            )
        policy = config.get("model_transaction_policy")
        if isinstance(policy, Mapping) and policy.get("decoupled") is True:
            raise ConfigError.of(
                f"model {model!r} sequence_batching",
                expected="a model that answers with forward",
                got="a decoupled model",
                remedy="remove one of the two from config.pbtxt",
            )
        controls = read_list(batching, "control_input", subject)
        # 0 is protobuf's default, and means that Triton's default applies.
        idle = batching.get("max_sequence_idle_microseconds", 0)
        if type(idle) is not int or idle < 0:
            raise ConfigError.of(
                f"{subject} max_sequence_idle_microseconds",
                expected="a whole number, 0 or more",
                got=shorten(idle),
                remedy=REMEDY,
            )
        return cls(
            frozenset(str(one.get("name")) for one in controls if isinstance(one, Mapping)),
            (idle or _IDLE_MICROSECONDS) / 1e6,
            batching.get("iterative_sequence") is True,
        )
