"""Errors that raise when they are looked at, refusals by dataclasses, and interrupts, in every hook."""

import dataclasses
import sys

import numpy as np
import pytest
import torch
from core_kit import Doubler, answers_of, make_pipeline, run, written_config

from kindaware import RequestError
from kindaware.testing import ModelHarness

CONFIG = written_config()
DECOUPLED = CONFIG | {"model_transaction_policy": {"decoupled": True}}
HOOKS = ["preprocess", "collate", "forward", "postprocess"]
PLACES = ["preprocess", "forward", "postprocess", "stream", "async stream", "async forward"]


class MissingKeyError(Exception):
    def __getattr__(self, name):
        return self.__dict__["parts"][name]


class EndlessError(Exception):
    def __getattr__(self, name):
        return getattr(self.inner, name)


class GroupError(Exception):
    @property
    def exceptions(self):
        raise ValueError("not to be read")


class OpaqueError(Exception):
    """Not even its class can be asked for."""

    def __getattribute__(self, name):
        raise KeyError(name)


class ShyError(RequestError):
    """Its attributes can't be read, its text can."""

    def __init__(self, text):
        Exception.__init__(self, text)

    @property
    def code(self):
        raise ValueError("not to be read")

    rows = mask_length = code


class ArrayCodeError(RequestError):
    def __init__(self):
        super().__init__("odd code")
        self.code = np.array(["INTERNAL", "UNAVAILABLE"])


@dataclasses.dataclass
class RowsError(RequestError):
    """A field that happens to be called as an attribute of the library's is."""

    rows: int

    def __str__(self):
        return f"{self.rows} rows"


@dataclasses.dataclass
class MaskError(RequestError):
    mask_length: int

    def __str__(self):
        return f"a mask of {self.mask_length}"


@dataclasses.dataclass(frozen=True)
class FrozenError(RequestError):
    limit: int

    def __str__(self):
        return f"more than {self.limit}"


UNREADABLE = [MissingKeyError, EndlessError, GroupError, OpaqueError]


def raise_if_bad(value, error):
    if (value < 0).any():
        raise error
    return value


def model_that_raises(place, error):
    """A model of which one hook raises where a number is below 0; a stream after its first item."""

    class Model(Doubler):
        warmup = "off"

    if place == "stream":

        def stream(self, X):
            yield X
            raise_if_bad(X, error)

        Model.stream = stream
    elif place == "async stream":

        async def stream(self, X):
            yield X
            raise_if_bad(X, error)

        Model.stream = stream
    elif place == "preprocess":
        Model.preprocess = lambda self, inputs: {"X": raise_if_bad(inputs["X"], error)}
    elif place == "postprocess":
        Model.postprocess = lambda self, outputs: {"Y": raise_if_bad(outputs["Y"], error)}
    elif place == "async forward":

        async def forward(self, X):
            return 2 * raise_if_bad(X, error)

        Model.forward = forward
    else:
        Model.forward = lambda self, X: 2 * raise_if_bad(X, error)
    return Model


def row(value):
    return {"X": np.full((1, 1), value, np.float32)}


def last_error(model, place, value):
    """The error with which the answer to a value ends; None for none."""
    if "stream" in place:
        return list(model.stream(row(value)))[-1].error
    return model.infer(row(value)).error


def open_harness(place, error, accelerator):
    config = DECOUPLED if "stream" in place else CONFIG
    options = {} if accelerator is None else {"kind": "GPU", "accelerator": accelerator}
    return ModelHarness(model_that_raises(place, error), config=config, raise_errors=False, **options)


@pytest.mark.parametrize("accelerator", [None, "simulated"])
@pytest.mark.parametrize("error_class", UNREADABLE)
@pytest.mark.parametrize("place", PLACES)
def test_error_that_raises_when_it_is_read_fails_its_request_and_is_logged_and_counted(
    place, error_class, accelerator
):
    with open_harness(place, error_class("odd"), accelerator) as model:
        failed = last_error(model, place, -1)
        assert failed is not None
        assert failed.code().name == "INTERNAL"
        counters = model.instance._kindaware_instance._counters
        assert dict(counters.errors) == {"INTERNAL": 1}
        log = model.log_text()
        assert any(one in log for one in (error_class.__name__, "can't be read", "KeyError: '__class__'"))
        assert last_error(model, place, 1) is None


