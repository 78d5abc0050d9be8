"""What Serve is told about the deployment: one set of options, for the file and for Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kindaware._errors import OptionError

DEPLOYMENT = "TritonReplica"
"""The deployment's name: that of its class."""

_STOP_SECONDS = 15.0
"""What the server's own end may take once all its requests are answered, before Ray kills the replica."""
_DRAIN_INTERVAL_SECONDS = 0.2
_HEALTH_PERIOD_SECONDS = 1.0
_HEALTH_TIMEOUT_SECONDS = 10.0
MAX_ONGOING = 512
"""Requests that a replica takes at once. The queue is to be in Triton: it joins what it has and counts it."""
_UPSCALE_SECONDS, _DOWNSCALE_SECONDS, _LOOK_BACK_SECONDS = 5.0, 120.0, 15.0


@dataclass(frozen=True)
class Plan:
    """How many replicas there are, and what each gets.

    Attributes:
        replicas: how many; the fewest with `max_replicas`.
        max_replicas: the most; None for a fixed number.
        target_pending: requests that may wait in each server before there are more replicas.
        cpus: CPU cores per replica.
        gpus: GPUs per replica; a part of one below 1.
        drain_seconds: how long a replica that is to end goes on answering the requests that it has.
        max_ongoing: requests that a replica takes at once; further ones wait outside.

    Raises:
        OptionError: a number is out of range.
    """

    replicas: int = 1
    max_replicas: int | None = None
    target_pending: float = 8.0
    cpus: float = 1.0
    gpus: float = 0.0
    drain_seconds: float = 30.0
    max_ongoing: int = MAX_ONGOING

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check("replicas", self.replicas, "1 or more", self.replicas >= 1)
        most = self.replicas if self.max_replicas is None else self.max_replicas
        _check("max_replicas", most, f"replicas ({self.replicas}) or more", most >= self.replicas)
        _check("target_pending", self.target_pending, "a number above 0", self.target_pending > 0)
        _check("cpus", self.cpus, "0 or more", self.cpus >= 0)
        is_part = 0 <= self.gpus < 1 or self.gpus == int(self.gpus) > 0
        _check("gpus", self.gpus, "a whole number, or a part of one GPU below 1", is_part)
        _check("drain_seconds", self.drain_seconds, "0 or more", self.drain_seconds >= 0)
        _check("max_ongoing", self.max_ongoing, "1 or more", self.max_ongoing >= 1)

    @property
    def most_replicas(self) -> int:
        """How many replicas there may be."""
        return self.replicas if self.max_replicas is None else self.max_replicas

    def options(self) -> dict[str, Any]:
        """Return the deployment's options, under Serve's names."""
        scale: dict[str, Any] = {"num_replicas": self.replicas}
        if self.max_replicas is not None:
            scale = {
                "autoscaling_config": {
                    "min_replicas": self.replicas,
                    "max_replicas": self.max_replicas,
                    "upscale_delay_s": _UPSCALE_SECONDS,
                    "downscale_delay_s": _DOWNSCALE_SECONDS,
                    "look_back_period_s": _LOOK_BACK_SECONDS,
                    "policy": {
                        "policy_function": "kindaware.ray:PendingRequests",
                        "policy_kwargs": {"target_pending": self.target_pending},
                    },
                }
            }
        return {
            **scale,
            "max_ongoing_requests": self.max_ongoing,
            "health_check_period_s": _HEALTH_PERIOD_SECONDS,
            "health_check_timeout_s": _HEALTH_TIMEOUT_SECONDS,
            "graceful_shutdown_wait_loop_s": _DRAIN_INTERVAL_SECONDS,
            "graceful_shutdown_timeout_s": self.drain_seconds + _STOP_SECONDS,
            "ray_actor_options": {"num_cpus": self.cpus, "num_gpus": self.gpus},
        }


def _check(name: str, value: float, expected: str, is_right: bool) -> None:
    """Raise about a number that can't be."""
    if not is_right:
        option = f"--{name.replace('_', '-')}, in Python {name}"
        raise OptionError.of(option, expected=expected, got=f"{value:g}", remedy="correct the value")
