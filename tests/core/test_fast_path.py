"""The fast path of plain models on the CPU: the same answers as the pipeline, and when it is not taken."""

import contextvars
import sys

import numpy as np
import pytest
import torch
from core_kit import BAD, LOGGER, Doubler, make_spec, start, tensor
from host_kit import PB_UTILS, RecordingHost, array_of, failure_of, outputs_of
from hypothesis import given
from hypothesis import strategies as st

from kindaware import RequestError, TensorSpec
from kindaware._batch.plan import Plan
from kindaware._batch.request_context import RequestContext, RequestScope, current_context
from kindaware._config.model_spec import ModelSpec
from kindaware._config.sequence_spec import SequenceSpec
from kindaware._config.settings import FAST_PATH_SETTINGS, SETTING_NAMES, Settings
from kindaware._device.modules import Precision
from kindaware._execute.fast_path import FastPath
from kindaware._hooks.binding import Call
from kindaware._hooks.hooks import Hooks
from kindaware._triton.request import RequestContexts

pytestmark = pytest.mark.usefixtures("constant_error_ids")


@pytest.fixture
def request_of(host, pb_utils):
    """Makes a request whose rows all hold one value, which is its id."""
    return lambda value, rows=1: new_request(host, value, rows)


def new_request(host, value, rows=1):
    return host.request(str(value), X=np.full((rows, 4), value, np.float32))


def model_of(function, **changes):
    """A model that counts how often forward ran."""

    class Model(Doubler):
        warmup = "off"

        def load(self):
            self.num_forwards = 0

        def forward(self, X):
            self.num_forwards += 1
            return function(X)

    return start(Model, **changes)


def without_fast_path(model):
    """The same model without the fast path."""
    assert model._kindaware_instance._executor.fast_path is not None
    model._kindaware_instance._executor.fast_path = None
    return model


def shown(responses):
    """What clients read: values, or code and message."""
    return [failure_of(one) or outputs_of(one)[0].tolist() for one in responses]


def guilty(X):
    """Raise for a batch with a bad row."""
    if bool((X == BAD).any()):
        raise ValueError("bad row")
    return 2 * X


def test_execute_plain_model_takes_the_fast_path(request_of, monkeypatch):
    model = model_of(lambda X: 2 * X)
    monkeypatch.setattr(model._kindaware_instance._adapter.requests, "read", None)
    monkeypatch.setattr(model._kindaware_instance._pipeline, "run", None)
    assert shown(model.execute([request_of(1, 2), request_of(2)])) == [[[2.0] * 4] * 2, [[4.0] * 4]]
    assert model.num_forwards == 1


@pytest.mark.parametrize(("rows", "is_fast"), [(3, True), (4, True), (5, False)])
def test_execute_takes_the_fast_path_for_as_many_rows_as_one_forward_gets(
    request_of, monkeypatch, rows, is_fast
):
    model = model_of(lambda X: 2 * X, parameters={"kindaware.max_rows_per_forward": "4"})
    calls = []
    pipeline = model._kindaware_instance._pipeline
    monkeypatch.setattr(
        pipeline, "run", lambda *given: calls.append(given) or type(pipeline).run(pipeline, *given)
    )
    assert shown(model.execute([request_of(1, rows)])) == [[[2.0] * 4] * rows]
    assert bool(calls) != is_fast


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, BAD]), st.integers(0, 3)), max_size=6))
def test_execute_fast_path_and_pipeline_answer_the_same(asked):
    with pytest.MonkeyPatch.context() as patch:
        host = RecordingHost()
        patch.setitem(sys.modules, PB_UTILS, host.pb_utils)
        models = model_of(guilty), without_fast_path(model_of(guilty))
        short, long = (shown(model.execute([new_request(host, *one) for one in asked])) for model in models)
    assert short == long
    assert models[0].num_forwards == models[1].num_forwards
    names = ("batches", "requests", "rows", "retries", "errors")
    assert [getattr(models[0]._kindaware_instance._counters, one) for one in names] == [
        getattr(models[1]._kindaware_instance._counters, one) for one in names
    ]


@pytest.mark.parametrize(
    "function",
    [
        lambda X: X,
        lambda X: {"Y": 2 * X},
        lambda X: [2 * X],
        lambda X: torch.nn.Parameter(2 * X),
        lambda X: (2 * X).t().contiguous().t(),
        torch._neg_view,
        lambda X: (2 * X).to_sparse(),
        lambda X: (2 * X).double(),
        lambda X: (2 * X).bfloat16(),
        lambda X: X[:, :3],
        lambda X: X[:1],
        lambda X: X.sum(),
        lambda X: X.numpy(),
        lambda X: None,
        lambda X: 1 / 0,
        lambda X: sys.exit(3),
    ],
    ids=lambda function: None,
)
def test_execute_whatever_forward_returns_fast_path_and_pipeline_answer_the_same(request_of, function):
    models = model_of(function), without_fast_path(model_of(function))
    short, long = (shown(model.execute([request_of(1), request_of(2, 2)])) for model in models)
    assert short == long
    assert models[0].num_forwards == models[1].num_forwards


