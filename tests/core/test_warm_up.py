"""The forwards before the first request."""

import dataclasses

import numpy as np
import pytest
import torch
from core_kit import Doubler, make_args, start, tensor

from kindaware import ConfigError, KindAwareModel, RequestError
from kindaware._batch.warmup import WarmUp
from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._config.settings import Settings
from kindaware._placement.placement import Placement

DYNAMIC = {"input": [tensor("X", [-1])], "output": [tensor("Y", [-1])]}


@pytest.fixture
def recorder():
    """A model class that notes the shapes of its batches, and the list of them."""
    shapes = []

    class Recorder(Doubler):
        def forward(self, X):
            shapes.append(list(X.shape))
            return 2 * X

    return Recorder, shapes


def warm(recorder, **changes):
    model_class, shapes = recorder
    start(model_class, **changes)
    return shapes


def test_initialize_runs_one_row_of_zeros_on_the_cpu(recorder):
    assert warm(recorder, dynamic_batching={"preferred_batch_size": [4, 8]}) == [[1, 4]]


def test_initialize_runs_the_sizes_of_the_setting(recorder):
    assert warm(recorder, parameters={"kindaware.warmup": "2,8"}) == [[2, 4], [8, 4]]


def test_initialize_warmup_off_runs_nothing_and_says_so(recorder, caplog):
    with caplog.at_level("INFO", logger="kindaware"):
        assert warm(recorder, parameters={"kindaware.warmup": "off"}) == []
    assert caplog.records[-1].getMessage().endswith(", warm-up off")


def test_initialize_model_that_does_not_batch_runs_once(recorder, caplog):
    with caplog.at_level("INFO", logger="kindaware"):
        assert warm(recorder, max_batch_size=0, parameters={"kindaware.warmup": "1,8"}) == [[4]]
    assert caplog.records[-1].getMessage().endswith("(batch sizes none)")


def test_initialize_dynamic_dims_are_skipped_and_the_log_names_the_hook(recorder, caplog):
    with caplog.at_level("INFO", logger="kindaware"):
        assert warm(recorder, **DYNAMIC) == []
    text = "warm-up skipped (input X has a dimension of -1; define warmup_inputs(rows))"
    assert caplog.records[-1].getMessage().endswith(text)


def test_initialize_warmup_inputs_makes_the_batches(recorder):
    model_class, shapes = recorder
    asked = []

    class WithInputs(model_class):
        def warmup_inputs(self, rows):
            asked.append((rows, self.device.type, torch.is_grad_enabled()))
            return {"X": torch.ones(rows, 7)}

    start(WithInputs, parameters={"kindaware.warmup": "1,3"}, **DYNAMIC)
    assert shapes == [[1, 7], [3, 7]]
    assert asked == [(1, "cpu", False), (3, "cpu", False)]


def test_initialize_warm_up_goes_through_preprocess():
    class Model(Doubler):
        def preprocess(self, inputs):
            return {"X": inputs["X"].float().permute(0, 2, 1)}

        def forward(self, X):
            return torch.nn.functional.linear(X, torch.ones(4, 3))

    model = start(
        Model,
        input=[tensor("X", [3, 2], "TYPE_UINT8")],
        output=[tensor("Y", [2, 4])],
    )
    assert model.is_ready()


def test_initialize_optional_inputs_are_left_out():
    seen = []

    class Model(Doubler):
        def forward(self, X, MASK=None):
            seen.append(MASK)
            return X

    start(Model, input=[tensor("X", [4]), tensor("MASK", [-1], optional=True)])
    assert seen == [None]


class Divides(Doubler):
    def forward(self, X):
        return X / self.scale()

    def scale(self):
        raise ZeroDivisionError("no scale")


def test_initialize_warm_up_that_fails_says_first_where_in_the_users_code():
    with pytest.raises(ConfigError) as caught:
        start(Divides)
    first, second, *frames, last = str(caught.value).splitlines()
    assert first == f"test_warm_up.py:{Divides.scale.__code__.co_firstlineno + 1}, in scale: " + (
        "ZeroDivisionError: no scale"
    )
    assert second == "Traceback (most recent call last):"
    assert [line.split(", in ")[1] for line in frames if ", in " in line] == ["forward", "scale"]
    assert last == (
        "model 'm' warm-up with 1 row(s): expected forward to answer zeros, got ZeroDivisionError: no scale; "
        "correct forward, or define warmup_inputs(rows) with data that it takes"
    )
    assert caught.value.__cause__ is not None


