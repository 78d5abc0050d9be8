"""A model as the simulated server serves it: configuration, checks, instances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kindaware._errors import ConfigError
from kindaware.testing.accelerator import SimulatedAccelerator
from kindaware.testing.arguments import ModelArguments
from kindaware.testing.harness.failures import ModelLoadError, describe, from_model_code
from kindaware.testing.harness.pending import Admitted, ClientRequest, Pending
from kindaware.testing.harness.process.context import ServerContext
from kindaware.testing.harness.process.instance import Instance
from kindaware.testing.harness.process.interface import ModelControl
from kindaware.testing.harness.process.loader import find_code
from kindaware.testing.harness.server.input_check import HangingRequest, InputCheck
from kindaware.testing.harness.server.option_check import check_index, check_kind
from kindaware.testing.harness.server.options import ModelOptions, ModelSource
from kindaware.testing.harness.server.queue_policy import QueuePolicy
from kindaware.testing.harness.server.response_cache import ResponseCache
from kindaware.testing.harness.server.sequences import SequenceBatcher
from kindaware.testing.harness.server.warmup import Warmup
from kindaware.testing.stand_in import TritonContractError, WireTensor


class ServedModel:
    """A loaded model.

    Args:
        context: of the server that it belongs to.
        models: that server's models, for the code of this one.
        source: a model's directory, or a class.
        options: how to load it.
        arguments: its configuration.

    Raises:
        ConfigError: there is no model.py, or the configuration is wrong.
        ModelLoadError: the model's code fails.
        TritonContractError: it does what would block or crash a server.
    """

    def __init__(
        self,
        context: ServerContext,
        models: ModelControl,
        source: ModelSource,
        options: ModelOptions,
        arguments: ModelArguments,
    ) -> None:
        self._context = context
        self._models = models
        self.source = source
        self.options = options
        self.name = arguments.name
        config = arguments.config
        allowed = config["version_policy"].get("specific", {}).get("versions")
        code = find_code(source, options.version, config["default_model_filename"], allowed)
        self.code = replace(code, model_directory=arguments.directory)
        self.instances: list[Instance] = []
        if options.auto_complete:
            self._auto_complete(arguments)
        arguments.validate()
        self.config = arguments.config
        self.is_decoupled = bool(self.config.get("model_transaction_policy", {}).get("decoupled"))
        self._check = InputCheck(self.config, context.server_version)
        self._warmup = Warmup(self.config, arguments.directory, self.version, self._check)
        forced = self.config.get("parameters", {}).get("FORCE_CPU_ONLY_INPUT_TENSORS", {})
        self._takes_gpu_inputs = forced.get("string_value") == "no"
        has_sequences = "sequence_batching" in self.config
        self._sequences = SequenceBatcher(self.config, context.server_version) if has_sequences else None
        self._cache = ResponseCache.of_model(self.config)
        self._queue = QueuePolicy(self.config)
        self._warn_of_queue()
        try:
            for index in range(_count_instances(options, self.config)):
                self._start(arguments, index)
        except BaseException:
            self.stop()
            raise

    @property
    def version(self) -> str:
        """The version that is served."""
        return self.code.version

    def _auto_complete(self, arguments: ModelArguments) -> None:
        """Let the class complete its configuration, in a process of its own.

        Source: python_backend `pb_stub.cc`, Stub::AutoCompleteModelConfig (commit f9088ff).
        """
        process = Instance(self._context, self._models, self.name, self.name, self.code)
        with self._loading():
            loaded = process.load()
            process.phase = "auto_complete"
            complete = getattr(loaded.model_class, "auto_complete_config", None)
            if complete is None:
                return
            model_config = loaded.pb_utils.ModelConfig
            given = model_config(arguments.config_text)
            completed = process.auto_complete(complete, given)
        process.phase = "done"
        if not isinstance(completed, model_config):
            raise ModelLoadError(
                self.name,
                self.version,
                f"auto_complete_config function in model '{self.name}' must return a valid "
                "pb.ModelConfig object.",
            )
        arguments.complete(completed.as_dict())

    def _warn_of_queue(self) -> None:
        """Log a warning for settings of the queue that have no effect in the harness."""
        if self.config.get("dynamic_batching", {}).get("priority_queue_policy"):
            text = "the harness knows no priorities: priority_queue_policy has no effect here"
            self._context.log.add("WARNING", text, "kindaware.testing", 0, self.name)

    def _start(self, arguments: ModelArguments, index: int) -> None:
        options = self.options
        placed = arguments.place(
            options.kind, options.device_id, group_index=options.group_index, instance_index=index
        )
        if options.kind is None and self._context.accelerator is None:
            check_kind(self.name, placed.kind, torch.cuda.device_count())
        instance = Instance(
            self._context,
            self._models,
            self.name,
            placed.name,
            self.code,
            is_decoupled=self.is_decoupled,
            sequences=self._sequences,
        )
        if placed.note:
            instance.log("WARNING", placed.note, "kindaware.testing", 0)
        self.instances.append(instance)
        with self._loading():
            instance.start(arguments.args(placed, self.version))
        self._warmup.run(instance, self._context.hang_timeout_seconds)
        self.config = arguments.config

    def _loading(self) -> Any:
        return _Loading(self.name, self.version)

    def is_configured_as(self, source: ModelSource, options: ModelOptions) -> bool:
        """Return whether a configuration is the one that is served, whatever it says about instances.

        Raises:
            ConfigError: it can't be parsed or would be refused.
        """
        arguments = read_arguments(source, options, self._context.accelerator)
        arguments.validate()
        return {**arguments.config, "instance_group": None} == {**self.config, "instance_group": None}

    def is_ready(self) -> bool:
        """Return whether all instances say that they are ready."""
        return all(instance.is_ready() for instance in self.instances)

    def stop(self) -> None:
        """Finalize all instances."""
        for instance in self.instances:
            instance.stop()

    def admit(self, pending: Pending, index: int | None = None) -> Admitted:
        """Let a request through to the model.

        Args:
            pending: the request.
            index: of the instance that a new sequence is to get.

        Raises:
            RefusedRequest: the server would refuse it.
            TritonContractError: the server would never answer.
        """
        sent = pending.sent
        try:
            inputs = self._check.check(sent)
        except HangingRequest:
            raise self.instances[0].violation(
                f"leave the client waiting for ever: request {sent.request_id!r} has no rows and no elements",
                "send at least one row",
            ) from None
        place = None
        if self._sequences is not None:
            sent = self._sequences.admit(sent)
            place = self._sequences.place(sent, len(self.instances), index)
        if all(instance.is_busy() for instance in self.instances):
            self._queue.check_size(sent, sum(instance.num_waiting for instance in self.instances))
        if not self._takes_gpu_inputs:
            inputs = tuple(replace(wire, gpu=None) for wire in inputs)
        names, deadline = self._check.output_names(sent), self._queue.deadline(sent)
        return Admitted(pending, sent, inputs, names, place=place, deadline=deadline)

    def _split(
        self, admitted: Sequence[Admitted], index: int | None = None
    ) -> list[tuple[Instance, list[Admitted]]]:
        """Return the calls of `execute` that requests make: one, or more where each sequence has a slot."""
        if not admitted:
            return []
        if not any(one.place for one in admitted):
            return [(self.choose(index), list(admitted))]
        calls, left = [], list(admitted)
        while left:
            slots: dict[tuple[int, int], Admitted] = {}
            for one in left:
                if one.place and one.place[0] == (left[0].place or one.place)[0]:
                    slots.setdefault(one.place, one)
            taken = list(slots.values())
            left = [one for one in left if one not in taken]
            number, last = max(slots)
            batch = [slots.get((number, slot)) or _filler(taken[0]) for slot in range(last + 1)]
            calls.append((self.instances[number], batch))
        return calls

    def run(self, admitted: Sequence[Admitted], index: int | None = None) -> Instance:
        """Run the requests whose answers aren't cached; return the instance that ran the last of them."""
        instance = self.choose(index)
        asked = [one for one in admitted if self._cache is None or not self._cache.answer(one)]
        for instance, batch in self._split(asked, index):
            instance.run(batch)
        if self._cache is not None:
            for one in asked:
                self._cache.keep(one)
        return instance

    def pick(self, admitted: Admitted) -> int:
        """Return the index of the instance that is to get a request: its sequence's, else an idle one's."""
        return admitted.place[0] if admitted.place else self.instances.index(self.choose())

    def choose(self, index: int | None = None) -> Instance:
        """Return an instance: the one with this index, else an idle one."""
        if index is not None:
            check_index(index, len(self.instances))
            return self.instances[index]
        return next((one for one in self.instances if not one.is_busy()), self.instances[0])


