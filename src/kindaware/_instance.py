"""One loaded instance of a model: it is built in phases, executes requests, and shuts down."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from kindaware._batch.counters import Counters
from kindaware._batch.graph_recording import record_graphs
from kindaware._batch.ineffective_settings import Facts, describe_ineffective
from kindaware._batch.pipeline import Pipeline
from kindaware._batch.plan import Plan
from kindaware._batch.runner import BatchRunner
from kindaware._batch.stages import Stage
from kindaware._batch.warmup import WarmUp
from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import SETTING_NAMES
from kindaware._device.device import Device
from kindaware._device.modules import Precision, check_loaded, has_modules, hook_scope, prepare_modules
from kindaware._device.placed_instance import PlacedInstance
from kindaware._errors import ConfigError
from kindaware._execute.executor import Executor
from kindaware._execute.sequences import Sequences
from kindaware._execute.stream_runner import StreamRunner
from kindaware._execute.streams import Streams
from kindaware._hooks.binding import Call, Hooks
from kindaware._hooks.blame import blamed, report
from kindaware._hooks.class_rules import check_transaction_policy, is_asynchronous
from kindaware._hooks.event_loop import EventLoop, awaited
from kindaware._placement.malloc import plan_malloc
from kindaware._placement.primitive_cache import limit_primitives
from kindaware._placement.threads import count_cores
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.bls import Calls
from kindaware._triton.metrics import Metrics
from kindaware._triton.module import check_pb_utils, find_pb_utils, open_logger, require_pb_utils
from kindaware._triton.reload import Reload


class Instance(PlacedInstance):
    """One instance of a user's model, with everything that the library needs to run it.

    The constructor is the first phase: it places the instance and reads its configuration. `start` runs the
    others: load, prepare, bind, warm up. None of this state is kept on the user's object, whose only
    attribute of the library's is the reference to this instance.

    Args:
        model: the user's object; only its hooks and declarations are used.
        args: the dict of strings that Triton passes.

    Attributes:
        spec: the model's tensors, as config.pbtxt declares them.
        logger: writes to Triton's log.
        calls: the calls of other models that the hooks make.
        sequences: state of the sequences, once the hooks are bound; None if requests belong to none.

    Raises:
        ConfigError: the settings or the configuration can't be served as they are.
    """

    def __init__(self, model: Any, args: Mapping[str, str]) -> None:
        super().__init__(type(model), args, SETTING_NAMES)
        self._model = model
        self.logger = open_logger(self.args.instance_name)
        # Before the first tensor, which the check makes: torch then reads whether it is to use huge pages.
        keeps_memory = "off" if self.placement.uses_cuda else self.settings.keep_memory
        self._keep_memory = plan_malloc(keeps_memory, os.environ)
        self._pb_utils = find_pb_utils()
        if self._pb_utils is not None:
            check_pb_utils(self._pb_utils)
        self.spec = ModelSpec.from_config(self.args.config).completed(
            model.inputs, model.outputs, model.max_batch_size
        )
        self.calls = Calls(self.spec.name)
        self.sequences: Sequences | None = None
        self._device = Device.open(self.runtime, self.settings, self.spec.name, self.logger)
        self._counters = Counters()
        self._metrics: Metrics | None = None
        self._reload: Reload | None = None
        self._loop: EventLoop | None = None
        self._adapter: TritonAdapter | None = None
        self._executor: Executor | None = None
        self._streams: Streams | None = None
        self._pipeline: Pipeline | None = None

    def start(self) -> None:
        """Load the model and make it ready for requests.

        Raises:
            ConfigError: the class, or what its hooks return, can't be served.
            Exception: what `load` raised.

        Sync:
            Host with all devices of the instance, after `load` and once per warm-up batch.
        """
        # The hooks' parameters are checked before `load`, which may take minutes.
        check_transaction_policy(type(self._model), self.spec)
        call = Call.bind(self._hook(self.spec.hook), self.spec, f"model {self.spec.name!r}")
        if not self.placement.uses_cuda:
            limit_primitives(self.settings.primitive_cache, self.spec, os.environ)
        started = time.monotonic()
        with self.runtime.scope():
            self._load()
            prepare_modules(self._model, self.placement, self.settings)
        # load() may have queued work on the default stream or its own, whose results this stream reads.
        for device in self.placement.devices:
            self.runtime.synchronize(device)
        load_seconds = time.monotonic() - started
        # Not before: a checkpoint's memory, freed during the load, goes back to the system.
        self._keep_memory()
        self._bind(call)
        warm_up = self._warm_up()
        self.logger.info(
            "kindaware instance %s ready: %s, precision %s, load %.2f s, %s%s",
            self.args.instance_name,
            self.describe_placement(),
            self.settings.precision,
            load_seconds,
            warm_up,
            describe_ineffective(self._facts()),
        )
        # Not earlier: while this model loads and warms up, the models that it calls may not be loaded.
        self.calls.adapter = self._adapter
        if self._pb_utils is not None and self.settings.metrics:
            self._metrics = Metrics.of_instance(self._pb_utils, self.args, self.placement.devices)

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer one call of Triton's; see `KindAwareModel.execute`."""
        # Only in a unit test, which may install its stand-in for Triton's module after `initialize`.
        if self._adapter is None:
            self._connect()
            self.calls.adapter = self._adapter
        assert self._adapter is not None
        responses = None
        if self._executor is not None:
            responses = self._executor.execute(requests)
        elif self._streams is not None:
            self._streams.serve(self._adapter, requests)
        if self._reload is not None and self._device.health.fault is not None:
            self._reload.begin()
        # At most once a second: each value costs a call to the server's process.
        if self._metrics is not None and time.monotonic() >= self._metrics.due_at:
            self._metrics.flush(self._counters)
        return responses

    def end(self) -> None:
        """Cancel the streams that still run, and flush the counters."""
        if self._loop is not None:
            self._loop.close()
        self.calls.adapter = None
        if self._metrics is not None:
            self._metrics.flush(self._counters)

    @property
    def is_ready(self) -> bool:
        """Whether the instance can answer requests: False once its device has failed."""
        return self._device.health.fault is None

    def stages(self) -> Iterator[Stage]:
        """Iterate over the stages of a call, for profiling; none for a decoupled model."""
        return self._executor.stages() if self._executor is not None else iter(())

    def _facts(self) -> Facts:
        return Facts(
            self.settings,
            self.spec,
            self.args.config,
            self.placement,
            num_threads=self.thread_budget.num_threads,
            num_cores=count_cores(),
            is_async=self._loop is not None,
            has_modules=has_modules(self._model),
        )

    def _hook(self, name: str) -> Any:
        return getattr(self._model, name, None)

    def _load(self) -> None:
        """Run the user's `load`, and keep the module that it returned as `self.model`."""
        try:
            loaded = check_loaded(self._model.load(), self.spec)
        except KeyboardInterrupt:  # of somebody who stops a test
            raise
        except BaseException as error:
            # Before it leaves: threads that load has started may keep the process from saying anything more.
            self.logger.error("model %r: load failed: %s", self.spec.name, report(error))
            raise
        if loaded is None:
            return
        taken = getattr(self._model, "model", loaded)
        if taken is not loaded:
            raise ConfigError.of(
                f"class {type(self._model).__name__} attribute 'model'",
                expected="it to be free for the module that load() returned",
                got=f"one of type {type(taken).__name__} there",
                remedy="return nothing from load() and keep the module yourself, or rename your attribute",
            )
        self._model.model = loaded

    def _bind(self, call: Call) -> None:
        """Bind the hooks, and build the pipeline or streams that call them."""
        self.sequences = Sequences.of_instance(self.spec, self.settings)
        plan = self._plan = Plan.of(self.spec, self.settings, self._bind_hooks(call), self.logger)
        if self.spec.decoupled:
            self._streams = Streams(plan, StreamRunner(plan, self._device, self._counters), self._loop)
        else:
            self._pipeline = Pipeline(plan, BatchRunner(plan, self._device, self._counters))
        if self._pb_utils is not None:
            self._connect()

    def _bind_hooks(self, call: Call) -> Hooks:
        answer = self._hook(self.spec.hook)
        is_async = is_asynchronous(answer)
        if is_async:
            self._loop = EventLoop(f"kindaware-{self.spec.hook}", self.logger)
            # An asynchronous `stream` stays asynchronous; an asynchronous `forward` becomes a blocking call.
            if not self.spec.decoupled:
                precision = Precision.of(self.settings.precision)
                scope = functools.partial(hook_scope, self.runtime, precision, self.settings)
                answer = awaited(answer, self._loop, scope)
        optional = {
            name: None if (hook := self._hook(name)) is None else blamed(name, hook)
            for name in ("preprocess", "collate", "postprocess")
        }
        hooks = Hooks(answer, call, **optional, is_async=is_async)
        return hooks if self.sequences is None else self.sequences.watch(hooks)

    def _connect(self) -> None:
        """Build the objects that use Triton's module."""
        pb_utils = require_pb_utils("execute")
        plan = self._plan
        adapter = TritonAdapter(pb_utils, self.spec, self.runtime, reads_info=plan.reads_request_info)
        self._adapter = adapter
        if self._pipeline is not None:
            self._executor = Executor(plan, adapter, self._pipeline, self.sequences)
        if self.settings.reload_on_fault:
            self._reload = Reload(self.args, self.parameters, adapter, self.logger)

    def _make_warm_up_inputs(self) -> Any:
        hook = self._hook("warmup_inputs")
        return None if hook is None else blamed("warmup_inputs", hook)

    def _warm_up(self) -> str:
        """Run the forwards that no client should wait for; return a phrase for the log."""
        warm_up = WarmUp.plan(self.spec, self.settings, self.placement, self._make_warm_up_inputs())
        if self._streams is not None:
            phrase = warm_up.run(self._streams.warm_up, lambda _: ())
        else:
            # `_bind` has built either streams or a pipeline.
            assert self._pipeline is not None
            runner = self._pipeline.runner
            phrase = warm_up.run(
                self._pipeline.warm_up,
                lambda requests: record_graphs(runner, requests, self.spec.name, self.logger),
            )
        # The metrics count clients' requests only.
        self._counters.reset()
        return phrase