@pytest.mark.parametrize("error_class", UNREADABLE)
@pytest.mark.parametrize("hook", HOOKS)
def test_error_that_raises_when_it_is_read_leaves_the_other_requests_of_the_call_alone(
    hook, error_class, caplog
):
    error = error_class("odd")
    hooks = {
        "preprocess": lambda inputs: {"X": raise_if_bad(inputs["X"], error)},
        "collate": lambda name, tensors: raise_if_bad(torch.cat(tensors), error),
        "postprocess": lambda outputs: {"Y": raise_if_bad(outputs["Y"], error)},
    }
    forward = (lambda X: raise_if_bad(X, error)) if hook == "forward" else lambda X: 1 * X
    pipeline = make_pipeline(forward, **{name: one for name, one in hooks.items() if name == hook})
    assert answers_of(run(pipeline, [1, -1, 3])) == [1, "INTERNAL", 3]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("place", PLACES)
def test_failure_that_can_not_be_built_is_one_all_the_same(place, monkeypatch):
    def broken(*_, **__):
        raise KeyError("broken")

    with open_harness(place, ValueError("bad"), None) as model:
        monkeypatch.setattr("kindaware._device.health.ungrouped", broken)
        assert last_error(model, place, -1).code().name == "INTERNAL"
        assert "an error that can't be read: looking at it raised KeyError" in model.log_text()
        assert last_error(model, place, 1) is None


@pytest.mark.parametrize("is_async", [False, True])
def test_stream_whose_failure_can_not_be_built_does_not_end_as_answered(is_async, monkeypatch):
    def broken(*_, **__):
        raise KeyError("broken")

    place = "async stream" if is_async else "stream"
    with open_harness(place, ValueError("bad"), None) as model:
        monkeypatch.setattr("kindaware._execute.streams.Streams._failure", broken)
        assert last_error(model, place, -1).code().name == "INTERNAL"
        assert "KeyError: 'broken'" in model.log_text()
        assert last_error(model, place, 1) is None


@pytest.mark.parametrize("accelerator", [None, "simulated"])
@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ShyError("shy"), "INTERNAL", "shy"),
        (ArrayCodeError(), "INTERNAL", "odd code"),
        (RowsError(0), "INVALID_ARG", "0 rows"),
        (RowsError([0.5]), "INVALID_ARG", "[0.5] rows"),
        (RowsError([True]), "INVALID_ARG", "[True] rows"),
        (MaskError(99), "INVALID_ARG", "a mask of 99"),
        (FrozenError(7), "INVALID_ARG", "more than 7"),
    ],
    ids=["shy", "array", "rows", "list", "mask", "length", "frozen"],
)
@pytest.mark.parametrize("place", PLACES)
def test_refusal_by_a_class_of_any_shape_has_its_text_and_code(place, error, code, text, accelerator):
    with open_harness(place, error, accelerator) as model:
        failed = last_error(model, place, -1)
        assert (failed.code().name, failed.message()) == (code, text)
        assert last_error(model, place, 1) is None


# One error object that several hooks raise.


@pytest.mark.parametrize("place", PLACES[1:])
def test_error_object_raised_again_is_blamed_on_the_hook_that_raised_it_last(place):
    error = ValueError("again")
    is_first = [True]

    def preprocess(self, inputs):
        if is_first.pop() if is_first else False:
            raise error
        return inputs

    model_class = model_that_raises(place, error)
    model_class.preprocess = preprocess
    config = DECOUPLED if "stream" in place else CONFIG
    with ModelHarness(model_class, config=config, raise_errors=False) as model:
        seen = [last_error(model, place, -1).message() for _ in range(2)]
    assert "expected preprocess to return" in seen[0]
    assert f"expected {place.split()[-1]} to return" in seen[1]


# KeyboardInterrupt.


@pytest.mark.parametrize("place", PLACES)
def test_interrupt_raised_by_a_hook_of_a_stub_fails_its_own_request(place, monkeypatch):
    with open_harness(place, KeyboardInterrupt(), None) as model:
        monkeypatch.setattr(
            sys, "builtin_module_names", (*sys.builtin_module_names, "c_python_backend_utils")
        )
        failed = last_error(model, place, -1)
        assert failed.code().name == "INTERNAL"
        assert "KeyboardInterrupt" in failed.message()
        assert last_error(model, place, 1) is None


@pytest.mark.parametrize("place", ["preprocess", "forward", "postprocess"])
def test_interrupt_in_a_test_stops_the_test(place):
    with open_harness(place, KeyboardInterrupt(), None) as model, pytest.raises(KeyboardInterrupt):
        last_error(model, place, -1)
