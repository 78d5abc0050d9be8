"""One instance of a model: what is a process of its own in a server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from kindaware.testing.harness.failures import HarnessError, describe
from kindaware.testing.harness.pending import Admitted, Pending
from kindaware.testing.harness.process.context import ServerContext
from kindaware.testing.harness.process.execute import RESCHEDULE, RuleError, execute
from kindaware.testing.harness.process.interface import ModelControl, Sequences
from kindaware.testing.harness.process.loader import LoadedCode, ModelCode, load_code
from kindaware.testing.harness.process.loop import BackgroundLoop
from kindaware.testing.harness.process.readiness import ASKED_SINCE, find_obstacle
from kindaware.testing.stand_in import (
    Answer,
    BlsCall,
    Failure,
    Host,
    InferenceRequest,
    RequestHandle,
    TritonContractError,
    new_server_request,
    release_inputs,
    state_of,
)

_SEQUENCE_END = 2
_MAX_ROUNDS = 10_000


class Instance(Host):
    """A process with one object of the model's class.

    Args:
        context: of the server that it belongs to.
        models: that server's models.
        name: of the model.
        instance_name: of the instance.
        code: where the class comes from.
        is_decoupled: the model's transaction policy.
        sequences: the model's sequence batcher, if it has one.

    Attributes:
        model: the object, once it was made.
        args: what `initialize` got.
        num_calls: how often `execute` was called.
        num_waiting: requests that wait for it, since it is busy.
        occasion: what its requests are for, in error texts; empty for a client's.
    """

    def __init__(
        self,
        context: ServerContext,
        models: ModelControl,
        name: str,
        instance_name: str,
        code: ModelCode,
        *,
        is_decoupled: bool = False,
        sequences: Sequences | None = None,
    ) -> None:
        super().__init__(
            name,
            instance_name=instance_name,
            server_version=context.server_version,
            model_dir=code.version_directory,
            is_decoupled=is_decoupled,
            metrics=context.metrics,
        )
        self.file = code.file
        self.model: Any = None
        self.args: dict[str, str] = {}
        self.num_calls = 0
        self.num_waiting = 0
        self.occasion = ""
        self.loop = BackgroundLoop(lambda error: self.log("ERROR", describe(error), "pb_stub.cc", 0))
        self.loaded: LoadedCode | None = None
        self._context = context
        self._models = models
        self._code = code
        self._sequences = sequences
        self._ready_check: Callable[[], Any] | None = None
        self._pendings: dict[RequestHandle, Pending] = {}
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._owner: int | None = None
        context.add_process(self, self.loop)

    def load(self) -> LoadedCode:
        """Import the model's code."""
        with (
            self._limited("the import of its code"),
            self._context.devices(self),
            self._context.surroundings.watched(),
        ):
            self.loaded = load_code(self._code, self)
        return self.loaded

    def auto_complete(self, function: Callable[[Any], Any], config: Any) -> Any:
        """Call the class's `auto_complete_config`."""
        with self._limited("auto_complete_config"), self.running():
            return function(config)

    def _limited(self, what: str) -> AbstractContextManager[None]:
        """Interrupt a call of the model's code that hangs."""
        # Longer than what is called inside may wait for its own turn and answers.
        seconds = 1.25 * self._context.hang_timeout_seconds

        def blame(place: str) -> TritonContractError:
            occasion = f", for {self.occasion}" if self.occasion else ""
            return self.violation(
                f"wait for ever: {what} has not returned{occasion}, and nothing has worked for "
                f"{seconds:g} s; it waits at {place}",
                "let it return; if what it waits for takes longer, pass hang_timeout_seconds",
            )

        return self._context.guard.limited(seconds, blame)

    @contextmanager
    def running(self) -> Iterator[LoadedCode]:
        """Make this the instance whose code runs."""
        if self.loaded is None:
            raise HarnessError.of(
                f"instance {self.instance_name}", expected="its code", got="none", remedy="load it first"
            )
        with self.loaded.space.entered(), self._context.devices(self), self._context.surroundings.watched():
            yield self.loaded

    def server_memory(self) -> AbstractContextManager[None]:
        """See `ServerContext.memory`."""
        return self._context.memory()

    def start(self, args: dict[str, str]) -> None:
        """Import, construct and initialize."""
        self.load()
        self.args = dict(args)
        with self.running() as loaded:
            self.phase = "construct"
            with self._limited("its constructor"):
                self.model = loaded.model_class()
            self.phase = "initialize"
            if hasattr(self.model, "initialize"):
                with self._limited("initialize"):
                    self.model.initialize(args)
            self._ready_check = getattr(self.model, "is_ready", None)
            self.phase = "execute"

    def stop(self) -> None:
        """Finalize; what is raised is only logged."""
        if self.phase != "execute":
            self.phase = "done"
            return
        self.loop.stop()
        self.phase = "finalize"
        seconds = self._context.finalize_timeout_seconds
        try:
            if hasattr(self.model, "finalize"):
                with (
                    self._context.guard.limited(seconds, self._blame_finalize, is_patient=False),
                    self.running(),
                ):
                    self.model.finalize()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.log("INFO", describe(error), "pb_stub.cc", 0)
        finally:
            self.phase = "done"

    def _blame_finalize(self, place: str) -> TritonContractError:
        return self.violation(
            "end without finalize, and an unload never: it has not returned in "
            f"{self._context.finalize_timeout_seconds:g} s; it is at {place}",
            "let it return, with time limits on what it waits for",
        )

    def run(self, batch: list[Admitted]) -> None:
        """Hand requests to one call of `execute`, and to further ones as long as it reschedules them.

        Raises:
            TritonContractError: a server would crash, hang or corrupt data.
        """
        with self._occupied(len(batch)) as has_waited, self.running():
            if has_waited:
                batch = [one for one in batch if not _refuse_late(one)]
                if not batch:
                    return
            for round_ in range(_MAX_ROUNDS):
                with self.server_memory():
                    requests = [self._new_request(one, is_first=round_ == 0) for one in batch]
                self.num_calls += 1
                execute(self, self._call, requests)
                with self.server_memory():
                    for request in requests:
                        release_inputs(request)
                pairs = zip(batch, requests, strict=True)
                batch = [one for one, request in pairs if self._is_rescheduled(one, request)]
                if not batch:
                    return
        raise self.violation(
            f"go on for ever: a request was rescheduled {_MAX_ROUNDS} times", "answer it at last"
        )

    def _call(self, requests: list[InferenceRequest]) -> Any:
        """Call `execute`, and await it if it has to be."""
        function = getattr(self.model, "execute", None)
        if function is None:
            raise RuleError(f"Python model {self.file} does not implement `execute` method.")
        with self._limited("execute"):
            returned = function(requests)
            if not asyncio.iscoroutine(returned):
                return returned
            if self.is_decoupled:
                self.loop.start(returned)
                return None
            return self.loop.run(returned)

    def _new_request(self, one: Admitted, *, is_first: bool) -> InferenceRequest:
        """Build the request; a rescheduled one has lost its flags."""
        flags = one.sent.flags if is_first else 0
        controls = (
            ()
            if self._sequences is None or one.is_warmup
            else self._sequences.controls(one.sent, flags, not one.is_filler)
        )
        request = new_server_request(
            self,
            inputs=[*one.inputs, *controls],
            requested_output_names=one.output_names,
            request_id=one.sent.request_id,
            correlation_id=one.sent.correlation_id,
            flags=flags,
            timeout=one.sent.timeout,
            parameters=one.sent.parameters,
            trace=one.sent.trace,
        )
        self._pendings[request] = one.pending
        return request

    def _is_rescheduled(self, one: Admitted, request: InferenceRequest) -> bool:
        if state_of(request).release_flags != RESCHEDULE or one.pending.is_done or one.is_filler:
            return False
        if self._sequences is not None and self._sequences.is_iterative:
            if one.sent.flags & _SEQUENCE_END:
                raise self.violation(
                    "leave the client waiting for ever: a request with the flag END was rescheduled, and its "
                    "sequence is over",
                    "send it without END, or answer it",
                )
            return True
        self.log(
            "ERROR",
            "Failed to release request: Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, "
            "while the model is not configured to handle such a flag.",
            "pb_stub.cc",
            0,
        )
        raise self.violation(
            "leave the client waiting for ever: a request was rescheduled, and the model's configuration has "
            "no sequence_batching { iterative_sequence: true }",
            "add it, or answer the request",
        )

    @contextmanager
    def _occupied(self, num_requests: int) -> Iterator[bool]:
        """Let one batch run at a time; say whether this one has waited for another."""
        has_waited = not self._lock.acquire(blocking=False)
        if has_waited:
            self._wait_for_turn(num_requests)
        self._owner = threading.get_ident()
        try:
            yield has_waited
        finally:
            self._owner = None
            self._lock.release()

    def _wait_for_turn(self, num_requests: int) -> None:
        is_own = self._owner == threading.get_ident()
        with self._counting:
            self.num_waiting += num_requests
        # Shorter than a caller waits, since this is the reason.
        is_free = not is_own and self._lock.acquire(timeout=0.9 * self._context.hang_timeout_seconds)
        with self._counting:
            self.num_waiting -= num_requests
        if not is_free:
            raise self.violation(
                f"wait for ever: model {self.model_name!r} is called while all its instances are busy, in a "
                "call that waits for the answer",
                "give it more instances, or don't call it from itself",
            )

    def is_ready(self) -> bool:
        """Return what the model answers to a readiness query; one without `is_ready` is ready."""
        if self._ready_check is None or self.server_version < ASKED_SINCE:
            return True
        with self.running():
            obstacle = find_obstacle(self._ready_check, self.instance_name)
        if obstacle:
            self.log("WARNING", obstacle, "python_be.cc", 0)
        return not obstacle

    def is_busy(self) -> bool:
        """Return whether a batch runs."""
        return self._lock.locked()

    def is_anyone_left(self) -> bool:
        """Return whether a thread, the event loop or a running batch may still answer."""
        if self._context.is_thread_left() or self.is_busy():
            self.loop.forget()
            return True
        return self.loop.is_busy()

    def log(self, level: str, text: str, filename: str, line: int) -> None:
        """Take one line of the log."""
        self._context.log.add(level, text, filename, line, self.model_name)

    def is_cancelled(self, request: RequestHandle) -> bool:
        """Return whether the client has cancelled."""
        pending = self._pendings.get(request)
        return pending is not None and pending.is_cancelled()

    def on_send(self, request: RequestHandle, answer: Answer) -> None:
        """Pass an answer on to the client."""
        pending = self._pendings.get(request)
        if pending is None:
            return
        if answer.is_final:
            del self._pendings[request]
        pending.take(answer)

    def run_bls(self, call: BlsCall) -> Iterable[Answer]:
        """Run another model."""
        return self._models.run_call(call)

    def cancel_bls(self, call: BlsCall) -> None:
        """Cancel the request of a running call."""
        self._models.cancel_call(call)

    def load_model(self, model_name: str, config: str, files: dict[str, bytes]) -> None:
        """Load another model, or reload it."""
        self._note_start("load_model")
        self._models.load_model(model_name, config, files)

    def unload_model(self, model_name: str, unload_dependents: bool) -> None:
        """Unload a model."""
        self._models.unload_model(model_name)

    def is_model_ready(self, model_name: str, model_version: str) -> bool | None:
        """Return whether a model is ready."""
        self._note_start("is_model_ready")
        return self._models.is_model_ready(model_name, model_version)

    def _note_start(self, name: str) -> None:
        if self.phase == "initialize":
            text = (
                f"{name} in initialize: a server that is starting answers 'Server not ready', so on a server "
                "this model must be loaded later, through the repository API"
            )
            self.log("WARNING", text, "kindaware.testing", 0)


def _refuse_late(one: Admitted) -> bool:
    """Refuse a request that has waited for longer than it may; return whether it has."""
    if one.deadline is None or time.monotonic() < one.deadline:
        return False
    one.pending.take(Answer(failure=Failure("Request timeout expired", "UNAVAILABLE"), is_final=True))
    return True