def test_initialize_warm_up_without_the_module_that_forward_uses_says_what_load_returns():
    with pytest.raises(ConfigError, match=r"got AttributeError: .*; return the module from load\(\)"):
        start(type("Model", (Doubler,), {"forward": lambda self, X: self.model(X)}))


@pytest.mark.parametrize("hook", ["preprocess", "postprocess", "collate", "warmup_inputs"])
def test_initialize_warm_up_names_the_hook_that_raised(hook):
    def raises(self, *_):
        raise ValueError("odd")

    with pytest.raises(
        ConfigError, match=f"expected {hook} to answer .*, got ValueError: odd; correct {hook}"
    ):
        start(type("Model", (Doubler,), {hook: raises}))


@pytest.mark.parametrize(
    ("hooks", "text"),
    [
        (
            {"forward": lambda self, X: X[:, :2]},
            "model 'm' output 'Y': expected shape [B, 4], got shape [1, 2]; correct forward",
        ),
        ({"warmup_inputs": lambda self, rows: None}, "warmup_inputs(1): expected a mapping of ['X']"),
        (
            {"warmup_inputs": lambda self, rows: {"Z": torch.ones(rows, 4)}},
            "expected a mapping of ['X'] to host tensors, got names ['Z']",
        ),
        (
            {"warmup_inputs": lambda self, rows: {"X": torch.ones(rows + 1, 4)}},
            "model 'm' warmup_inputs(1) input 'X': expected shape [1, 4], got shape [2, 4]; return the",
        ),
    ],
)
def test_initialize_warm_up_that_does_not_fit_the_configuration_is_a_config_error(hooks, text):
    with pytest.raises(ConfigError) as caught:
        start(type("Model", (Doubler,), hooks))
    assert text in str(caught.value)
    assert str(caught.value).endswith("(seen in the warm-up with 1 row(s))")
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("hook", ["forward", "stream"])
@pytest.mark.parametrize("max_batch_size", [8, 0])
@pytest.mark.parametrize(
    ("made", "text"),
    [
        ({"X": torch.ones(2, 4).double()}, "input 'X': expected data type FP32, got FP64"),
        ({"X": np.ones((2, 4), np.float32)}, "input 'X': expected a torch.Tensor, got ndarray"),
        ({"X": [[1.0] * 4] * 2}, "input 'X': expected a torch.Tensor, got list"),
        ({"X": torch.ones(2, 3)}, "input 'X': expected shape [2, 4], got shape [2, 3]"),
        ({"X": torch.ones(1, 4)}, "input 'X': expected shape [2, 4], got shape [1, 4]"),
        ({"X": torch.ones(2, 4, 1)}, "input 'X': expected shape [2, 4], got shape [2, 4, 1]"),
        ({"X": torch.tensor(1.0)}, "input 'X': expected shape [2, 4], got shape []"),
        ({"X": torch.ones(2, 4), "T": torch.ones(2, 1)}, "input 'T': expected a numpy array of dtype object"),
        ({"X": torch.ones(2, 4), "T": np.array([["a"]] * 2)}, "input 'T': expected an array of dtype object"),
        (
            {"X": torch.ones(2, 4), "T": np.array([[b"a"]] * 2)},
            "with elements of type bytes, got dtype |S1 with ['bytes_']",
        ),
        (
            {"X": torch.ones(2, 4), "T": np.array([["a"], [b"a"]], dtype=object)},
            "with elements of type bytes, got dtype object with ['bytes', 'str']",
        ),
        (
            {"X": torch.ones(2, 4), "T": np.full((2, 2), b"", dtype=object)},
            "input 'T': expected shape [2, 1]",
        ),
    ],
)
def test_initialize_warmup_inputs_that_no_client_could_send_are_named(made, text, max_batch_size, hook):
    class Model(KindAwareModel):
        def load(self):
            """Make nothing."""

        def warmup_inputs(self, rows):
            return made

    def forward(self, X, T=None):
        return X.sum() / 0

    def stream(self, X, T=None):
        yield X.sum() / 0

    setattr(Model, hook, locals()[hook])
    rows = [] if max_batch_size else [2]
    changes = {"model_transaction_policy": {"decoupled": True}} if hook == "stream" else {}
    with pytest.raises(ConfigError) as caught:
        start(
            Model,
            max_batch_size=max_batch_size,
            input=[tensor("X", [*rows, 4]), tensor("T", [*rows, 1], "TYPE_STRING", optional=True)],
            parameters={"kindaware.warmup": "2"},
            **changes,
        )
    subject = f"model 'm' warmup_inputs({2 if max_batch_size else 1}) "
    assert subject in str(caught.value)
    assert text in str(caught.value)
    assert "return the inputs of one batch by name, as a client would send them (seen in" in str(caught.value)