def _count_instances(options: ModelOptions, config: Mapping[str, Any]) -> int:
    """Return how many instances to start: as the test says, else as the group of the configuration does."""
    if options.instances is not None:
        return options.instances
    groups = config.get("instance_group", ())
    return (
        max(1, int(groups[options.group_index].get("count", 1))) if options.group_index < len(groups) else 1
    )


def _filler(other: Admitted) -> Admitted:
    """Return a filler for a slot without a request: inputs of the same shapes, with arbitrary contents."""
    inputs = [replace(wire, data=_anything(wire)) for wire in other.inputs]
    return Admitted(Pending(ClientRequest()), ClientRequest(), tuple(inputs), (), is_filler=True)


def _anything(wire: WireTensor) -> bytes:
    return bytes(4 * math.prod(wire.shape)) if wire.datatype == "BYTES" else b"\xff" * len(wire.data)


class _Loading:
    """Turns what a model's code raises while it loads into a ModelLoadError."""

    def __init__(self, name: str, version: str) -> None:
        self._name = name
        self._version = version

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if error is None or isinstance(error, (TritonContractError, KeyboardInterrupt, ModelLoadError)):
            return
        text = describe(error)
        raise ModelLoadError(self._name, self._version, text) from error.with_traceback(
            from_model_code(error.__traceback__)
        )


