"""What a hook raises, of whatever kind, is an error of its own request, and leaves everything else alone."""

import asyncio
import dataclasses
import sys

import numpy as np
import pytest
import torch
from core_kit import Doubler, answers_of, make_pipeline, run, written_config

from kindaware import KindAwareModel, RequestError
from kindaware.testing import ModelHarness

CONFIG = written_config()
DECOUPLED = CONFIG | {"model_transaction_policy": {"decoupled": True}}
NEEDS_GROUPS = pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are of Python 3.11")


class PanicError(BaseException):
    """As pyo3's PanicException and func_timeout's FunctionTimedOut are: no Exception."""


class SilentError(Exception):
    def __str__(self):
        raise ValueError("no text")


@dataclasses.dataclass
class TooLongError(RequestError):
    """A refusal whose constructor leaves out that of RequestError."""

    limit: int


class TeapotError(RequestError):
    """A refusal with a code that Triton does not have."""

    def __init__(self):
        super().__init__("short and stout")
        self.code = "TEAPOT"


def open_harness(model_class, config=CONFIG, **options):
    return ModelHarness(model_class, config=config, raise_errors=False, **options)


def row(value):
    return {"X": np.full((1, 1), value, np.float32)}


def values_or_codes(results):
    return [one.error.code().name if one.error else float(one.outputs["Y"][0, 0]) for one in results]


HOOKS = ["preprocess", "collate", "forward", "postprocess"]


def pipeline_that_raises(hook, error):
    """A pipeline of which one hook raises where a number is below 0."""

    def raise_if_bad(value):
        if (value < 0).any():
            raise error
        return value

    hooks = {
        "preprocess": lambda inputs: {"X": raise_if_bad(inputs["X"])},
        "collate": lambda name, tensors: raise_if_bad(torch.cat(tensors)),
        "postprocess": lambda outputs: {"Y": raise_if_bad(outputs["Y"])},
    }
    forward = raise_if_bad if hook == "forward" else lambda X: 1 * X
    return make_pipeline(forward, **{name: one for name, one in hooks.items() if name == hook})


# Tasks and generators of the model's own.


class Queued(KindAwareModel):
    """Answers through a task that lives as long as the model."""

    def load(self):
        self.queue, self.worker = None, None

    async def work(self):
        while True:
            number, future = await self.queue.get()
            try:
                if number < 0:
                    raise self.error_class("negative")
                future.set_result(2 * number)
            except Exception as error:
                future.set_exception(error)

    async def ask(self, number):
        if self.worker is None:
            self.queue = asyncio.Queue()
            self.worker = asyncio.get_running_loop().create_task(self.work())
        future = asyncio.get_running_loop().create_future()
        await self.queue.put((number, future))
        return await future


@pytest.mark.parametrize("error_class", [ValueError, MemoryError, RequestError])
def test_task_of_a_streaming_model_outlives_the_error_of_one_request(error_class):
    class Model(Queued):
        async def stream(self, X):
            yield torch.full((1, 1), await self.ask(float(X)))

    Model.error_class = error_class
    with open_harness(Model, DECOUPLED) as model:
        seen = [[one.error is None for one in model.stream(row(value))] for value in (1, -1, 2, -1, 3)]
    assert seen == [[True], [False], [True], [False], [True]]


@pytest.mark.parametrize("error_class", [ValueError, MemoryError, RequestError])
def test_task_of_an_asynchronous_forward_outlives_the_error_of_one_request(error_class):
    class Model(Queued):
        async def forward(self, X):
            return torch.tensor([[await self.ask(float(one))] for one in X])

    Model.error_class = error_class
    with open_harness(Model) as model:
        seen = [model.infer(row(value)) for value in (1, -1, 2, -1, 3)]
    code = "INVALID_ARG" if error_class is RequestError else "INTERNAL"
    assert values_or_codes(seen) == [2, code, 4, code, 6]


@pytest.mark.parametrize("error_class", [ValueError, MemoryError])
def test_generator_kept_by_the_model_goes_on_after_an_error_that_it_caught(error_class):
    def checks():
        while True:
            try:
                raise error_class("bad row")
            except error_class as error:
                yield error

    class Model(Doubler):
        def load(self):
            self.checks = checks()

        def forward(self, X):
            if (X < 0).any():
                raise next(self.checks)
            return 2 * X

    with open_harness(Model) as model:
        results = [model.infer(row(value)) for value in (-1, 1, -1)]
    assert values_or_codes(results) == ["INTERNAL", 2, "INTERNAL"]
    assert all("bad row" in results[place].error.message() for place in (0, 2))


# Errors that are no Exception, and such as can't be printed.

ODD_ERRORS = [PanicError("panicked"), SystemExit(3), SilentError()]


