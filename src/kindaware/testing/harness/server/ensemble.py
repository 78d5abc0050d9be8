"""Ensembles: a request's tensors flow through the models that are the steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from kindaware.testing.arguments import ModelArguments
from kindaware.testing.harness.pending import Admitted, Pending
from kindaware.testing.harness.process.instance import Instance
from kindaware.testing.harness.server.input_check import HangingRequest, InputCheck
from kindaware.testing.harness.server.options import ModelOptions, ModelSource
from kindaware.testing.harness.server.served import read_arguments
from kindaware.testing.stand_in import Answer, BlsCall, Failure, RefusalError, TritonContractError, WireTensor

Tensors = Mapping[str, WireTensor | None]
"""The tensors of an ensemble that exist, by name; None for an optional one that is not there."""


class EnsembleModels(Protocol):
    """The models of a server, as an ensemble uses them."""

    def run_call(self, call: BlsCall) -> Iterator[Answer]:
        """Run a model; answers come as they are sent."""

    def is_streaming(self, name: str) -> bool:
        """Return whether a model may send any number of responses."""

    def is_model_ready(self, name: str, version: str) -> bool | None:
        """Return whether a model is ready."""


@dataclass(frozen=True)
class Step:
    """One step of an ensemble.

    Attributes:
        model: name of the model.
        version: of the model; -1 is the latest.
        inputs: the model's input -> name of the tensor that it gets.
        outputs: the model's output -> name of the tensor that it makes.
    """

    model: str
    version: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def read_steps(config: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return the steps of a configuration; empty if it is no ensemble's."""
    return tuple(
        Step(
            step["model_name"],
            int(step.get("model_version", -1)),
            dict(step.get("input_map", {})),
            dict(step.get("output_map", {})),
        )
        for step in config.get("ensemble_scheduling", {}).get("step", ())
    )


def prune(steps: Sequence[Step], ignored: Iterable[str]) -> list[Step]:
    """Return the steps that run when some outputs of an ensemble are not asked for.

    As in the server, a step is left out when none of its outputs is wanted by name, although another step may
    need it: the request then fails.

    Source: core `ensemble_scheduler.cc`, the constructor of EnsembleContext; measured on tritonserver 2.51.0.
    """
    maker = {tensor: index for index, step in enumerate(steps) for tensor in step.outputs.values()}
    users: dict[str, set[int]] = {}
    for index, step in enumerate(steps):
        for name in step.inputs.values():
            users.setdefault(name, set()).add(index)
    num_unwanted: Counter[int] = Counter()
    left_out: set[int] = set()
    ignored = list(ignored)
    for name in ignored:  # grows meanwhile
        if name not in maker:
            continue
        index = maker[name]
        num_unwanted[index] += 1
        if num_unwanted[index] == len(steps[index].outputs):
            left_out.add(index)
            for needed in dict.fromkeys(steps[index].inputs.values()):
                users[needed].discard(index)
                if not users[needed]:
                    ignored.append(needed)
    return [step for index, step in enumerate(steps) if index not in left_out]