def read_arguments(
    source: ModelSource, options: ModelOptions, accelerator: SimulatedAccelerator | None
) -> ModelArguments:
    """Read a configuration; without a kind, the host has as many GPUs as the accelerator has devices."""
    directory = None if isinstance(source, type) else Path(source).absolute()
    if directory is None and options.config is None:
        raise ConfigError.of(
            f"class {getattr(source, '__name__', source)}",
            expected="a config with it: a path, a dict, or the text of a config.pbtxt",
            got="none",
            remedy="pass config=",
        )
    if directory is not None and not directory.is_dir():
        find_code(source, options.version, "model.py")
    config = options.config if options.config is not None else directory
    num_gpus = options.num_gpus
    if num_gpus is None and options.kind is None and accelerator is not None:
        num_gpus = accelerator.num_devices
    arguments = ModelArguments(
        config,
        name=options.name,
        parameters=options.parameters,
        directory=directory,
        num_gpus=num_gpus,
        kind=options.kind,
        device_id=options.device_id,
    )
    if accelerator is not None:
        accelerator.require_devices(arguments.num_gpus)
    _check_name(arguments, directory, options.name)
    return arguments


def _check_name(arguments: ModelArguments, directory: Path | None, given: str | None) -> None:
    """Refuse a model whose name is not that of its directory, as the server does."""
    if directory is None or given is not None or arguments.name == directory.name:
        return
    raise ConfigError.of(
        f"model {directory}",
        expected=f"a configuration with the directory's name {directory.name!r}, or none",
        got=repr(arguments.name),
        remedy="remove the name from config.pbtxt, or pass name=",
    )
