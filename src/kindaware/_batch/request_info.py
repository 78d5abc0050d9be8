"""What a request says about itself, beside its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SEQUENCE_START = 1
SEQUENCE_END = 2
"""Bits of `flags`. Source: triton core `tritonserver.h`, TRITONSERVER_REQUEST_FLAG_SEQUENCE_START."""


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """One request of a batch, for a hook that names a parameter `requests`.

    Attributes:
        id: the client's request id, empty if it gave none.
        parameters: the request's own, by name: text, whole numbers, floats and booleans. Those that
            Triton itself reads, such as `timeout` and `sequence_id`, are not among them.
        timeout: microseconds that the client gave; 0 for none.
        correlation_id: the sequence's number or name; 0 or empty for none.
        flags: Triton's bits; `is_start` and `is_end` read them.
        rows: how many rows of the batch are the request's; None when the model does not batch.
        requested_outputs: names of the outputs that the client asked for; all, where it named none.
        response_parameters: to be set in any hook that names `requests`: what the response says beside its
            outputs, by name: text, whole numbers, booleans. When `forward` begins, it has what `preprocess`
            has set and nothing else. For servers from 25.02 on; of an older one the client gets an error.
            Source: python_backend `pb_stub.cc`.
    """

    id: str
    rows: int | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    timeout: int = 0
    correlation_id: int | str = 0
    flags: int = 0
    requested_outputs: frozenset[str] = frozenset()
    response_parameters: dict[str, bool | int | str] = field(default_factory=dict, compare=False)
    _of_preprocess: list[dict[str, bool | int | str]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def _begin_batch(self) -> None:
        """Take back what a batch that has failed has set in `response_parameters`, and keep the rest."""
        if not self._of_preprocess:
            self._of_preprocess.append(dict(self.response_parameters))
        self.response_parameters.clear()
        self.response_parameters.update(self._of_preprocess[0])

    @property
    def is_start(self) -> bool:
        """Whether the request is the first of its sequence."""
        return bool(self.flags & SEQUENCE_START)

    @property
    def is_end(self) -> bool:
        """Whether the request is the last of its sequence."""
        return bool(self.flags & SEQUENCE_END)