def test_initialize_warmup_inputs_of_text_and_of_any_size_are_taken():
    seen = []

    class Model(Doubler):
        def warmup_inputs(self, rows):
            return {"X": torch.ones(rows, 7), "T": np.full((rows, 1), b"a", dtype=object)}

        def forward(self, X, T):
            seen.append((list(X.shape), T.tolist()))
            return X

    start(
        Model,
        input=[tensor("X", [-1]), tensor("T", [1], "TYPE_STRING")],
        output=[tensor("Y", [-1])],
    )
    assert seen == [([1, 7], [[b"a"]])]


NO_BATCH = "set max_batch_size above 0 in config.pbtxt: while it is 0, no tensor has a batch dimension"


@pytest.mark.parametrize(
    ("dims", "forward"),
    [
        ([3, 8, 8], lambda self, X: torch.nn.BatchNorm2d(3)(X)),
        ([8, 8], lambda self, X: torch.nn.Conv2d(3, 3, 1)(X)),
        ([4], lambda self, X: X.softmax(dim=1)),
        ([4], lambda self, X: X[:, 0]),
        ([4], lambda self, X: torch.nn.LSTM(4, 4)(X)),
        ([4], lambda self, X: torch.mm(X, torch.ones(4, 4))),
    ],
)
@pytest.mark.parametrize("max_batch_size", [0, 8])
def test_initialize_model_that_misses_its_batch_dimension_is_told_where_it_comes_from(
    dims, forward, max_batch_size
):
    shape = dims if max_batch_size == 0 else dims[1:]
    with pytest.raises(ConfigError, match=r"warm-up with 1 row\(s\): expected forward to") as caught:
        start(
            type("Model", (Doubler,), {"forward": lambda self, X: forward(self, X.reshape(dims))}),
            input=[tensor("X", dims)],
            output=[tensor("Y", shape or [1])],
            max_batch_size=max_batch_size,
        )
    last = str(caught.value).splitlines()[-1]
    assert (f"; {NO_BATCH}; or correct forward" in last) == (max_batch_size == 0)


def test_initialize_other_errors_of_a_model_without_a_batch_dimension_do_not_name_it():
    with pytest.raises(ConfigError, match="got ZeroDivisionError") as caught:
        start(Divides, max_batch_size=0)
    assert "max_batch_size" not in str(caught.value)


@pytest.mark.parametrize("hook", ["forward", "postprocess", "stream"])
def test_initialize_output_with_a_batch_dimension_that_is_not_declared_says_where_it_comes_from(hook):
    decoupled = {"model_transaction_policy": {"decoupled": True}}

    class Streaming(KindAwareModel):
        def load(self):
            """Make nothing."""

        def stream(self, X):
            yield X[None]

    hooks = {
        "forward": lambda self, X: X[None],
        "postprocess": lambda self, outputs: outputs["Y"][None],
    }
    model = Streaming if hook == "stream" else type("Model", (Doubler,), {hook: hooks[hook]})
    with pytest.raises(ConfigError) as caught:
        start(model, max_batch_size=0, **(decoupled if hook == "stream" else {}))
    assert str(caught.value) == (
        f"model 'm' output 'Y': expected shape [4], got shape [1, 4]; {NO_BATCH}, or correct {hook} "
        "(seen in the warm-up with 1 row(s))"
    )


