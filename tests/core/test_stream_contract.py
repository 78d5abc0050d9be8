"""What a class with `stream`, and a decoupled configuration, must have: refused when the model loads."""

import json

import pytest
import torch
from core_kit import Doubler, make_args, start
from stream_kit import Async, Plain

from kindaware import ConfigError, KindAwareModel, TensorSpec
from kindaware.testing.stand_in import Host, new_module

DECOUPLED = {"model_transaction_policy": {"decoupled": True}}


def refusal(model_class, **changes):
    with pytest.raises(ConfigError) as refused:
        start(model_class, **changes)
    return str(refused.value)


def make_class(**members):
    return type("Model", (KindAwareModel,), {"load": lambda self: None, **members})


def stream(self, X):
    yield X


async def stream_async(self, X):
    yield X


def forward(self, X):
    return X


def test_initialize_decoupled_without_stream_is_refused():
    assert refusal(Doubler, **DECOUPLED) == (
        "model 'm' class Doubler: expected stream for a decoupled model, got forward; define stream(self, "
        "...) with yield, or remove model_transaction_policy { decoupled: true } from config.pbtxt"
    )


@pytest.mark.parametrize("policy", [{}, {"model_transaction_policy": {"decoupled": False}}])
def test_initialize_stream_without_decoupled_is_refused_with_the_line_to_add(policy):
    assert refusal(make_class(stream=stream), **policy) == (
        "model 'm' class Model: expected model_transaction_policy { decoupled: true } for a class with "
        "stream, got none of it, and no forward; add model_transaction_policy { decoupled: true } to "
        "config.pbtxt"
    )


def test_initialize_neither_forward_nor_stream_is_refused():
    assert "expected a method forward, got methods ['load']" in refusal(make_class())


def test_initialize_class_with_both_answers_as_the_configuration_says():
    both = make_class(forward=lambda self, X: -X, stream=stream)
    assert start(both)._kindaware_instance._streams is None
    assert start(both, **DECOUPLED)._kindaware_instance._streams is not None


@pytest.mark.parametrize(
    "wrong", [lambda self, X: X, lambda self, X: iter([X])], ids=["returns", "returns an iterator"]
)
def test_initialize_stream_without_yield_is_refused(wrong):
    assert "hook stream: expected a generator, got a method without yield; yield each item" in refusal(
        make_class(stream=wrong), **DECOUPLED
    )


def test_initialize_stream_coroutine_without_yield_is_refused():
    async def no_yield(self, X):
        return X

    assert "hook stream: expected a generator" in refusal(make_class(stream=no_yield), **DECOUPLED)


def test_initialize_forward_with_yield_is_refused():
    text = refusal(make_class(forward=stream))
    assert "hook forward: expected a plain method, got a generator; call it stream" in text


@pytest.mark.parametrize("wrap", [torch.no_grad(), torch.inference_mode()])
def test_initialize_stream_in_a_decorator_of_torch_is_a_generator(wrap):
    assert start(make_class(stream=wrap(stream)), **DECOUPLED)._kindaware_instance._streams is not None


@pytest.mark.parametrize("written", [stream, stream_async])
def test_initialize_binds_streams_parameters_to_the_inputs(written):
    def other(self, X, Z):
        yield X

    assert "stream(X, Z): expected parameters for the inputs ['X']" in refusal(
        make_class(stream=other), **DECOUPLED
    )
    model = start(make_class(stream=written), **DECOUPLED)
    assert model.spec.decoupled
    model.finalize()


def test_initialize_collate_beside_stream_alone_is_refused():
    text = refusal(make_class(stream=stream, collate=lambda self, name, tensors: tensors[0]), **DECOUPLED)
    assert "expected collate only beside forward, got collate and stream; remove collate" in text


def test_initialize_cuda_graphs_with_stream_is_refused():
    text = refusal(make_class(stream=stream, cuda_graphs=(1,)), **DECOUPLED)
    assert "setting 'cuda_graphs': expected a model that answers with forward" in text


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_initialize_max_streams_not_allowed_is_refused(value):
    text = refusal(make_class(stream=stream), **DECOUPLED, parameters={"kindaware.max_streams": value})
    assert f"expected a whole number, 1 or more, got '{value}'" in text


@pytest.mark.parametrize("model_class", [Plain, Async])
def test_initialize_warms_stream_up_with_its_first_item(model_class):
    class Counted(model_class):
        def warmup_inputs(self, rows):
            return {"N": torch.full((rows, 1), 5, dtype=torch.int32)}

    tensors = [{"name": name, "data_type": "TYPE_INT32", "dims": [1]} for name in "NI"]
    model = start(Counted, **DECOUPLED, input=tensors[:1], output=tensors[1:])
    assert (model.begun, model.ended) == (1, 1)
    model.finalize()


def test_initialize_stream_whose_first_item_is_wrong_is_closed_in_its_scope():
    modes = []

    def wrong(self, X):
        try:
            yield X.long()
        finally:
            modes.append(torch.is_inference_mode_enabled())

    text = refusal(make_class(stream=wrong), **DECOUPLED)
    assert "expected data type FP32, got INT64" in text
    assert modes == [True]


def test_initialize_stream_that_fails_on_zeros_is_refused():
    def broken(self, X):
        raise ValueError("no zeros")
        yield X

    text = refusal(make_class(stream=broken), **DECOUPLED)
    assert "warm-up with 1 row(s): expected stream to answer zeros, got ValueError: no zeros" in text
    assert "correct stream, or define warmup_inputs" in text


def complete(model_class, **config):
    given = json.dumps({"name": "m", "max_batch_size": 0, "input": [], "output": [], **config})
    model_config = new_module(Host()).ModelConfig(given)
    return model_class.auto_complete_config(model_config).as_dict()


class Declared(Plain):
    """Says its tensors itself."""

    inputs = (TensorSpec("N", "INT32", [1]),)
    outputs = (TensorSpec("I", "INT32", [1]),)
    max_batch_size = 4


def test_auto_complete_class_with_stream_makes_the_model_decoupled():
    config = complete(Declared)
    assert config["model_transaction_policy"] == {"decoupled": True}
    assert "dynamic_batching" not in config


def test_auto_complete_class_without_stream_sets_no_policy():
    assert "model_transaction_policy" not in complete(Doubler)


def test_auto_complete_leaves_the_operators_policy():
    policy = {"decoupled": False}
    assert complete(Declared, model_transaction_policy=policy)["model_transaction_policy"] == policy


def test_initialize_takes_the_arguments_of_a_decoupled_model():
    model = Plain()
    tensors = [{"name": name, "data_type": "TYPE_INT32", "dims": [1]} for name in "NI"]
    model.initialize(make_args(**DECOUPLED, input=tensors[:1], output=tensors[1:]))
    numbers = list(model.stream(torch.tensor([[3]], dtype=torch.int32)))
    assert [int(number) for number in numbers] == [0, 1, 2]