def test_execute_cast_outputs_converts_on_the_fast_path(request_of):
    model = model_of(torch.Tensor.double, parameters={"kindaware.cast_outputs": "true"})
    [response] = model.execute([request_of(3)])
    assert outputs_of(response)[0].dtype == np.float32


def test_execute_output_of_any_size_is_answered(request_of):
    model = model_of(lambda X: X[:, :3], output=[tensor("Y", [-1])])
    assert shown(model.execute([request_of(1), request_of(2)])) == [[[1.0] * 3], [[2.0] * 3]]


def test_execute_request_that_cannot_be_read_fails_alone_before_a_forward(pb_utils, request_of, monkeypatch):
    inputs = pb_utils.InferenceRequest.inputs

    def read_one(self):
        if self is unreadable:
            raise RuntimeError("no memory")
        return inputs(self)

    model = model_of(guilty)
    unreadable = request_of(2)
    monkeypatch.setattr(pb_utils.InferenceRequest, "inputs", read_one)
    good, bad = model.execute([request_of(1), unreadable])
    assert not good.has_error()
    code, text = failure_of(bad)
    assert (code, "no memory" in text) == ("INTERNAL", True)
    assert model.num_forwards == 1


def test_execute_response_that_cannot_be_built_fails_alone(pb_utils, monkeypatch, request_of):
    model = model_of(guilty)
    real = pb_utils.InferenceResponse

    def picky(tensors=(), **options):
        if tensors and tensors[0].as_numpy()[0, 0] == 4:
            raise RuntimeError("no memory")
        return real(tensors, **options)

    monkeypatch.setattr(pb_utils, "InferenceResponse", picky)
    monkeypatch.setattr(model._kindaware_instance._adapter.responses, "new_response", picky)
    good, bad = model.execute([request_of(1), request_of(2)])
    assert (good.has_error(), model.num_forwards) == (False, 1)
    assert "no memory" in failure_of(bad)[1]


def test_execute_refusal_of_one_row_costs_one_more_forward(request_of):
    def refusing(X):
        bad = (X[:, 0] == BAD).nonzero().flatten()
        if len(bad):
            raise RequestError("odd", rows=bad.tolist())
        return X

    model = model_of(refusing)
    first, second, third = model.execute([request_of(1), request_of(BAD), request_of(2)])
    assert [one.has_error() for one in (first, second, third)] == [False, True, False]
    assert (failure_of(second)[1], model.num_forwards) == ("odd", 2)


def test_forward_on_the_fast_path_works_on_behalf_of_its_requests(pb_utils, request_of, monkeypatch):
    seen = []

    def asking(X):
        seen.append(current_context())
        return X

    monkeypatch.setattr(pb_utils.InferenceRequest, "trace", lambda self: "trace")
    model_of(asking).execute([request_of(7), request_of(8)])
    assert seen == [RequestContext("7", "trace")]
    assert current_context() == RequestContext()


@pytest.mark.parametrize("way", [lambda model: model, without_fast_path], ids=["fast path", "pipeline"])
def test_what_forward_leaves_running_has_no_caller_when_execute_is_over(
    pb_utils, request_of, monkeypatch, way
):
    contexts = []

    def leaving(X):
        contexts.append(contextvars.copy_context())
        return X

    def freed(self):
        raise AssertionError("Triton has freed it")

    monkeypatch.setattr(pb_utils.InferenceRequest, "trace", freed)
    way(model_of(leaving)).execute([request_of(7)])
    assert contexts[0].run(current_context) == RequestContext()


@pytest.mark.parametrize("way", [lambda model: model, without_fast_path], ids=["fast path", "pipeline"])
def test_execute_leaves_the_caller_of_the_code_around_it_as_it_was(request_of, way):
    with RequestScope([RequestContext("outer")]):
        for forward in (lambda X: X, lambda X: 1 / 0):
            way(model_of(forward)).execute([request_of(7)])
            assert current_context() == RequestContext("outer")


def test_execute_that_somebody_stops_is_stopped(request_of):
    def stopped(X):
        raise KeyboardInterrupt

    model = model_of(stopped)
    with pytest.raises(KeyboardInterrupt):
        model.execute([request_of(7)])


def test_execute_output_that_numpy_lacks_is_refused_as_on_the_pipeline(request_of):
    [response] = model_of(lambda X: X.bfloat16()).execute([request_of(7)])
    assert "output 'Y': expected data type FP32, got BF16; convert it in forward" in failure_of(response)[1]


