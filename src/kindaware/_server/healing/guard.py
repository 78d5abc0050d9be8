"""Watches the stubs of a server, and loads models again that have lost one."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kindaware._errors import message
from kindaware._execute.beat import TRACEBACK_SIGNAL, read_beat
from kindaware._server.endpoint import Endpoint, ModelStatus
from kindaware._server.failure import LostStubError, ServerError
from kindaware._server.healing.budget import HealBudget, HealLimit
from kindaware._server.healing.events import HealEvents
from kindaware._server.healing.hangs import Hang, HangFinder
from kindaware._server.healing.health import NOT_READY, READY, HealthBook
from kindaware._server.healing.losses import Loss, LossFinder
from kindaware._server.healing.stubs import Stub, StubTable, is_running, read_stub
from kindaware._server.keeper import list_children
from kindaware._server.own_thread import OwnThread

_LOOK_SECONDS = 0.5
_SURE_SECONDS = 0.05
"""Between the look that finds a loss and the one that confirms it."""
_ASK_SECONDS = 2.0
_ATTEMPTS = 5
_STACK_SECONDS = 0.3
"""How long a stub may take to print its stacks before it is killed."""
_PAUSE_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""After the first, second ... load that failed; the last one then stays."""
_LINGER_SECONDS = 30.0
"""How long the other stubs of a model that has lost one may answer what they have."""
_UNLOADED = "unloaded"
"""The reason of the server for a model that somebody has unloaded."""


@dataclass(frozen=True)
class GuardOptions:
    """How models are watched.

    Attributes:
        limit: how often one is healed.
        hang_seconds: how long a call of a model's code may take; None for any time.
        beats: the folder in which instances tell since when their code runs.
        heals: whether a dead model is loaded again; else it is only told of.
    """

    limit: HealLimit
    hang_seconds: float | None
    beats: Path
    heals: bool = True


