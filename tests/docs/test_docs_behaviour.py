"""Sentences of the documentation that no table and no block shows."""

import logging
import math

import pytest
import torch
from docs_models import args_for, run

from kindaware import ConfigError, KindAwareModel, RequestError
from kindaware._batch.request import Request
from kindaware._batch.results import Failure

CONFIG = {
    "name": "net",
    "max_batch_size": 64,
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [-1]}],
}


class Counting(KindAwareModel):
    """Raises for rows that begin with 1, and counts its forwards."""

    def load(self):
        self.calls = []

    def forward(self, X):
        self.calls.append(("forward", len(X)))
        if (X[:, 0] == 1).any():
            raise ValueError("a row of ones")
        return X


class AllHooks(Counting):
    unpad = {"Y": "X"}

    def preprocess(self, inputs):
        self.calls.append(("preprocess", len(inputs["X"])))
        if (inputs["X"] == 2).any():
            raise RequestError("two is refused")
        return inputs

    def collate(self, name, tensors):
        self.calls.append(("collate", len(tensors)))
        return torch.cat(tensors)

    def warmup_inputs(self, rows):
        return {"X": torch.zeros(rows, 3)}


@pytest.fixture(autouse=True)
def _keep_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def load(model_class=Counting, **parameters):
    wrapped = {f"kindaware.{key}": {"string_value": value} for key, value in parameters.items()}
    model = model_class()
    model.initialize(args_for(CONFIG | {"parameters": wrapped}))
    return model


def requests(values):
    return [
        Request(str(number), {"X": torch.full((1, 3), float(value))}, 1)
        for number, value in enumerate(values)
    ]


def failures(outcomes):
    return [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Failure)]


def test_batch_of_32_has_12_further_forwards():
    model = load()
    assert failures(run(model, requests([1] * 32))) == list(range(32))
    assert len(model.calls) == 1 + 12 == 1 + 2 * math.log2(32) + 2


def test_one_guilty_request_is_found_and_its_traceback_logged_once(caplog):
    outcomes = run(load(), requests([0] * 20 + [1] + [0] * 11))
    assert failures(outcomes) == [20]
    assert outcomes[20].code == "INTERNAL"
    assert len(caplog.records) == 1
    assert "ids ['20']" in caplog.text
    assert "Traceback" in caplog.text


def test_isolate_errors_false_fails_the_batch_after_one_forward():
    model = load(isolate_errors="false")
    assert failures(run(model, requests([0, 0, 1, 0]))) == [0, 1, 2, 3]
    assert model.calls == [("forward", 4)]


def test_request_error_of_preprocess_refuses_one_request_and_logs_nothing(caplog):
    caplog.set_level(logging.WARNING)
    outcomes = run(load(AllHooks), requests([0, 2, 0]))
    assert failures(outcomes) == [1]
    assert (outcomes[1].text, outcomes[1].code) == ("two is refused", "INVALID_ARG")
    assert not caplog.records


def test_warm_up_calls_preprocess_collate_and_forward():
    assert load(AllHooks, warmup="2").calls == [("preprocess", 2), ("collate", 1), ("forward", 2)]


def test_warm_up_without_warmup_inputs_is_skipped_for_a_size_of_minus_1(caplog):
    caplog.set_level(logging.INFO)
    assert load().calls == []
    assert "warm-up skipped (input X has a dimension of -1; define warmup_inputs(rows))" in caplog.text


@pytest.mark.parametrize(("model_class", "code"), [(Counting, "INTERNAL"), (AllHooks, "INVALID_ARG")])
def test_wrong_shape_is_blamed_only_on_a_model_that_has_answered(model_class, code):
    class Picky(model_class):
        def forward(self, X):
            if X.shape[1] != 3:
                raise ValueError("3 features needed")
            return X

    (outcome,) = run(load(Picky), [Request("", {"X": torch.zeros(1, 4)}, 1)])
    assert outcome.code == code