def test_forward_on_the_fast_path_makes_inference_tensors(request_of):
    seen = []

    def looking(X):
        seen.extend((torch.is_inference_mode_enabled(), X.is_inference()))
        return X

    model_of(looking).execute([request_of(1)])
    assert seen == [True, False]


def test_answers_on_the_fast_path_are_slices_of_one_memory(request_of):
    kept = []

    def keeping(X):
        kept.append(2 * X)
        return kept[-1]

    responses = model_of(keeping).execute([request_of(1), request_of(2, 3), request_of(3)])
    starts = [outputs_of(one)[0].ctypes.data for one in responses]
    assert starts == [kept[0][row].data_ptr() for row in (0, 1, 4)]


def test_input_of_one_request_is_not_copied_on_the_fast_path(request_of):
    seen = []
    request = request_of(1, 2)
    model = model_of(lambda X: seen.append(X.data_ptr()) or X)
    model.execute([request])
    assert seen == [array_of(request).ctypes.data]


def test_seconds_of_the_fast_path_are_counted_by_stage(request_of):
    model = model_of(lambda X: X + float(torch.linalg.det(torch.rand(400, 400))) * 0)
    model.execute([request_of(1), request_of(2)])
    seconds = model._kindaware_instance._counters.seconds
    assert min(seconds.values()) > 0
    assert seconds["forward"] > sum(seconds.values()) / 2


def test_cancelled_requests_are_asked_for_on_the_pipeline(host, request_of):
    host.cancelled = True
    model = model_of(guilty, parameters={"kindaware.cancellation": "on"})
    [response] = model.execute([request_of(1)])
    assert (failure_of(response)[0], model.num_forwards) == ("CANCELLED", 0)


X2 = TensorSpec("X", "FP32", [2])
Y2 = TensorSpec("Y", "FP32", [2])


def suits(spec=None, settings=None, *, is_host=True, forward=lambda X: X, **hooks):
    spec, settings = spec or make_spec(), settings or Settings()
    bound = Hooks(forward, Call.bind(forward, spec, "m"), **hooks)
    plan = Plan(spec, settings, bound, LOGGER, None, Precision.of(settings.precision))
    return FastPath.suits(plan, is_host=is_host)


def test_suits_the_plainest_model():
    assert suits()


def test_suits_a_model_with_settings_that_it_can_do_with():
    changed = {"num_threads": 1, "warmup": (8,), "cast_outputs": True, "metrics": False, "cuda_graphs": (8,)}
    assert suits(settings=Settings(**changed))
    assert set(SETTING_NAMES) >= FAST_PATH_SETTINGS >= set(changed)


def test_suits_no_model_with_a_setting_that_it_does_not_know(monkeypatch):
    monkeypatch.setattr("kindaware._execute.fast_path.FAST_PATH_SETTINGS", FAST_PATH_SETTINGS - {"metrics"})
    assert not suits(settings=Settings(metrics=False))


@pytest.mark.parametrize(
    "differing",
    [
        {"is_host": False},
        {"spec": make_spec(max_batch_size=0)},
        {"spec": make_spec(inputs=[TensorSpec("X", "FP32", [-1])])},
        {"spec": make_spec(inputs=[TensorSpec("X", "BYTES", [2])])},
        {"spec": make_spec(inputs=[TensorSpec("X", "BF16", [2])])},
        {"spec": make_spec(outputs=[TensorSpec("Y", "BYTES", [2])])},
        {"spec": make_spec(outputs=[TensorSpec("Y", "BF16", [2])])},
        {"spec": make_spec(outputs=[Y2, TensorSpec("Z", "FP32", [2])])},
        {"spec": make_spec(inputs=[X2, TensorSpec("W", "FP32", [2])]), "forward": lambda X, W: X},
        {"spec": ModelSpec("m", 8, (X2,), (Y2,), decoupled=True)},
        {
            "spec": ModelSpec(
                "m", 8, (X2,), (Y2,), sequences=SequenceSpec(frozenset(), 1.0, is_iterative=False)
            )
        },
        {"forward": lambda X, requests: X},
        {"preprocess": lambda inputs: inputs},
        {"collate": lambda name, tensors: torch.cat(tensors)},
        {"postprocess": lambda outputs: outputs},
        {"settings": Settings(precision="bf16-true")},
        {"settings": Settings(precision="bf16-mixed")},
        {"settings": Settings(memory_format="channels_last")},
        {"settings": Settings(pad={"X": 0.0})},
        {"settings": Settings(unpad={"Y": ("X",)})},
    ],
)
def test_suits_no_model_for_which_there_is_more_to_do(differing):
    assert not suits(**differing)


def test_requests_are_let_go_of_when_the_call_is_over(request_of):
    contexts = RequestContexts([request_of(5)], 0.0)
    assert [one.request_id for one in contexts] == ["5"]
    contexts.end()
    assert list(contexts) == []
