"""What a client gets for one request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kindaware.testing.harness.failures import InferenceError, triton_error
from kindaware.testing.stand_in import Answer, TritonError


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One response, as the client sees it.

    Attributes:
        outputs: name to numpy array of the client's own (BYTES as objects, which are `bytes`; BF16 as torch
            tensor); empty when the request failed.
        error: the `TritonError`, or None.
        parameters: the response's parameters (from server 25.02).
        is_final: it is the last response of its request.
        request_id: of the request that it answers.
    """

    outputs: Mapping[str, Any]
    error: TritonError | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    is_final: bool = True
    request_id: str = ""

    @classmethod
    def of(cls, answer: Answer, request_id: str = "") -> Result:
        """Unpack an answer; of outputs with the same name the last one counts."""
        return cls(
            outputs={wire.name: wire.value() for wire in answer.outputs},
            error=None if answer.failure is None else triton_error(answer.failure),
            parameters=dict(answer.parameters),
            is_final=answer.is_final,
            request_id=request_id,
        )

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<Result error {self.error.code().name}: {self.error.message()!r}>"
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self.outputs.items())
        return f"<Result {shapes or 'without outputs'}>"


def unpack(answer: Answer, request_id: str, *, raise_errors: bool) -> Result:
    """Return the Result, or raise its error.

    Raises:
        InferenceError: `raise_errors` is set, and the request failed.
    """
    if raise_errors and answer.failure is not None:
        raise InferenceError(answer.failure)
    return Result.of(answer, request_id)