@pytest.mark.parametrize(
    ("forward", "max_batch_size"),
    [
        (lambda self, X: X[None, :2], 0),
        (lambda self, X: torch.stack([X, X]), 0),
        (lambda self, X: X[None], 8),
    ],
)
def test_initialize_other_outputs_do_not_name_the_batch_dimension(forward, max_batch_size):
    with pytest.raises(ConfigError, match="output 'Y': expected ") as caught:
        start(type("Model", (Doubler,), {"forward": forward}), max_batch_size=max_batch_size)
    assert "max_batch_size above 0" not in str(caught.value)


def test_initialize_zeros_that_the_model_refuses_skip_the_warm_up(caplog):
    class Model(Doubler):
        def preprocess(self, inputs):
            raise RequestError("an empty picture")

    with caplog.at_level("INFO"):
        assert start(Model).is_ready()
    assert "warm-up skipped (zeros are refused: an empty picture; define warmup_inputs(rows))" in caplog.text


def test_initialize_inputs_of_the_users_that_the_model_refuses_are_a_config_error():
    class Model(Doubler):
        def warmup_inputs(self, rows):
            return {"X": torch.ones(rows, 4)}

        def forward(self, X):
            raise RequestError("too bright")

    with pytest.raises(
        ConfigError, match="expected forward to answer what warmup_inputs made, got "
    ) as caught:
        start(Model)
    assert "or define warmup_inputs" not in str(caught.value)


def test_initialize_warm_up_that_somebody_stops_is_stopped():
    class Model(Doubler):
        def forward(self, X):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(Model)


@pytest.mark.parametrize(("changes", "rows"), [({"max_batch_size": 0}, 1), ({}, 3)])
def test_initialize_warm_up_that_fails_says_with_how_many_rows(changes, rows):
    asked = []

    class Failing(Doubler):
        def forward(self, X):
            raise AttributeError("no such attribute", name="weights")

    class Odd(Doubler):
        def warmup_inputs(self, rows):
            asked.append(rows)
            return {"Z": torch.ones(rows, 4)}

    warmup = {"kindaware.warmup": "3"}
    with pytest.raises(ConfigError, match=rf"model 'm' warm-up with {rows} row\(s\): expected") as caught:
        start(Failing, parameters=warmup, **changes)
    assert "correct forward, or define warmup_inputs(rows)" in str(caught.value)
    with pytest.raises(
        ConfigError, match=rf"model 'm' warmup_inputs\({rows}\): expected a mapping of \['X'\]"
    ):
        start(Odd, parameters=warmup, **changes)
    assert asked == [rows]


def test_initialize_warmup_inputs_may_leave_optional_inputs_out():
    class Model(Doubler):
        def warmup_inputs(self, rows):
            return {"X": torch.ones(rows, 4)}

        def forward(self, X, MASK=None):
            return X

    assert start(Model, input=[tensor("X", [4]), tensor("MASK", [4], optional=True)]).is_ready()


def test_initialize_warm_up_size_above_max_batch_size_raises(recorder):
    with pytest.raises(ConfigError, match="expected batch sizes up to max_batch_size 8, got 9"):
        warm(recorder, parameters={"kindaware.warmup": "1,9"})


def test_plan_on_a_gpu_runs_the_preferred_sizes_too():
    spec = ModelSpec("m", 8, (TensorSpec("X", "FP32", [4]),), (), preferred_batch_sizes=(8, 4))
    gpu = Placement("GPU", (torch.device("cuda", 0),), moves_modules=True, reason="")
    assert WarmUp.plan(spec, Settings(), gpu, None).sizes == (1, 4, 8)
    assert WarmUp.plan(spec, Settings(warmup=(2,)), gpu, None).sizes == (2,)
    assert WarmUp.plan(spec, Settings(warmup=()), gpu, None).reason == "off"
    cpu = Placement("CPU", (torch.device("cpu"),), moves_modules=True, reason="")
    assert WarmUp.plan(spec, Settings(), cpu, None).sizes == (1,)
    streaming = dataclasses.replace(spec, decoupled=True)
    assert WarmUp.plan(streaming, Settings(), gpu, None).sizes == (1,)
    assert WarmUp.plan(spec, Settings(compile="default"), gpu, None).sizes == (1, 2, 4, 8)