@pytest.mark.parametrize("zeros_fail_at", ["the same line", "another line"])
def test_wrong_shape_is_logged_once_and_blamed_only_for_the_same_line(caplog, zeros_fail_at):
    class Picky(AllHooks):
        def forward(self, X):
            if X.shape[1] != 3:
                if zeros_fail_at == "another line" and X.any():
                    raise ValueError("not zeros")
                raise ValueError("3 features needed")
            return X

    model = load(Picky)
    outcomes = run(model, [Request(str(n), {"X": torch.ones(1, 4)}, 1) for n in range(4)])
    code = "INVALID_ARG" if zeros_fail_at == "the same line" else "INTERNAL"
    assert {outcome.code for outcome in outcomes} == {code}
    assert caplog.text.count("failed 4 request(s)") == caplog.text.count("failed") == 1


def test_answered_shape_is_never_blamed():
    class Tired(Counting):
        def forward(self, X):
            if self.calls:
                raise ValueError("enough")
            self.calls.append(X)
            return X

    model = load(Tired)
    assert failures(run(model, requests([0]))) == []
    (outcome,) = run(model, requests([0]))
    assert outcome.code == "INTERNAL"


def test_rows_are_named_by_a_mask_too():
    class Masks(Counting):
        def forward(self, X):
            ones = X[:, 0] == 1
            if ones.any():
                raise RequestError("no ones", rows=ones)
            return X

    outcomes = run(load(Masks), requests([0, 1, 0, 1]))
    assert failures(outcomes) == [1, 3]


def test_plain_tensor_is_not_converted_and_a_buffer_is():
    class Tensors(Counting):
        def load(self):
            self.plain = torch.ones(3)
            self.module = torch.nn.Module()
            self.module.register_buffer("buffer", torch.ones(3))

        def forward(self, X):
            return X

    model = load(Tensors, precision="bf16-true")
    assert (model.plain.dtype, model.module.buffer.dtype) == (torch.float32, torch.bfloat16)


def test_rows_outside_of_the_batch_count_as_no_rows():
    class Wrong(Counting):
        def forward(self, X):
            if (X[:, 0] == 1).any():
                raise RequestError("no ones", rows=[99])
            return X

    outcomes = run(load(Wrong), requests([0, 1, 0, 0]))
    assert failures(outcomes) == [1]
    assert outcomes[1].text == "no ones"


def test_setting_on_self_is_refused():
    class Late(Counting):
        def __init__(self):
            self.precision = "bf16-true"

    with pytest.raises(
        ConfigError, match=r"class Late attribute 'precision': expected a setting in the class"
    ):
        load(Late)


def test_attribute_that_the_library_uses_inside_is_left_to_the_model():
    class Named(Counting):
        def load(self):
            super().load()
            self._pipeline = self.plan = "mine"

    model = load(Named)
    assert failures(run(model, requests([0]))) == []
    assert (model._pipeline, model.plan) == ("mine", "mine")


def test_names_with_one_or_two_wrong_letters_are_refused_and_words_of_their_own_are_not(caplog):
    for name in ("forwrad", "colate", "post_process", "loda", "unlaod", "warmup_input"):
        with pytest.raises(ConfigError, match=f"attribute {name!r}: expected the name"):
            load(type("Misspelled", (Counting,), {name: lambda self: None}))
    for name in ("PAD", "precison", "warm_up", "num_thread"):
        with pytest.raises(ConfigError, match=f"attribute {name!r}: expected the name"):
            load(type("Misspelled", (Counting,), {name: 1}))
    own = dict.fromkeys(["preload", "streams", "load_all", "_forwrad"], lambda self: None)
    load(type("Own", (Counting,), own | {"metric": 1, "pat": 1}))
    assert not caplog.records


def test_name_of_another_framework_is_warned_about(caplog):
    served = {"decode_request": lambda self, request: request}
    load(type("Served", (Counting,), served))
    assert "attribute 'decode_request': expected preprocess" in caplog.text