class Guard:
    """Watches one server, from `start` until `close`.

    Args:
        server: its process id.
        endpoint: where it is asked.
        load: loads a model; waits until it is ready. Raises a ServerError, with a log where the server can't
            load any more.
        options: how.
        events: is told what happens.
        health: where the state of each model is noted.
        read_metrics: returns the server's metrics, or raises a ServerError.
    """

    def __init__(
        self,
        server: int,
        endpoint: Endpoint,
        load: Callable[[str], None],
        options: GuardOptions,
        events: HealEvents,
        health: HealthBook,
        read_metrics: Callable[[], str],
    ) -> None:
        self._server = server
        self._endpoint = endpoint
        self._load = load
        self._events = events
        self._health = health
        self._beats = options.beats
        self._heals = options.heals
        self._table = StubTable(server)
        self._losses = LossFinder(lambda model: endpoint.config(model, _ASK_SECONDS))
        self._hangs = (
            None
            if options.hang_seconds is None
            else HangFinder(options.hang_seconds, options.beats, read_metrics)
        )
        self._budget = HealBudget(options.limit)
        self._owners: dict[int, str] = {}
        self._unloaded: list[frozenset[int]] = []
        self._lingering: dict[int, float] = {}
        self._hung: dict[str, str] = {}
        self._blind = ""
        self._lock = threading.Lock()
        self._healing: set[str] = set()
        self._given_up: dict[str, str] = {}
        self._closed = threading.Event()
        self._thread = OwnThread(self._run, "kindaware guard")

    @property
    def given_up(self) -> dict[str, str]:
        """Why each model was given up that was."""
        with self._lock:
            return dict(self._given_up)

    @property
    def dead(self) -> set[str]:
        """The models that are unloaded because they have died: those given up, and those being loaded."""
        with self._lock:
            return self._healing | self._given_up.keys()

    def owner(self, pid: int) -> str | None:
        """Return the model of a stub, which may have ended."""
        return self._owners.get(pid)

    @property
    def loads(self) -> bool:
        """Whether a model is being loaded again."""
        with self._lock:
            return bool(self._healing)

    def count_stuck(self) -> int:
        """Return how many unloaded models the server still has, because a stub of theirs has died."""
        zombies = {pid for pid, state in list_children(self._server).items() if state == "Z"}
        return sum(bool(pids & zombies) for pids in self._unloaded)

    def start(self) -> None:
        """Begin to watch; a first look is taken at once."""
        self._try_to_look()
        self._thread.start()

    def close(self) -> None:
        """Watch no more, and say nothing more. A second call does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._table.wake()
        self._thread.join()
        self._table.close()

    def end_loads(self) -> None:
        """End the processes of models that are being loaded, for which a server that ends would wait."""
        for pid, state in list_children(self._server).items():
            stub = read_stub(pid) if state not in "ZX" else None
            model = None if stub is None else stub.owner(self._healing)
            # For one that completes a configuration it would go on waiting.
            if (
                stub is not None
                and model is not None
                and pid not in self._lingering
                and stub.instance != model
            ):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._table.wait(_LOOK_SECONDS)
            self._try_to_look()

    def _try_to_look(self) -> None:
        try:
            self._look()
        except ServerError as error:
            # It ends, or is too busy to answer; its owner notices the first.
            self._health.note_server(str(error))
            self._closed.wait(_SURE_SECONDS)

    def _look(self) -> None:
        stubs, index = self._ask()
        losses = self._losses.find(stubs, index)
        if losses:
            # A reload may have come between the stubs and the index.
            self._closed.wait(_SURE_SECONDS)
            stubs, index = self._ask()
            losses = self._losses.find(stubs, index, anew=True)
        reasons = {loss.model: self._describe(loss) for loss in losses}
        self._note_states(index, reasons)
        for model, reason in reasons.items():
            self._begin(model, reason)
        # The others have ended as they should.
        self._table.ends.clear()
        self._end_lingering(time.monotonic())
        groups = self._group(stubs, index)
        self._end_hangs({model: its for model, its in groups.items() if model not in reasons})

    def _note_states(self, index: Sequence[ModelStatus], lost: Mapping[str, str]) -> None:
        """Note the models' states: what the server says, unless it doesn't know that a stub has died."""
        states = _states(index)
        states |= {model: (NOT_READY, reason) for model, reason in lost.items()}
        away = sorted(self.dead)
        if away:
            # Ensembles go with a model of theirs.
            why = NOT_READY, f"unloaded with {', '.join(away)}"
            states |= {model: why for model in self._health.models() if model not in states}
        self._health.note_states(states)
        with self._lock:
            for model in [one for one in self._given_up if states.get(one, ("",))[0] == READY]:
                del self._given_up[model]

    def _ask(self) -> tuple[list[Stub], list[ModelStatus]]:
        """Return the stubs that live, and then what the server says of its models."""
        stubs = self._table.look()
        index = self._endpoint.index(_ASK_SECONDS)
        self._health.note_server("")
        names = {status.name for status in index}
        for stub in stubs:
            owner = stub.owner(names)
            if owner is not None:
                self._owners[stub.pid] = owner
        with self._lock:
            return [stub for stub in stubs if stub.pid not in self._lingering], index

    def _group(self, stubs: Sequence[Stub], index: Sequence[ModelStatus]) -> dict[str, list[Stub]]:
        """Return the stubs of each model that is ready, and is not being healed."""
        groups: dict[str, list[Stub]] = {}
        ready = {status.name for status in index if status.state == "READY"}
        for stub in stubs:
            owner = self._owners.get(stub.pid)
            if owner in ready and owner not in self._healing:
                groups.setdefault(str(owner), []).append(stub)
        return groups

    def _describe(self, loss: Loss) -> str:
        """Return what has happened to a model that has lost stubs."""
        with self._lock:
            if loss.model in self._healing:
                return ""
        ends = self._table.ends
        ended = [pid for pid in ends if self._owners.get(pid) == loss.model]
        how = ", ".join(dict.fromkeys(end for pid in ended if (end := ends.pop(pid))))
        hung = self._hung.pop(loss.model, "")
        if hung:
            return hung
        if loss.num_instances == 1:
            return f"its process ended {how}".rstrip()
        return f"{loss.num_instances - loss.num_alive} of {loss.num_instances} processes ended {how}".rstrip()

    def _end_hangs(self, stubs: Mapping[str, Sequence[Stub]]) -> None:
        """Kill stubs that hang; that they are gone is found by the next look."""
        if self._hangs is None:
            return
        try:
            hangs = self._hangs.find(stubs)
        except ServerError as error:
            self._note_blind(f"hangs of models that write no beat can't be told: {error}")
            return
        for hang in hangs:
            self._hung[hang.model] = f"hung for {hang.seconds:.1f} s: {hang.evidence}"
            self._kill(hang)

    def _kill(self, hang: Hang) -> None:
        # Those that write a beat print where they are.
        talking = [pid for pid in hang.pids if read_beat(self._beats, pid) is not None]
        for pid in talking:
            with contextlib.suppress(OSError):
                os.kill(pid, TRACEBACK_SIGNAL)
        if talking:
            self._closed.wait(_STACK_SECONDS)
        for pid in hang.pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            except OSError as error:
                self._note_blind(f"model {hang.model!r} hangs, and process {pid} can't be ended: {error}")

    def _note_blind(self, reason: str) -> None:
        if reason != self._blind:
            self._blind = reason
            self._events.blind(reason)

    def _begin(self, model: str, reason: str) -> None:
        with self._lock:
            if model in self._healing or model in self._given_up or self._closed.is_set():
                return
            if self._heals:
                self._healing.add(model)
                self._let_linger(model)
        if not self._heals:
            self._events.died(model, reason)
            self._give_up(model, reason, "a death, and is not to load it again")
            return
        self._health.begin_heal(model, reason)
        OwnThread(lambda: self._heal(model, reason), f"kindaware heal {model}").start()

    def _let_linger(self, model: str) -> None:
        """Leave the model's stubs that live with what they have, for a while."""
        before = frozenset().union(*self._unloaded)
        pids = {pid for pid, owner in self._owners.items() if owner == model} - before
        self._unloaded.append(frozenset(pids))
        self._lingering |= {pid: time.monotonic() + _LINGER_SECONDS for pid in pids}

    def _end_lingering(self, now: float, model: str | None = None) -> None:
        """Kill stubs that have had their time, or all of a model's; those that have ended are forgotten.

        A version that has failed a request on a dead stub is never unloaded, and keeps the others.
        """
        with self._lock:
            lingering = list(self._lingering.items())
        for pid, until in lingering:
            if now >= until or self._owners[pid] == model:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            if not is_running(pid):
                with self._lock:
                    self._lingering.pop(pid, None)

    def _heal(self, model: str, reason: str) -> None:
        started = time.monotonic()
        try:
            self._unload(model)
            self._events.died(model, reason)
            for number in itertools.count():
                if self._closed.is_set():
                    return
                if not self._budget.take(model):
                    self._give_up(model, reason)
                    return
                failure = self._try_to_load(model)
                # What has begun ends with the server, whose owner notices that.
                if self._closed.is_set() or not is_running(self._server):
                    return
                if failure is None:
                    seconds = time.monotonic() - started
                    self._health.end_heal(model, seconds)
                    self._events.healed(model, seconds)
                    return
                # They may hold the memory that it lacks.
                self._end_lingering(time.monotonic(), model)
                self._health.note_failure(model, str(failure))
                self._events.not_healed(model, str(failure))
                reason = str(failure).partition("\n")[0]
                if isinstance(failure, LostStubError):
                    self._give_up(model, reason, "a server that can't load models any more")
                    return
                self._closed.wait(_PAUSE_SECONDS[min(number, len(_PAUSE_SECONDS) - 1)])
        finally:
            with self._lock:
                self._healing.discard(model)

    def _unload(self, model: str) -> None:
        """Have the server say that a model isn't ready; it may be too busy to answer the first time."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._endpoint.begin_unload(model, _ASK_SECONDS)
                return
            except ServerError as error:
                if attempt == _ATTEMPTS and not self._closed.is_set():
                    self._note_blind(f"model {model!r} has died, and can't be unloaded: {error}")

    def _try_to_load(self, model: str) -> ServerError | None:
        try:
            self._load(model)
        except ServerError as error:
            return error
        return None

    def _give_up(self, model: str, reason: str, got: str = "one more death") -> None:
        limit = self._budget.limit
        text = message(
            f"model {model!r}",
            expected=f"at most {limit.max_heals} death(s) within {limit.window_seconds:g} s",
            got=f"{got}: {reason}",
            remedy="find the reason in the server's log; load it by hand, or start the server again",
        )
        with self._lock:
            self._given_up[model] = text
        self._health.give_up(model, text)
        self._events.gave_up(model, text)


def _states(index: Sequence[ModelStatus]) -> dict[str, tuple[str, str]]:
    """Return state and reason of each model that is loaded, or failed; not of those that nobody wants."""
    states: dict[str, tuple[str, str]] = {}
    for status in index:
        if status.state == "READY":
            states[status.name] = READY, ""
        elif status.state and status.reason != _UNLOADED and status.name not in states:
            states[status.name] = NOT_READY, status.reason or status.state.lower()
    return states