@pytest.mark.parametrize(("max_batch_size", "sizes"), [(0, (1,)), (1, (1,)), (2, (1, 2)), (8, (1, 2))])
def test_plan_with_compile_runs_two_rows_where_a_batch_can_have_them(max_batch_size, sizes):
    spec = ModelSpec("m", max_batch_size, (TensorSpec("X", "FP32", [4]),), ())
    cpu = Placement("CPU", (torch.device("cpu"),), moves_modules=True, reason="")
    assert WarmUp.plan(spec, Settings(compile="default"), cpu, None).sizes == sizes


def test_plan_on_a_gpu_runs_the_sizes_that_get_a_graph_too():
    spec = ModelSpec("m", 8, (TensorSpec("X", "FP32", [4]),), (), preferred_batch_sizes=(4,))
    gpu = Placement("GPU", (torch.device("cuda", 0),), moves_modules=True, reason="")
    plan = WarmUp.plan(spec, Settings(cuda_graphs=(2, 4, 8)), gpu, None)
    assert (plan.sizes, plan.graph_sizes) == ((1, 4, 2, 8), (2, 4, 8))
    plan = WarmUp.plan(spec, Settings(cuda_graphs=(8,), warmup=()), gpu, None)
    assert (plan.sizes, plan.graph_sizes) == ((8,), (8,))


def make_inputs(rows):
    return {"X": torch.ones(rows, 3)}


def test_plan_runs_inputs_of_variable_size_that_are_optional_or_that_the_hook_makes():
    gpu = Placement("GPU", (torch.device("cuda", 0),), moves_modules=True, reason="")
    optional = ModelSpec("m", 8, (TensorSpec("X", "FP32", [-1], optional=True),), ())
    required = ModelSpec("m", 8, (TensorSpec("X", "FP32", [-1]),), ())
    assert WarmUp.plan(optional, Settings(), gpu, None).sizes == (1,)
    assert WarmUp.plan(required, Settings(), gpu, None).sizes == ()
    assert WarmUp.plan(required, Settings(), gpu, make_inputs).sizes == (1,)
    assert WarmUp.plan(required, Settings(cuda_graphs=(2,)), gpu, make_inputs).graph_sizes == (2,)


@pytest.mark.parametrize(
    ("max_batch_size", "sizes", "is_dynamic", "rows"),
    [
        (8, (), True, {1: 1, 8: 8}),
        (8, (), False, {1: 1}),
        (8, (4, 2), True, {2: 2, 4: 4}),
        (0, (), True, {1: None}),
        (0, (4,), False, {1: None}),
    ],
)
def test_requests_to_time_are_a_single_one_and_a_busy_batch_or_those_of_the_setting(
    max_batch_size, sizes, is_dynamic, rows
):
    spec = ModelSpec("m", max_batch_size, (TensorSpec("X", "FP32", [2]),), ())
    requests = WarmUp(spec, (1,), (), None, "").requests_to_time(sizes, is_dynamic=is_dynamic)
    assert {size: one.rows for size, one in requests.items()} == rows
    assert list(requests) == sorted(requests)


def test_run_sends_zeros_without_the_optional_inputs_and_records_no_graph_that_is_not_wanted():
    spec = ModelSpec("m", 8, (TensorSpec("X", "FP32", [2]), TensorSpec("Z", "FP32", [2], optional=True)), ())
    sent = []
    said = WarmUp(spec, (1, 2), (), None, "").run(lambda request, _: sent.append(request), record_graphs=None)
    assert [{name: one.tolist() for name, one in request.inputs.items()} for request in sent] == [
        {"X": [[0, 0]]},
        {"X": [[0, 0], [0, 0]]},
    ]
    assert said.endswith(" s (batch sizes 1, 2)")


def test_run_warms_up_each_number_of_streams_of_a_model_without_batches():
    spec, ran = ModelSpec("m", 0, (TensorSpec("X", "FP32", [2]),), ()), []
    warm_up = WarmUp(spec, (1, 3), (), None, "", counts_streams=True)
    warm_up.run(lambda request, size: ran.append((request.rows, size)), record_graphs=None)
    assert ran == [(None, 1), (None, 3)]


def test_is_ready_after_initialize_until_the_device_fails():
    model = Doubler()
    model.initialize(make_args())
    assert model.is_ready() is True
    model._kindaware_instance._device.health.fault = "RuntimeError: CUDA error"
    assert model.is_ready() is False