class ServedEnsemble:
    """A loaded ensemble.

    Args:
        models: the server's, which its steps are.
        source: its directory.
        options: how it was loaded.
        arguments: its configuration.
        server_version: year and month of the release.

    Attributes:
        instances: none, since it runs no code of its own.

    Raises:
        ConfigError: the server would refuse the configuration.
    """

    def __init__(
        self,
        models: EnsembleModels,
        source: ModelSource,
        options: ModelOptions,
        arguments: ModelArguments,
        server_version: tuple[int, int],
    ) -> None:
        arguments.validate()
        self.source = source
        self.options = options
        self.name = arguments.name
        self.version = options.version or "1"
        self.config = arguments.config
        self.instances: list[Instance] = []
        self._models = models
        self._steps = read_steps(self.config)
        self._check = InputCheck(self.config, server_version)
        self._outputs = [tensor["name"] for tensor in self.config["output"]]
        self._optional = [tensor["name"] for tensor in self.config["input"] if tensor["optional"]]

    @property
    def is_decoupled(self) -> bool:
        """Whether any of the steps may send any number of responses."""
        return any(self._models.is_streaming(step.model) for step in self._steps)

    def is_configured_as(self, source: ModelSource, options: ModelOptions) -> bool:
        """Return whether a configuration is the one that is served.

        Raises:
            ConfigError: it can't be parsed or would be refused.
        """
        arguments = read_arguments(source, options, None)
        arguments.validate()
        return arguments.config == self.config

    def is_ready(self) -> bool:
        """Return whether all steps are."""
        return all(self._models.is_model_ready(step.model, str(step.version)) for step in self._steps)

    def stop(self) -> None:
        """End; there is nothing to finalize."""

    def pick(self, admitted: Admitted) -> None:
        """Choose an instance: there is none."""

    def choose(self, index: int | None = None) -> None:
        """Return an instance: there is none."""

    def admit(self, pending: Pending, index: int | None = None) -> Admitted:
        """Let a request through.

        Raises:
            RefusedRequest: the server would refuse it.
            TritonContractError: the server would never answer.
        """
        try:
            inputs = self._check.check(pending.sent)
        except HangingRequest:
            raise TritonContractError(
                f"ensemble {self.name!r}: the server would leave the client waiting for ever: request "
                f"{pending.sent.request_id!r} has no rows and no elements; send at least one row"
            ) from None
        return Admitted(pending, pending.sent, inputs, self._check.output_names(pending.sent))

    def run(self, admitted: Sequence[Admitted], index: int | None = None) -> None:
        """Answer requests, one after another."""
        for one in admitted:
            self._answer(one)

    def _answer(self, one: Admitted) -> None:
        ignored = [name for name in self._outputs if name not in one.output_names]
        tensors: dict[str, WireTensor | None] = dict.fromkeys(self._optional)
        tensors |= {wire.name: wire for wire in one.inputs}
        last: Answer | None = None
        # The last answer is the final one, so each is sent when the next has come.
        try:
            for found in self._flow(prune(self._steps, ignored), tensors, one):
                if last is not None:
                    one.pending.take(last)
                last = self._make_answer(found, one)
        except _StepFailure as error:
            if last is not None:
                one.pending.take(last)
            last = Answer(failure=Failure(f"in ensemble '{self.name}', {error}", error.code))
        one.pending.take(replace(last or Answer(is_flag_only=True), is_final=True))

    def _make_answer(self, found: Tensors, one: Admitted) -> Answer:
        if not set(one.output_names) <= found.keys():
            raise _StepFailure(
                f"{one.sent.label}unexpected deadlock, at least one output is not set while no more ensemble "
                "steps can be made",
                "INVALID_ARG",
            )
        outputs = [found[name] for name in self._outputs if name in one.output_names]
        return Answer(outputs=tuple(wire for wire in outputs if wire is not None))

    def _flow(self, steps: Sequence[Step], tensors: Tensors, one: Admitted) -> Iterator[Tensors]:
        """Yield the tensors at the end of the flow, as often as steps send responses."""
        step = next((step for step in steps if set(step.inputs.values()) <= tensors.keys()), None)
        if step is None:
            yield tensors
            return
        others = [other for other in steps if other is not step]
        for made in self._run_step(step, tensors, one):
            yield from self._flow(others, {**tensors, **made}, one)

    def _run_step(self, step: Step, tensors: Tensors, one: Admitted) -> Iterator[Tensors]:
        given = {name: tensors[tensor] for name, tensor in step.inputs.items()}
        call = BlsCall(
            model_name=step.model,
            model_version=step.version,
            inputs=tuple(replace(wire, name=name) for name, wire in given.items() if wire is not None),
            requested_output_names=tuple(step.outputs),
            request_id=one.sent.request_id,
            correlation_id=one.sent.correlation_id,
            flags=one.sent.flags,
            timeout=one.sent.timeout,
            parameters=one.sent.parameters,
            is_decoupled=self._models.is_streaming(step.model),
            trace=one.sent.trace,
        )
        try:
            for answer in self._models.run_call(call):
                if answer.failure is not None:
                    raise _StepFailure(answer.failure.message, answer.failure.code)
                if not answer.is_flag_only:
                    made = {wire.name: wire for wire in answer.outputs}
                    yield {
                        tensor: replace(made[name], name=tensor) if name in made else None
                        for name, tensor in step.outputs.items()
                    }
        except RefusalError as error:
            raise _StepFailure(str(error), "INVALID_ARG") from None


class _StepFailure(Exception):  # noqa: N818 - not an error of the program
    """A step has failed, and with it the ensemble's request."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code
