"""What is known about the health of a server's models."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

READY, HEALING, GIVEN_UP, NOT_READY = "ready", "healing", "given up", "not ready"


@dataclass(frozen=True)
class ModelHealth:
    """The health of one model.

    Attributes:
        state: `ready`, `healing`, `given up`, or `not ready` for a reason of the server's.
        reason: why it isn't ready, or was not when it last wasn't; empty if it always was.
        since: when it came to this state, in seconds since 1970.
        num_deaths: how often its stubs have died or hung.
        num_heals: how often it was loaded again.
        num_failures: how often that failed.
        heal_seconds: from a death until it was ready again, all of them together.
    """

    state: str = NOT_READY
    reason: str = ""
    since: float = 0.0
    num_deaths: int = 0
    num_heals: int = 0
    num_failures: int = 0
    heal_seconds: float = 0.0


class HealthBook:
    """The health of each model, for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, ModelHealth] = {}
        self._server_reason = "not asked yet"
        self._looked_at = time.monotonic()
        self._answered_at: float | None = None

    def models(self) -> dict[str, ModelHealth]:
        """Return the models that are served, or ought to be."""
        with self._lock:
            return dict(self._models)

    @property
    def server_reason(self) -> str:
        """Why the server can't be asked; empty while it answers."""
        with self._lock:
            return self._server_reason

    @property
    def seconds_since_look(self) -> float:
        """Age of what is known."""
        with self._lock:
            return time.monotonic() - self._looked_at

    @property
    def silent_seconds(self) -> float:
        """Since when the server, which has answered before, answers no more; 0 if it never has."""
        with self._lock:
            return 0.0 if self._answered_at is None else time.monotonic() - self._answered_at

    def note_server(self, reason: str) -> None:
        """Note that the server was asked; with a reason, in vain."""
        with self._lock:
            self._server_reason = reason
            self._looked_at = time.monotonic()
            if not reason:
                self._answered_at = self._looked_at

    def forget(self, reason: str) -> None:
        """Forget the server, which has ended, and its models; keep how often these died and were healed."""
        with self._lock:
            self._server_reason = reason
            self._answered_at = None
            self._models = {
                model: replace(one, state=NOT_READY, reason=reason) for model, one in self._models.items()
            }

    def note_states(self, states: Mapping[str, tuple[str, str]]) -> None:
        """Note the state and reason of each model that is loaded or ought to be, as the server has them.

        A model that is being healed, or was given up, stays that until it is `settle`d or ready.
        """
        with self._lock:
            kept = {model: one for model, one in self._models.items() if one.state in (HEALING, GIVEN_UP)}
            gone = self._models.keys() - states.keys() - kept.keys()
            for model in gone:
                del self._models[model]
            for model, (state, reason) in states.items():
                is_busy = model in kept and kept[model].state == HEALING
                if is_busy or (model in kept and state != READY):
                    continue
                self._change(model, state, reason)

    def begin_heal(self, model: str, reason: str) -> None:
        """Note that a model has died or hung, and is loaded again."""
        with self._lock:
            before = self._models.get(model, ModelHealth())
            self._change(model, HEALING, reason, num_deaths=before.num_deaths + 1)

    def note_failure(self, model: str, reason: str) -> None:
        """Note that a model was not loaded again, and that this is tried once more."""
        with self._lock:
            before = self._models.get(model, ModelHealth())
            self._change(model, HEALING, reason, num_failures=before.num_failures + 1)

    def end_heal(self, model: str, seconds: float) -> None:
        """Note that a model was loaded again."""
        with self._lock:
            before = self._models.get(model, ModelHealth())
            self._change(
                model,
                READY,
                "",
                num_heals=before.num_heals + 1,
                heal_seconds=before.heal_seconds + seconds,
            )

    def give_up(self, model: str, reason: str) -> None:
        """Note that a model is left as it is."""
        with self._lock:
            self._change(model, GIVEN_UP, reason)

    def _change(self, model: str, state: str, reason: str, **counts: float) -> None:
        before = self._models.get(model, ModelHealth())
        since = before.since if before.state == state and before.since else time.time()
        # A model that is ready again keeps the reason of the last time.
        self._models[model] = replace(
            before,
            state=state,
            reason=reason or before.reason,
            since=since,
            **counts,  # type: ignore[arg-type]
        )