@pytest.mark.parametrize("error", ODD_ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("is_async", [False, True])
def test_stream_that_dies_of_anything_ends_with_an_error_that_is_logged_and_counted(error, is_async):
    if is_async:

        class Model(Doubler):
            warmup = "off"

            async def stream(self, X):
                yield X
                raise error
    else:

        class Model(Doubler):
            warmup = "off"

            def stream(self, X):
                yield X
                raise error

    with open_harness(Model, DECOUPLED) as model:
        first, last = model.stream(row(1))
        counters = model.instance._kindaware_instance._counters
        assert (first.error, last.error.code().name) == (None, "INTERNAL")
        assert "expected stream to return, got" in last.error.message()
        assert type(error).__name__ in model.log_text()
        assert (dict(counters.errors), counters.batches) == ({"INTERNAL": 1}, 0)


@pytest.mark.parametrize("error", ODD_ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("hook", HOOKS)
def test_error_of_any_kind_in_a_hook_fails_its_own_request_alone(hook, error, caplog):
    results = run(pipeline_that_raises(hook, error), [1, -1, 3])
    assert answers_of(results) == [1, "INTERNAL", 3]
    assert type(error).__name__ in results[1].text
    assert len(caplog.records) == 1


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    ("error", "code"), [(TooLongError(7), "INVALID_ARG"), (TeapotError(), "INTERNAL")], ids=["bare", "teapot"]
)
def test_refusal_by_a_class_of_the_users_fails_its_own_request_alone(hook, error, code):
    results = run(pipeline_that_raises(hook, error), [1, -1, 3])
    assert answers_of(results) == [1, code, 3]


def test_refusal_of_a_stream_by_a_class_of_the_users_has_its_code():
    class Model(Doubler):
        warmup = "off"

        def stream(self, X):
            yield X
            raise TooLongError(7)

    with open_harness(Model, DECOUPLED) as model:
        *_, last = model.stream(row(1))
        assert last.error.code().name == "INVALID_ARG"


# Groups of errors, as asyncio.TaskGroup raises them.


@NEEDS_GROUPS
@pytest.mark.parametrize(
    ("inner", "code", "text"),
    [
        ([RequestError("too long", code="UNSUPPORTED")], "UNSUPPORTED", "too long"),
        ([RequestError("too long"), RequestError("too dark")], "INVALID_ARG", "too long"),
        ([ValueError("odd")], "INTERNAL", "got ValueError: odd"),
        ([ValueError("odd"), RequestError("no")], "INTERNAL", "got ExceptionGroup"),
    ],
)
@pytest.mark.parametrize("hook", ["preprocess", "forward"])
def test_group_of_errors_counts_as_what_is_in_it(hook, inner, code, text):
    def raise_if_bad(value):
        if (value < 0).any():
            raise ExceptionGroup("unhandled errors in a TaskGroup", inner)  # noqa: F821 - of Python 3.11
        return value

    hooks = {"preprocess": lambda inputs: {"X": raise_if_bad(inputs["X"])}} if hook == "preprocess" else {}
    results = run(make_pipeline(raise_if_bad if hook == "forward" else lambda X: X, **hooks), [1, -1, 3])
    assert answers_of(results) == [1, code, 3]
    assert text in results[1].text


@NEEDS_GROUPS
def test_group_that_holds_memory_that_ran_out_halves_the_batch():
    sizes = []

    def forward(X):
        sizes.append(len(X))
        if len(X) > 1:
            raise ExceptionGroup("unhandled errors", [ValueError("odd"), MemoryError("full")])  # noqa: F821
        return X

    pipeline = make_pipeline(forward, isolate_errors=False)
    assert answers_of(run(pipeline, [1, 2, 3, 4])) == [1, 2, 3, 4]
    assert pipeline.runner.counters.out_of_memory == 3


@NEEDS_GROUPS
def test_model_that_calls_others_in_a_task_group_loads_and_answers():
    class Echo(Doubler):
        """The model that is called."""

    class Caller(KindAwareModel):
        def load(self):
            """Nothing to make."""

        async def forward(self, X):
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.call_async("echo", X=X)) for _ in range(2)]
            return sum(task.result()["Y"] for task in tasks)

    with open_harness(Caller, models=[(Echo, CONFIG | {"name": "echo"})]) as model:
        assert values_or_codes([model.infer(row(3))]) == [12]


def test_memory_that_runs_out_on_the_cpu_halves_the_batch():
    def forward(X):
        if len(X) > 1:
            torch.empty(2**60)
        return X

    pipeline = make_pipeline(forward, isolate_errors=False)
    assert answers_of(run(pipeline, [1, 2, 3, 4])) == [1, 2, 3, 4]
    assert pipeline.runner.counters.out_of_memory == 3
