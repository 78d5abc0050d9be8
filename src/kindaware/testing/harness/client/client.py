"""Requests to one model, as a client sends them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kindaware.testing.harness.client.build import build_batch_entry, build_request, join_inputs
from kindaware.testing.harness.client.result import Result, unpack
from kindaware.testing.harness.client.stream import Stream
from kindaware.testing.harness.failures import HarnessError
from kindaware.testing.harness.pending import Admitted, Cancelled, Pending
from kindaware.testing.harness.process.instance import Instance
from kindaware.testing.harness.process.waiting import wait_for
from kindaware.testing.harness.server.input_check import RefusedRequest
from kindaware.testing.harness.server.server import Served, SimulatedServer
from kindaware.testing.stand_in import Answer, Failure

_NO_STREAM = Failure("ModelInfer RPC doesn't support models with decoupled transaction policy", "UNSUPPORTED")


class ModelClient(ABC):
    """A client of one model of a harness; `ModelHarness` is the client of its first model."""

    raise_errors: bool
    _server: SimulatedServer

    @property
    @abstractmethod
    def served(self) -> Served:
        """The model as currently loaded in the simulated server."""

    @property
    def config(self) -> dict[str, Any]:
        """The model's configuration, normalised and completed."""
        return self.served.config

    @property
    def instances(self) -> list[Any]:
        """The `TritonPythonModel` objects, one per instance."""
        return [instance.model for instance in self.served.instances]

    @property
    def instance(self) -> Any:
        """The `TritonPythonModel` object of the first instance; an ensemble has none."""
        return self._first.model

    @property
    def args(self) -> dict[str, str]:
        """The args that `initialize` of the first instance received."""
        return self._first.args

    @property
    def _first(self) -> Instance:
        """The first instance.

        Raises:
            HarnessError: it is an ensemble.
        """
        if not self.served.instances:
            raise HarnessError.of(
                f"ensemble {self.served.name!r}",
                expected="an instance",
                got="none: its steps have them",
                remedy="ask for one of its models, as in harness.model('...').instance",
            )
        return self.served.instances[0]

    def is_ready(self) -> bool:
        """Return whether the model is ready, like a client's readiness query.

        Servers from 26.03 on call `is_ready` of every instance; the log says why one isn't ready.
        """
        return self.served.is_ready()

    def infer(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        request_id: str = "",
        correlation_id: int | str = 0,
        flags: int = 0,
        timeout: int = 0,
        parameters: Mapping[str, Any] | None = None,
        requested_outputs: Iterable[str] | None = None,
        cancelled: Cancelled = False,
        trace: str | None = None,
        input_device: str = "cpu",
        instance: int | None = None,
        **named: Any,
    ) -> Result:
        """Send one request as a batch and wait for the answer.

        Args:
            inputs: by name, numpy arrays, torch tensors, or lists (which get the configured data type).
            request_id: what `request.request_id()` returns.
            correlation_id: int or str; 0 if unset.
            flags: for sequences: 1 is START, 2 is END.
            timeout: in microseconds; 0 for none.
            parameters: bool, int, float and str by name.
            requested_outputs: names of the outputs to request; None for all.
            cancelled: whether the client has cancelled; or a function of the number of responses so far,
                called when the model checks.
            trace: what `request.trace().get_context()` returns.
            input_device: where the inputs are when they reach the server: `cpu`, or `cuda:N`, as from CUDA
                shared memory or another model of an ensemble. The model gets them there if its configuration
                sets `FORCE_CPU_ONLY_INPUT_TENSORS: no`, on the CPU otherwise.
            instance: index of the instance that gets the request; an idle one by default.
            named: more inputs, by name.

        Raises:
            InferenceError: the request failed, and `raise_errors` is set.
            TritonContractError: a server would crash, hang, or corrupt data.
        """
        pending = build_request(
            self.config,
            inputs=join_inputs(inputs, named, self.config),
            request_id=request_id,
            correlation_id=correlation_id,
            flags=flags,
            timeout=timeout,
            parameters=parameters,
            requested_outputs=requested_outputs,
            cancelled=cancelled,
            trace=trace,
            input_device=input_device,
        )
        return self._infer([pending], instance)[0]

    def infer_batch(
        self, requests: Sequence[Mapping[str, Any]], *, instance: int | None = None
    ) -> list[Result]:
        """Send several requests to one call of `execute` and wait for all answers.

        A request that the server rejects doesn't reach the model; the others do.

        Args:
            requests: dicts of inputs by name, or of the arguments of `infer` including `inputs`.
            instance: index of the instance that gets them.

        Raises:
            InferenceError: a request failed, and `raise_errors` is set.
            HarnessError: they have too many rows for one call.
            TritonContractError: a server would crash, hang, or corrupt data.
        """
        return self._infer([build_batch_entry(entry, self.config) for entry in requests], instance)

    def stream_batch(
        self,
        requests: Sequence[Mapping[str, Any]],
        *,
        instance: int | None = None,
        empty_final: bool = False,
    ) -> list[Stream]:
        """Send several requests to one call of `execute` and return the stream of responses of each.

        Args:
            requests: as for `infer_batch`.
            instance: index of the instance that gets them.
            empty_final: see `stream`.
        """
        pendings = [build_batch_entry(entry, self.config) for entry in requests]
        chosen = self._run(pendings, instance)
        return [
            Stream(one, chosen, self._wait, raise_errors=self.raise_errors, empty_final=empty_final)
            for one in pendings
        ]

    def stream(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        request_id: str = "",
        correlation_id: int | str = 0,
        flags: int = 0,
        timeout: int = 0,
        parameters: Mapping[str, Any] | None = None,
        requested_outputs: Iterable[str] | None = None,
        cancelled: Cancelled = False,
        trace: str | None = None,
        input_device: str = "cpu",
        instance: int | None = None,
        empty_final: bool = False,
        on_response: Callable[[Result], None] | None = None,
        **named: Any,
    ) -> Stream:
        """Send one request and return the stream of its responses; works for decoupled and ordinary models.

        By the time this returns, `execute` has run; threads and coroutines may send responses later.

        Args:
            inputs: see `infer`.
            request_id: see `infer`.
            correlation_id: see `infer`.
            flags: see `infer`.
            timeout: see `infer`.
            parameters: see `infer`.
            requested_outputs: see `infer`.
            cancelled: see `infer`; to cancel later, call `Stream.cancel`.
            trace: see `infer`.
            input_device: see `infer`.
            instance: see `infer`.
            empty_final: yield an empty Result for a FINAL flag sent without a response.
            on_response: called with each response as the model sends it, on the thread that sends it, failed
                ones included, FINALs without a response left out.
            named: more inputs, by name.
        """

        def tell(answer: Answer) -> None:
            if on_response is not None and not answer.is_flag_only:
                on_response(Result.of(answer, request_id))

        pending = build_request(
            self.config,
            inputs=join_inputs(inputs, named, self.config),
            request_id=request_id,
            correlation_id=correlation_id,
            flags=flags,
            timeout=timeout,
            parameters=parameters,
            requested_outputs=requested_outputs,
            cancelled=cancelled,
            trace=trace,
            input_device=input_device,
            on_answer=tell,
        )
        chosen = self._run([pending], instance)
        return Stream(pending, chosen, self._wait, raise_errors=self.raise_errors, empty_final=empty_final)

    def _infer(self, pendings: list[Pending], instance: int | None) -> list[Result]:
        if self.served.is_decoupled:
            for pending in pendings:
                pending.take(Answer(failure=_NO_STREAM, is_final=True))
        else:
            chosen = self._run(pendings, instance)
            if chosen is not None:
                for pending in pendings:
                    self._wait(chosen, pending, None)
        return [
            unpack(_unary(pending), pending.sent.request_id, raise_errors=self.raise_errors)
            for pending in pendings
        ]

    def _run(self, pendings: list[Pending], index: int | None) -> Instance | None:
        """Run `execute` once with all admitted requests; return None if there are none."""
        served = self.served
        if index is not None:
            served.choose(index)
        for pending in pendings:
            self._server.check_device(pending)
        admitted = []
        try:
            for pending in pendings:
                try:
                    admitted.append(served.admit(pending, index))
                except RefusedRequest as refused:
                    pending.take(Answer(failure=refused.failure, is_final=True))
            if not admitted:
                return None
            self._check_rows(served, admitted)
            return served.run(admitted, index)
        finally:
            self._server.context.join_callees()
            self._server.settle(served)
            self._server.context.raise_violations()

    def _wait(self, instance: Instance, pending: Pending, num_answers: int | None) -> None:
        try:
            wait_for(pending, instance, self._server.context.hang_timeout_seconds, num_answers)
        finally:
            self._server.context.join_callees()
            self._server.context.raise_violations()

    @staticmethod
    def _check_rows(served: Served, admitted: list[Admitted]) -> None:
        limit = served.config["max_batch_size"]
        num_rows = sum(one.inputs[0].shape[0] for one in admitted if one.inputs and one.inputs[0].shape)
        if limit and num_rows > limit:
            raise HarnessError.of(
                f"infer_batch of model {served.name!r}",
                expected=f"at most {limit} rows, the model's max_batch_size, in one call of execute",
                got=str(num_rows),
                remedy="split the requests, as the server does",
            )


def _unary(pending: Pending) -> Answer:
    """Return what a client gets that waits for one response."""
    shown = [answer for answer in pending.answers if not answer.is_flag_only]
    if len(shown) > 1:
        return Answer(failure=Failure("expected a single response, got 2"), is_final=True)
    return shown[0]
