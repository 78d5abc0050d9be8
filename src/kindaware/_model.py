"""`KindAwareModel`: the life of an instance, and the hooks that a user implements."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from logging import Logger
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import nn

from kindaware._batch.counters import Counters
from kindaware._batch.pipeline import Pipeline
from kindaware._batch.runner import BatchRunner
from kindaware._batch.warmup import WarmUp
from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._config.settings import SETTING_NAMES
from kindaware._device.modules import Precision, check_loaded, hook_scope, prepare_modules
from kindaware._device.staging import open_staging
from kindaware._device_placement import DevicePlacement
from kindaware._execute.executor import Executor
from kindaware._execute.sequence_mixin import SequenceHooks
from kindaware._execute.sequences import Sequences
from kindaware._execute.stream_runner import StreamRunner
from kindaware._execute.streams import Streams
from kindaware._hooks.auto_complete import complete
from kindaware._hooks.binding import Call, Hooks
from kindaware._hooks.class_rules import (
    OWN_ATTRIBUTES,
    check_class,
    check_definition,
    check_transaction_policy,
    is_asynchronous,
    own_attribute_error,
)
from kindaware._hooks.event_loop import EventLoop, awaited
from kindaware._placement.malloc import plan_memory
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.bls import ModelCalls
from kindaware._triton.metrics import Metrics
from kindaware._triton.module import check_pb_utils, find_pb_utils, open_logger, require_pb_utils
from kindaware._triton.reload import Reload


class KindAwareModel(ModelCalls, SequenceHooks, DevicePlacement):
    """Base class of a model.py that runs where its `instance_group` says, and answers in batches.

    Quick start, the whole of a model.py:

        from kindaware import KindAwareModel
        from torchvision.models import ResNet50_Weights, resnet50

        class TritonPythonModel(KindAwareModel):
            def load(self):
                return resnet50(weights=ResNet50_Weights.IMAGENET1K_V2)

            def forward(self, INPUT):
                return self.model(INPUT)

    Required:
        load(self): make the model. A module that is returned is kept as `self.model`; it and every module
            left on `self` are moved to the instance's device and put into eval mode.
        forward(self, ...): answer one batch. Gets one tensor per input, [B, ...] on the instance's device:
            by keyword when the parameters have the inputs' names, else by position in the configuration's
            order. Returns a tensor, a tuple or list in the configuration's order, or a mapping, dataclass
            or named tuple by name.

    For a decoupled model, in place of forward or beside it:
        stream(self, ...): answer one request with any number of responses. A generator, with def or async
            def; gets what forward would get for this request alone, and each item that it yields is what
            forward might return.

    Optional:
        preprocess(self, inputs): per request, before batching. Gets and returns host tensors by name,
            [b, ...]; raises `RequestError` to refuse the request.
        collate(self, name, tensors): per input, joins the requests' tensors into one host tensor [B, ...];
            when it is there, requests of different shapes come together. The setting `pad` does so too.
        postprocess(self, outputs): per batch. Gets and returns tensors by name on the device.
        warmup_inputs(self, rows): host tensors by name for one warm-up batch.
        unload(self): called when the instance ends.
        is_ready(self): asked by Triton from 26.03 on.

    To call other models of the server: `self.call`, `self.call_async` and `self.call_stream`. For sequences
    of requests: `self.sequence_state` and `self.reschedule`.

    There for the hooks: `self.device`, `self.devices`, `self.cuda_stream`, `self.model`, `self.args`,
    `self.spec`, `self.parameters`, `self.settings`, `self.logger`.

    Declared in the class, for models without a config.pbtxt: `inputs` and `outputs`, lists of `TensorSpec`,
    and `max_batch_size`. Settings are class attributes too; docs/settings.md lists them.
    """

    keep_memory: ClassVar[str] = "auto"
    precision: ClassVar[str] = "32-true"
    memory_format: ClassVar[str] = "contiguous"
    compile: ClassVar[str] = "off"
    cuda_graphs: ClassVar[str | Sequence[int]] = "off"
    output_device: ClassVar[str] = "cpu"
    pinned_limit_bytes: ClassVar[int] = 256 * 2**20
    warmup: ClassVar[str | Sequence[int] | None] = None
    cast_outputs: ClassVar[bool] = False
    reload_on_fault: ClassVar[bool] = False
    metrics: ClassVar[bool] = True
    cancellation: ClassVar[str] = "auto"
    isolate_errors: ClassVar[bool] = True
    pad: ClassVar[str | Mapping[str, Any] | None] = None
    max_streams: ClassVar[int] = 64
    max_sequences: ClassVar[int] = 1024

    inputs: ClassVar[Sequence[TensorSpec]] = ()
    outputs: ClassVar[Sequence[TensorSpec]] = ()
    max_batch_size: ClassVar[int] = 0

    _known_settings: ClassVar[Collection[str]] = SETTING_NAMES

    load: Callable[..., nn.Module | None]
    forward: Callable[..., Any]
    stream: Callable[..., Any]
    model: nn.Module
    spec: ModelSpec
    logger: Logger
    _runner: BatchRunner
    _pipeline: Pipeline
    _streams: Streams | None = None
    _loop: EventLoop | None = None
    _reload_request: Reload | None = None
    _hooks: Hooks
    _adapter: TritonAdapter | None = None
    _executor: Executor | None = None
    _metrics: Metrics | None = None
    _is_placed = _reads_info = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_definition(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse, from `load` on, to overwrite what the library set."""
        if self._is_placed and name in OWN_ATTRIBUTES:
            raise own_attribute_error(f"class {type(self).__name__}", name)
        super().__setattr__(name, value)

    @property
    def cuda_stream(self) -> torch.cuda.Stream | None:
        """The stream on which the instance works; None on the CPU."""
        return getattr(self._runtime, "stream", None)

    @classmethod
    def auto_complete_config(cls, auto_complete_model_config: Any) -> Any:
        """Write what the class declares into a configuration that doesn't say it.

        Args:
            auto_complete_model_config: Triton's `pb_utils.ModelConfig`.

        Returns:
            The same object. The model is decoupled when the class defines `stream` and config.pbtxt has no
            `model_transaction_policy`. Requests are batched dynamically when the class defines no `stream`
            and a `max_batch_size` above 1, and config.pbtxt names no inputs.
        """
        streams = callable(getattr(cls, "stream", None))
        complete(cls, auto_complete_model_config, subject=f"class {cls.__name__}", streams=streams)
        return auto_complete_model_config

    def initialize(self, args: Mapping[str, str]) -> None:
        """Place the instance, load the model and run the warm-up.

        Works without a server: in a unit test a dict of strings is enough.

        Raises:
            ConfigError: the class, its settings or the configuration can't be served as they are.
        """
        check_class(type(self), KindAwareModel)
        self._is_placed = self._may_call = False
        super().initialize(args)
        self.logger = open_logger(self.args.instance_name)
        if (pb_utils := find_pb_utils()) is not None:
            check_pb_utils(pb_utils)
        self.spec = ModelSpec.from_config(self.args.config).completed(
            self.inputs, self.outputs, self.max_batch_size
        )
        check_transaction_policy(type(self), self.spec)
        call = Call.bind(getattr(self, self.spec.hook), self.spec, f"model {self.spec.name!r}")
        self._is_placed = True
        on_host = not self.placement.uses_cuda
        keep_memory = plan_memory(self.settings.keep_memory if on_host else "off", os.environ)
        started = time.monotonic()
        with self._runtime.scope():
            loaded = check_loaded(self.load(), self.spec)
            if loaded is not None:
                self.model = loaded
            prepare_modules(self, self.placement, self.settings)
        # What load() queued on a stream of its own, or on the default one, the instance's stream may read.
        for device in self.devices:
            self._runtime.synchronize(device)
        load_seconds = time.monotonic() - started
        keep_memory()
        self._sequences = Sequences.of_instance(self.spec, self.settings)
        self._hooks = hooks = self._bind_hooks(call)
        self._reads_info = bool(hooks.with_requests) or self._sequences is not None
        keeps = self.settings.output_device == "instance"
        staging = open_staging(self._runtime, self.settings.pinned_limit_bytes, keeps_outputs=keeps)
        runner = StreamRunner(self.spec, self.settings, hooks, self._runtime, staging, self.logger)
        self._runner = runner
        self._adapter = self._executor = self._streams = self._reload_request = self._metrics = None
        if self.spec.decoupled:
            self._streams = Streams(self.spec, self.settings, runner, self.logger, self._loop)
        self._pipeline = Pipeline(self.spec, self.settings, hooks, runner, self.logger)
        if pb_utils is not None:
            self._adapter, self._executor = self._connect(pb_utils)
            if self.settings.reload_on_fault:
                self._reload_request = Reload(self.args, self.parameters, self._adapter, self.logger)
        warm_up = WarmUp.plan(self.spec, self.settings, self.placement, getattr(self, "warmup_inputs", None))
        answer = None if self._streams is None else self._streams.warm_up
        self._log_ready(load_seconds, warm_up.run(runner, answer))
        self._runner.counters = Counters()  # the warm-up answered nobody
        self._may_call = True
        if pb_utils is not None and self.settings.metrics:
            self._metrics = Metrics.of_instance(pb_utils, self.args, self.devices)

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer one call of Triton's. Not to be overridden.

        Returns:
            One response per request, in order; None for a decoupled model, whose responses are sent.
        """
        if self._adapter is None or self._executor is None:
            self._adapter, self._executor = self._connect(require_pb_utils("execute"))
        responses = None
        if self._streams is None:
            responses = self._executor.respond(requests)
        else:
            self._streams.serve(self._adapter, requests)
        if self._reload_request is not None and self._runner.fault is not None:
            self._reload_request.begin()
        if self._metrics is not None and time.monotonic() >= self._metrics.due_at:
            self._metrics.flush(self._runner.counters)
        return responses

    def finalize(self) -> None:
        """End what still streams, hand over the last counters and call `unload`, as the instance ends."""
        if self._loop is not None:
            self._loop.close()
        self._may_call = False
        try:
            if self._metrics is not None:
                self._metrics.flush(self._runner.counters)
        finally:
            self.unload()

    def unload(self) -> None:
        """Let go of what `load` opened; nothing unless overridden."""

    def is_ready(self) -> bool:
        """Whether the instance can answer: False once its device has failed."""
        return self._runner.fault is None

    def _connect(self, pb_utils: ModuleType) -> tuple[TritonAdapter, Executor]:
        """Make what speaks to Triton."""
        adapter = TritonAdapter(pb_utils, self.spec, self._runtime, reads_info=self._reads_info)
        answering = Executor(
            adapter,
            self.spec,
            self.settings,
            self._hooks,
            self._pipeline,
            self._runner,
            self._sequences,
            reads_info=self._reads_info,
        )
        return adapter, answering

    def _bind_hooks(self, call: Call) -> Hooks:
        optional = {name: getattr(self, name, None) for name in ("preprocess", "collate", "postprocess")}
        answer = getattr(self, self.spec.hook)
        is_async = is_asynchronous(answer)
        self._loop = EventLoop(f"kindaware-{self.spec.hook}", self.logger) if is_async else None
        if self._loop is not None and not self.spec.decoupled:
            precision = Precision.of(self.settings.precision)
            answer = awaited(answer, self._loop, lambda: hook_scope(self._runtime, precision))
        hooks = Hooks(answer, call, is_async=is_async, **optional)
        return hooks if self._sequences is None else self._sequences.watch(hooks)

    def _log_ready(self, load_seconds: float, warm_up: str) -> None:
        self.logger.info(
            "kindaware instance %s ready: %s, precision %s, load %.2f s, %s",
            self.args.instance_name,
            self._describe_placement(),
            self.settings.precision,
            load_seconds,
            warm_up,
        )
