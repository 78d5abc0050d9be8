"""One loaded instance of a model: it is built in phases, executes requests, and shuts down."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from kindaware._batch.counters import Counters
from kindaware._batch.graph_recording import record_graphs
from kindaware._batch.pipeline import Pipeline
from kindaware._batch.plan import Plan
from kindaware._batch.request import Request
from kindaware._batch.runner import BatchRunner
from kindaware._batch.stages import Stage
from kindaware._batch.warmup import Answer, WarmUp
from kindaware._config.model_spec import ModelSpec
from kindaware._config.response_cache import check_response_cache
from kindaware._config.settings import AUTO, FROZEN, SETTING_NAMES, Settings
from kindaware._device.device import Device
from kindaware._device.modules import (
    Precision,
    check_loaded,
    compile_modules,
    has_modules,
    hook_scope,
    modules_of,
    prepare_modules,
)
from kindaware._device.placed_instance import PlacedInstance
from kindaware._device.staging import OverlappingStaging
from kindaware._errors import ConfigError, message
from kindaware._execute.beat import open_beat
from kindaware._execute.executor import Executor
from kindaware._execute.sequences import Sequences
from kindaware._hooks.binding import Call
from kindaware._hooks.blame import blamed, report
from kindaware._hooks.class_rules import check_graphs, check_transaction_policy, is_asynchronous
from kindaware._hooks.event_loop import EventLoop, awaited
from kindaware._hooks.graphed import graphed_methods
from kindaware._hooks.hooks import HOOKS, HOOKS_OF_INSTANCE, Hooks
from kindaware._hooks.interruption import is_stub, stops_test
from kindaware._hooks.overdue import Overdue
from kindaware._ineffective_settings import Facts, describe_ineffective
from kindaware._placement.malloc import plan_malloc
from kindaware._placement.primitive_cache import limit_primitives
from kindaware._placement.threads import count_cores
from kindaware._tracebacks import format_traceback
from kindaware._triton.adapter import TritonAdapter
from kindaware._triton.bls import Calls
from kindaware._triton.end_of_server import EndOfServer
from kindaware._triton.leftover_threads import LeftoverThreads
from kindaware._triton.log import open_logger
from kindaware._triton.metrics import Metrics
from kindaware._triton.module import (
    check_pb_utils,
    find_pb_utils,
    is_stand_in,
    require_pb_utils,
)
from kindaware._triton.reload import Reload

if TYPE_CHECKING:  # most instances do without them
    from kindaware._execute.step_graphs import StepGraphs
    from kindaware._execute.steps import Steps
    from kindaware._execute.streams import Streams
    from kindaware._tracing.tracing import Tracing
    from kindaware._tuning.instance_tuner import InstanceTuner


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
        logger: writes the library's lines to Triton's log.
        model_logger: writes those of the model.
        calls: the calls of other models that the hooks make.
        sequences: state of the sequences, once the hooks are bound; None if requests belong to none.
        graphs: the CUDA graphs of a model with `step`, once the hooks are bound.

    Raises:
        ConfigError: the settings or the configuration can't be served as they are.
    """

    def __init__(self, model: Any, args: Mapping[str, str]) -> None:
        super().__init__(type(model), args, SETTING_NAMES)
        self._threads = LeftoverThreads()
        self._model = model
        self.logger = open_logger(self.args, os.environ)
        # Whatever the model does to it, the library's own lines are written.
        self.model_logger = open_logger(self.args, os.environ)
        # Before the first tensor, which the check makes: torch then reads whether it is to use huge pages.
        keeps_memory = "off" if self.placement.uses_cuda else self.settings.keep_memory
        self._malloc = plan_malloc(keeps_memory, os.environ)
        self._pb_utils = find_pb_utils()
        if self._pb_utils is not None:
            check_pb_utils(self._pb_utils)
        self.spec = ModelSpec.from_config(self.args.config).completed(
            model.inputs, model.outputs, model.max_batch_size
        )
        if not self.spec.inputs and not self.spec.outputs:
            raise ConfigError.of(
                f"model {self.spec.name!r} configuration",
                expected="inputs and outputs",
                got="none, in config.pbtxt and in the class",
                remedy="write config.pbtxt with input and output, or declare inputs and outputs in the class",
            )
        check_response_cache(self.args.config, self.spec.name, is_allowed=self.settings.allow_response_cache)
        self.calls = Calls(self.spec.name)
        self.sequences: Sequences | None = None
        self.graphs: StepGraphs | None = None
        self._device = Device.open(self.runtime, self.settings, self.spec.name, self.logger)
        self._counters = Counters()
        self._metrics: Metrics | None = None
        self._reload: Reload | None = None
        self._tracing: Tracing | None = None
        self._loop: EventLoop | None = None
        self._adapter: TritonAdapter | None = None
        self._executor: Executor | None = None
        self._hook_of_requests = ""
        self._streams: Streams | None = None
        self._steps: Steps | None = None
        self._end_of_server: EndOfServer | None = None
        self._pipeline: Pipeline | None = None
        self._answer: Callable[[list[Any]], list[Any] | None] = self._connect_late
        # A harness has no stub, and nobody who watches it.
        self._beat = open_beat(os.environ) if is_stub() else None

    def start(self) -> None:
        """Load the model and make it ready for requests.

        Raises:
            ConfigError: the class, or what its hooks return, can't be served.
            Exception: what `load` raised.

        Sync:
            Host with all devices of the instance, after `load` and once per warm-up batch.
        """
        try:
            self._start()
        except BaseException as error:
            # An instance that fails to load is not ended by Triton, and its threads would stay.
            if self._steps is not None:
                self._steps.close()
            if self._executor is not None:
                self._executor.close()
            self._close_loop()
            if self._streams is not None:
                self._streams.close()
            # The server reports a failed load when the stub has ended, so not at all if it can't.
            self._report_threads("none that outlives a failed load", "end it when load() raises", error)
            raise

    def check_ended(self) -> None:
        """Log which threads of the model still run after `unload`, for Triton waits for them."""
        # In a harness other instances of the process have threads of their own.
        if self._pb_utils is not None and not is_stand_in(self._pb_utils):
            self._report_threads("none after unload()", "end it in unload()")

    def _report_threads(self, expected: str, remedy: str, error: BaseException | None = None) -> None:
        """Log the threads that keep the process from ending, and what it fails with."""
        found = self._threads.describe()
        if found:
            subject, remedy = f"model {self.spec.name!r} threads", f"{remedy}, or start it with daemon=True"
            text = message(subject, expected=expected, got=found, remedy=remedy)
            self.logger.error("%s", text if error is None else f"{text}\n{format_traceback(error)}")

    def _start(self) -> None:
        call = self._bind_forward()
        started = time.monotonic()
        num_threads = torch.get_num_threads()
        self._load()
        self._restore_threads(num_threads)
        self._prepare()
        load_seconds = time.monotonic() - started
        self._open_tracing()
        self._optimize(call)
        self._bind(call)
        warm_up = self._warm_up()
        self._log_ready(load_seconds, warm_up)
        self._open()

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Answer one call of Triton's; see `KindAwareModel.execute`."""
        responses = self._answer(requests)
        # With steps their thread does, since streams go on while no request comes.
        if self._steps is None:
            self._flush_metrics_if_due()
        return responses

    def end(self) -> None:
        """End what still streams, hand over the last counters and run the user's `unload`.

        Raises:
            Exception: what `unload` raised.

        Sync:
            Until the streams have ended, for at most 5 s, or `drain_seconds` with `step`, and `unload` has
            returned.
        """
        if self._end_of_server is not None:
            self._end_of_server.close()
        if self._steps is not None:
            self._steps.close()
        if self._executor is not None:
            self._executor.close()
        if self._loop is not None:
            self._loop.cancel_submitted()
        if self._streams is not None:
            self._streams.close()
        self.calls.adapter = None
        try:
            if self._metrics is not None:
                self._flush_metrics(self._metrics)
            self._call("unload")
        finally:
            self._close_loop()
            if self._tracing is not None:
                self._tracing.close()
            if self._metrics is not None:
                self._metrics.close()

    @property
    def is_ready(self) -> bool:
        """Whether the instance can answer requests: False once its device has failed."""
        return self._device.health.fault is None

    def stages(self) -> Iterator[Stage]:
        """Iterate over the stages of a call, or of a stream, for profiling and tracing."""
        owner = self._executor or self._streams or self._steps
        return owner.stages() if owner is not None else iter(())

    def _close_loop(self) -> None:
        if self._loop is not None:
            self._loop.close()

    def _flush_metrics_if_due(self) -> None:
        # At most once a second: each value costs a call to the server's process.
        if self._metrics is not None and time.monotonic() >= self._metrics.due_at:
            self._flush_metrics(self._metrics)

    def _flush_metrics(self, metrics: Metrics) -> None:
        try:
            metrics.flush(self._counters)
        except Exception as error:
            # The answers of this call are computed, and no client should lose them for a figure.
            self.logger.error("model %r: metrics not handed over: %s", self.spec.name, report(error))

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
            hooks=frozenset(name for name in HOOKS if self._hook(name) is not None),
            unpads=self._plan.padding is not None,
            is_served=is_stub(),
            environment=os.environ,
        )

    def _hook(self, name: str) -> Any:
        return getattr(self._model, name, None)

    def _call(self, name: str) -> Any:
        """Call a hook of the instance's life; an asynchronous one runs on the loop, to completion."""
        hook = self._hook(name)
        if self._loop is None or not is_asynchronous(hook):
            return hook()
        return awaited(hook, self._loop, self.runtime.scope)()

    def _bind_forward(self) -> Call:
        """Check the hooks' parameters: before `load`, which may take minutes."""
        name = self._hook_of_requests = check_transaction_policy(type(self._model), self.spec)
        has_preprocess = self._hook("preprocess") is not None
        subject = f"model {self.spec.name!r}"
        check_graphs(type(self._model), subject, self.settings.cuda_graphs)
        return Call.bind(self._hook(name), self.spec, subject, hook=name, has_preprocess=has_preprocess)

    def _load(self) -> None:
        """Run the user's `load`, and keep the module that it returned as `self.model`."""
        is_async = any(
            is_asynchronous(self._hook(name)) for name in (*HOOKS_OF_INSTANCE, self._hook_of_requests)
        )
        # Their threads begin after this, that of `step` too.
        if is_async or self._hook("step") is not None:
            self._malloc.share_arena()
        if is_async:
            self._loop = EventLoop(f"kindaware-{self._hook_of_requests}", self.logger)
        if not self.placement.uses_cuda:
            limit_primitives(self.settings.primitive_cache, self.spec, os.environ)
        try:
            with self.runtime.scope():
                with self._overdue("load"):
                    returned = self._call("load")
                loaded = check_loaded(returned, self.spec)
        except BaseException as error:
            if stops_test(error):
                raise
            # Before it leaves: threads that load has started may keep the process from saying anything more.
            self.logger.error("model %r: load failed: %s", self.spec.name, report(error))
            raise
        if loaded is None:
            return
        taken = getattr(self._model, "model", loaded)
        if taken is not loaded:
            raise ConfigError.of(
                f"class {type(self._model).__name__} attribute 'model'",
                expected="no other self.model than the module that load() returned",
                got=f"a {type(taken).__name__}",
                remedy="return nothing from load() and keep the module yourself, or rename your attribute",
            )
        self._model.model = loaded

    def _restore_threads(self, planned: int) -> None:
        """Undo a change that `load` made to torch's number of threads: some packages do so when imported."""
        found = torch.get_num_threads()
        if found == planned:
            return
        torch.set_num_threads(planned)
        text = message(
            f"model {self.spec.name!r} load",
            expected=f"torch.get_num_threads() left at {planned}",
            got=f"{found}, and set it back",
            remedy="to choose the number, use the setting num_threads",
        )
        self.logger.warning("%s", text)

    def _prepare(self) -> None:
        """Prepare the modules that `load` has left on the model, and wait for its work on the devices."""
        with self.runtime.scope():
            prepare_modules(self._model, self.placement, self.settings)
        # load() may have queued work on the default stream or its own, whose results this stream reads.
        for device in self.placement.devices:
            self.runtime.synchronize(device)
        # Not before: a checkpoint's memory, freed during the load, goes back to the system.
        self._malloc.keep()

    def _optimize(self, call: Call) -> None:
        """Change the settings, the modules and the number of threads to what is fastest, if that is wanted.

        Only on a server: a test, which measures nothing, is the same every time.
        """
        if self.settings.optimize == "off" or not (self._may_measure and has_modules(self._model)):
            return
        make_inputs = self._make_warm_up_inputs()
        warm_up = WarmUp.plan(self.spec, self.settings, self.placement, make_inputs)
        if warm_up.sizes:
            self.settings, self.thread_budget = self._tuner(warm_up).optimize(
                lambda settings: self._make_pipeline(call, settings).run_alone,
                has_examples=make_inputs is not None,
            )

    def _tuner(self, warm_up: WarmUp) -> InstanceTuner:
        from kindaware._tuning.instance_tuner import InstanceTuner

        return InstanceTuner(
            self._model,
            self.args,
            self.settings,
            self.thread_budget,
            warm_up,
            self.logger,
            self._set_threads,
        )

    @property
    def _may_measure(self) -> bool:
        """Whether forwards may be run to time them: on a server, and without a state that they might keep."""
        has_state = self.spec.decoupled or self.spec.sequences is not None
        return is_stub() and not self.placement.uses_cuda and not has_state

    def _make_pipeline(self, call: Call, settings: Settings) -> Pipeline:
        """Return a pipeline with other settings, to measure with."""
        plan = Plan.of(self.spec, settings, self._bind_hooks(call, settings), self.logger)
        return Pipeline(plan, BatchRunner(plan, self._device, Counters()))

    def _bind(self, call: Call) -> None:
        """Bind the hooks, and build the pipeline, steps or streams that call them."""
        self.sequences = Sequences.of_instance(self.spec, self.settings)
        hooks = self._bind_hooks(call, self.settings)
        plan = self._plan = Plan.of(self.spec, self.settings, hooks, self.logger)
        if plan.hooks.step is not None:
            from kindaware._execute.step_runner import StepRunner
            from kindaware._execute.steps import Steps

            step_runner = StepRunner(plan, self._device, self._counters)
            if self._beat is not None:
                step_runner.watch(self._beat)
            self._steps = Steps(plan, step_runner)
            self.graphs = step_runner.graphs
            self._steps.after_round = self._flush_metrics_if_due
        elif self.spec.decoupled:
            from kindaware._execute.stream_runner import StreamRunner
            from kindaware._execute.streams import Streams

            loop = self._loop if plan.hooks.is_async else None
            stream_runner = StreamRunner(plan, self._device, self._counters)
            if self._beat is not None:
                stream_runner.beat = self._beat
            self._streams = Streams(plan, stream_runner, loop)
        else:
            self._pipeline = Pipeline(plan, BatchRunner(plan, self._device, self._counters))
        if self._pb_utils is not None:
            self._connect()

    def _bind_hooks(self, call: Call, settings: Settings) -> Hooks:
        answer = self._hook(self._hook_of_requests)
        is_async = is_asynchronous(answer)
        # An asynchronous `stream` stays asynchronous; an asynchronous `forward` becomes a blocking call.
        if self._loop is not None and is_async and not self.spec.decoupled:
            precision = Precision.of(settings.precision)
            scope = functools.partial(hook_scope, self.runtime, precision, settings)
            answer = awaited(answer, self._loop, scope)
        hooks = Hooks.of(self._model, answer, call, is_async=is_async)
        if self._tracing is not None:
            hooks = self._tracing.watch(hooks, self._model, self._hook_of_requests)
        if self.sequences is None:
            return hooks
        return self.sequences.watch(hooks, self.runtime.wait_for_host_memory)

    def _connect(self) -> None:
        """Build the objects that use Triton's module."""
        pb_utils = require_pb_utils("execute")
        plan = self._plan
        adapter = TritonAdapter.open(
            pb_utils, self.spec, self.runtime, plan.reporter, reads_info=plan.reads_request_info
        )
        self._adapter = adapter
        if self._steps is not None:
            self._answer = functools.partial(self._steps.serve, adapter)
        elif self._streams is not None:
            self._answer = functools.partial(self._streams.serve, adapter)
        elif self._pipeline is not None:
            staging = self._device.staging
            if isinstance(staging, OverlappingStaging):
                from kindaware._execute.overlapping_executor import OverlappingExecutor

                self._executor = OverlappingExecutor(plan, adapter, self._pipeline, staging)
            else:
                self._executor = Executor(plan, adapter, self._pipeline, self.sequences)
            answer = self._executor.execute
            self._answer = answer if self._beat is None else self._beat.around(answer)
        if self._tracing is not None:
            self._trace(self._tracing)
        if self.settings.reload_on_fault:
            self._reload = Reload(self.args, self.parameters, pb_utils, self.logger)

    def _open_tracing(self) -> None:
        """Find where spans go, which `load` may have set."""
        if not self.settings.tracing:
            return
        try:
            from kindaware._tracing.tracing import Tracing
        except ModuleNotFoundError as error:
            raise ConfigError.of(
                f"model {self.spec.name!r} tracing",
                expected="the package opentelemetry-api",
                got=str(error),
                remedy="pip install 'kindaware[otel]', or set tracing to false",
            ) from error
        self._tracing = Tracing(self.args, os.environ, self.logger)

    def _trace(self, tracing: Tracing) -> None:
        """Put spans around all that is done for requests."""
        tracing.trace_stages(self.stages())
        tracing.trace_calls(self.calls)
        if self._streams is not None:
            tracing.trace_items(self._streams, self._model)
        streams = self._streams or self._steps
        if streams is not None:
            tracing.trace_arrivals(streams.arrivals)
        else:
            self._answer = tracing.trace_execute(self._answer)
        if self._executor is not None:
            tracing.trace_answers(self._executor)

    def _connect_late(self, requests: list[Any]) -> list[Any] | None:
        """Answer the first call of a unit test that installs its stand-in for Triton's module only now."""
        self._connect()
        self._allow_requests()
        return self._answer(requests)

    def _make_warm_up_inputs(self) -> Any:
        hook = self._hook("warmup_inputs")
        if hook is None:
            return None
        hook = blamed("warmup_inputs", hook)

        def make(rows: int) -> Any:
            with self.runtime.scope(), torch.no_grad():
                made = hook(rows)
                # The check reads it on the host, where its copy may be queued only.
                if isinstance(made, Mapping):
                    self._device.staging.land(made.values())
            return made

        return make

    def _log_ready(self, load_seconds: float, warm_up: str) -> None:
        self.logger.info(
            "kindaware instance %s ready: %s, precision %s, load %.2f s, %s%s",
            self.args.instance_name,
            self.describe_placement(),
            self.settings.precision,
            load_seconds,
            warm_up,
            describe_ineffective(self._facts()),
        )

    def _open(self) -> None:
        """Allow requests to the server, and hand over metrics."""
        self._allow_requests()
        if (streams := self._steps or self._streams) is not None:
            self._end_of_server = EndOfServer.of_environment(os.environ, streams.end)
        if self._pb_utils is not None and self.settings.metrics:
            self._metrics = Metrics.of_instance(self._pb_utils, self.args, self.placement.devices)

    def _allow_requests(self) -> None:
        """Allow calls of other models, which may not be loaded any earlier, and of a reload after a fault."""
        if self._adapter is not None:
            self.calls.adapter = self._adapter.calls
        # Not before: a fault in the warm-up fails the load.
        if self._reload is not None:
            self._device.health.on_fault = self._reload.begin

    def _overdue(self, what: str) -> Overdue:
        return Overdue(self.logger, self.spec.name, what)

    def _timed(self, answer: Answer) -> Answer:
        """Return what runs a warm-up batch, such that the log says where it is if it does not return."""

        def timed(request: Request, size: int) -> Request:
            with self._overdue(f"the warm-up with {size} {'row' if self._steps is None else 'stream'}(s)"):
                return answer(request, size)

        return timed

    def _measure_rows(self, warm_up: WarmUp, pipeline: Pipeline) -> str:
        """Measure how many rows a forward should get, and return a phrase for the log."""
        # What the warm-up could not run has no inputs, or none that the model takes.
        if not pipeline.runner.has_answered:
            return "max_rows_per_forward no limit (auto: measured in the warm-up only)"
        with self._overdue("the measurement of max_rows_per_forward"):
            measured = warm_up.measure_rows(pipeline.trial)
        pipeline.runner.max_rows = measured.max_rows
        return measured.describe()

    def _choose_threads(self, warm_up: WarmUp, pipeline: Pipeline) -> None:
        """Set the number of threads to what is fastest, if that is to be measured."""
        if self.thread_budget.is_limit and self._may_measure and warm_up.sizes:
            overdue = self._overdue("the measurement of threads")
            self.thread_budget = self._tuner(warm_up).choose_threads(pipeline.run_alone, overdue)

    def _set_threads(self, num_threads: int) -> None:
        """Set torch's number of threads, for each thread of this process that runs the hooks."""

        async def set_threads() -> None:
            torch.set_num_threads(num_threads)

        torch.set_num_threads(num_threads)
        if self._loop is not None:
            self._loop.run(set_threads())

    def _compile(self) -> None:
        """Have the modules compiled when the warm-up calls them."""
        mode = self.settings.compile
        if mode not in ("off", FROZEN) and self.settings.compile_cache and not self.placement.uses_cuda:
            from kindaware._device.compiled_modules import Compiler

            Compiler(
                self.spec,
                self.settings,
                repository=self.args.repository,
                facts={"version": self.args.model_version, **self.parameters},
                logger=self.logger,
                environment=os.environ,
            ).compile(modules_of(self._model))
        elif mode != "off":
            compile_modules(self._model, self.settings)

    def _warm_up(self) -> str:
        """Run the forwards that no client should wait for; return a phrase for the log."""
        make_inputs, has_step = self._make_warm_up_inputs(), self._steps is not None
        warm_up = WarmUp.plan(
            self.spec,
            self.settings,
            self.placement,
            make_inputs,
            has_step=has_step,
            begins_together=self._plan.hooks.begin_batch is not None,
        )
        if self._pipeline is not None:
            self._choose_threads(warm_up, self._pipeline)
        self._compile()
        if self._steps is not None:
            steps, marks = self._steps, graphed_methods(self._model)
            phrase = warm_up.run(self._timed(steps.warm_up), lambda _: steps.record_graphs(marks))
        elif self._streams is not None:
            streams = self._streams
            phrase = warm_up.run(self._timed(lambda request, _: streams.warm_up(request)), lambda _: ())
        else:
            # `_bind` has built either streams or a pipeline.
            assert self._pipeline is not None
            pipeline, runner = self._pipeline, self._pipeline.runner
            phrase = warm_up.run(
                self._timed(lambda request, _: pipeline.warm_up(request)),
                lambda requests: record_graphs(runner, requests, self.spec.name, self.logger),
            )
            if self.settings.max_rows_per_forward == AUTO and self.spec.batches:
                phrase += f", {self._measure_rows(warm_up, self._pipeline)}"
        # The metrics count clients' requests only.
        self._counters.reset()
        return phrase
