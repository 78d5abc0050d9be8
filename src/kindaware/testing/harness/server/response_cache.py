"""`response_cache`: answers that a server gives without asking the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kindaware.testing.harness.pending import Admitted
from kindaware.testing.stand_in import Answer, WireTensor


class ResponseCache:
    """The answers of one model by the values of its inputs, as a server with `--cache-config` keeps them.

    Nothing else of a request is part of the key, its parameters and the outputs that it asks for included.
    An error is kept as an answer without outputs.

    Source: measured on tritonserver 2.51.0.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[WireTensor, ...], tuple[WireTensor, ...]] = {}

    @classmethod
    def of_model(cls, config: Mapping[str, Any]) -> ResponseCache | None:
        """Return a cache for a model whose configuration asks for one."""
        return cls() if (config.get("response_cache") or {}).get("enable") else None

    def answer(self, admitted: Admitted) -> bool:
        """Answer a request that was asked before; return whether it was."""
        outputs = self._answers.get(_key(admitted))
        if outputs is None:
            return False
        admitted.pending.take(Answer(outputs=outputs, is_final=True))
        return True

    def keep(self, admitted: Admitted) -> None:
        """Keep the answer of a request that the model has answered."""
        if admitted.pending.answers:
            self._answers[_key(admitted)] = admitted.pending.answers[0].outputs


def _key(admitted: Admitted) -> tuple[WireTensor, ...]:
    return tuple(sorted(admitted.inputs, key=lambda wire: wire.name))
