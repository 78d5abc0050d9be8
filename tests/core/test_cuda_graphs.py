"""CUDA graphs, recorded and replayed by the CUDA runtime on simulated GPUs."""

import weakref

import pytest
import torch
from core_kit import Doubler, pipeline_of, start, tensor
from torch import nn

from kindaware import ConfigError, KindAwareModel, RequestError
from kindaware._batch.graph_plan import graph_sizes
from kindaware._batch.request import Request
from kindaware._batch.results import Failure
from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._config.settings import Settings
from kindaware._device.cuda_graphs import Graphs
from kindaware._device.runtime import CpuRuntime
from kindaware._device.staging import HostStaging
from kindaware._placement.placement import Placement
from kindaware.testing.accelerator import SimulatedAccelerator

CPU = Placement("CPU", (torch.device("cpu"),), moves_modules=True, reason="")
GPU = Placement("GPU", (torch.device("cuda", 0),), moves_modules=True, reason="")
TWO_GPUS = Placement("MODEL", (torch.device("cuda", 0), torch.device("cuda", 1)), False, reason="")
DYNAMIC = {"input": [tensor("X", [-1])], "output": [tensor("Y", [-1])]}


@pytest.fixture
def accelerator():
    """Two simulated GPUs in the place of torch's; a use against CUDA's rules fails the test."""
    simulated = SimulatedAccelerator(2)
    with simulated.installed(lambda *_: None), simulated.entered():
        yield simulated
    assert simulated.violations == []


class Graphed(KindAwareModel):
    """Doubles; notes the rows with which its Python was run."""

    cuda_graphs = (4, 8)

    def load(self):
        self.sizes = []

    def forward(self, X):
        self.sizes.append(len(X))
        return 2 * X


def start_on_gpu(model_class, **changes):
    """Start an instance on the second GPU; forget what ran while it was loaded."""
    model = start(model_class, kind="GPU", device_id=1, **changes)
    if hasattr(model, "sizes"):
        model.sizes.clear()
    return model


def ask(model, *counts, width=4):
    """Answer a call of requests with so many rows, each row with a number of its own; give both."""
    rows = torch.arange(1.0, 1 + sum(counts))[:, None].expand(-1, width)
    parts = [part.clone() for part in rows.split(counts)]
    outcomes = pipeline_of(model).run([Request("r", {"X": part}, len(part)) for part in parts])
    return parts, outcomes


def assert_doubled(model, *counts, **changes):
    for part, outcome in zip(*ask(model, *counts, **changes), strict=True):
        assert torch.equal(outcome["Y"].cpu(), 2 * part)


@pytest.mark.parametrize("counts", [(1,), (4,), (1, 2), (5,), (2, 3, 3), (8,)])
def test_run_batch_up_to_the_largest_size_is_replayed(accelerator, counts):
    model = start_on_gpu(Graphed)
    for _ in range(3):
        assert_doubled(model, *counts)
    assert model.sizes == []


@pytest.mark.parametrize(
    ("counts", "width", "sizes"),
    [((9,), 4, [9]), ((5, 6), 4, [11]), ((2,), 3, [2]), ((0,), 4, [0])],
    ids=["larger", "larger together", "other shape", "no rows"],
)
def test_run_any_other_batch_runs_eagerly(accelerator, counts, width, sizes):
    class Model(Graphed):
        def warmup_inputs(self, rows):
            return {"X": torch.ones(rows, 4)}

    model = start_on_gpu(Model, max_batch_size=16, **DYNAMIC)
    assert_doubled(model, *counts, width=width)
    assert model.sizes == sizes


def test_run_batch_of_another_data_type_runs_eagerly(accelerator):
    class Model(Graphed):
        cast_outputs = True

    model = start_on_gpu(Model)
    [outcome] = pipeline_of(model).run([Request("r", {"X": torch.full((2, 4), 3)}, 2)])
    assert outcome["Y"].tolist() == [[6] * 4] * 2
    assert model.sizes == [2]


def test_run_pads_with_copies_of_the_last_row(accelerator):
    class Model(Graphed):
        def forward(self, X):
            return X - X[-1]

    model = start_on_gpu(Model)
    for counts in [(8,), (3,), (1, 1), (5,)]:
        parts, outcomes = ask(model, *counts)
        last = parts[-1][-1]
        assert all(torch.equal(one["Y"], part - last) for part, one in zip(parts, outcomes, strict=True))


def test_run_forward_that_writes_to_its_input_gets_it_anew(accelerator):
    class Model(Graphed):
        def forward(self, X):
            return X.mul_(2)

    model = start_on_gpu(Model)
    for counts in [(3,), (4,), (2,), (8,)]:
        assert_doubled(model, *counts)


def test_run_outputs_on_the_device_survive_the_next_replay_of_the_call(accelerator):
    class Model(Graphed):
        output_device = "instance"

        def warmup_inputs(self, rows):
            return {"X": torch.ones(rows, 4 if rows == 4 else 3)}

        def forward(self, X):
            return X  # the graph's own input

    model = start_on_gpu(Model, **DYNAMIC)
    calls = [torch.full((2, width), float(n)) for n, width in enumerate([4, 3, 5, 4, 3])]
    requests = [Request("r", {"X": one}, 2) for one in calls]
    outcomes = pipeline_of(model).run(requests)
    assert {one["Y"].device for one in outcomes} == {model.device}
    assert all(torch.equal(one["Y"].cpu(), sent) for one, sent in zip(outcomes, calls, strict=True))


def test_run_halves_of_a_call_that_share_a_graph_keep_their_answers(accelerator):
    class Model(Graphed):
        output_device = "instance"

        def postprocess(self, outputs):
            if len(outputs["Y"]) > 2:
                raise ValueError("too many")
            return outputs

    model = start_on_gpu(Model, parameters={"kindaware.cuda_graphs": "2"})
    assert_doubled(model, 1, 1, 1, 1)
    assert model.sizes == [4]


def test_run_inputs_on_the_gpu_are_copied_into_the_graphs(accelerator):
    model = start_on_gpu(Graphed)
    for counts in [(3,), (1, 1)]:
        parts = [torch.rand(count, 4) for count in counts]
        requests = [Request("r", {"X": part.to(model.device)}, len(part)) for part in parts]
        outcomes = pipeline_of(model).run(requests)
        assert all(torch.equal(one["Y"], 2 * part) for one, part in zip(outcomes, parts, strict=True))
    assert model.sizes == []


def test_run_postprocess_and_cast_are_outside_of_the_graph(accelerator):
    class Model(Graphed):
        cast_outputs = True

        def postprocess(self, outputs):
            self.sizes.append(len(outputs["Y"]))
            return {"Y": outputs["Y"].double() + self.offset}

        offset = 0

    model = start_on_gpu(Model)
    model.offset = 1
    [part], [outcome] = ask(model, 3)
    assert torch.equal(outcome["Y"], 2 * part + 1)
    assert model.sizes == [3]


def test_run_optional_input_that_is_there_runs_eagerly(accelerator):
    class Model(Graphed):
        def forward(self, X, MASK=None):
            self.sizes.append(len(X))
            return 2 * X if MASK is None else MASK * X

    inputs = [tensor("X", [4]), tensor("MASK", [4], optional=True)]
    model = start_on_gpu(Model, input=inputs)
    assert_doubled(model, 3)
    assert model.sizes == []
    ones = torch.ones(3, 4)
    [outcome] = pipeline_of(model).run([Request("r", {"X": ones, "MASK": 3 * ones}, 3)])
    assert torch.equal(outcome["Y"], 3 * ones)
    assert model.sizes == [3]


def test_run_collate_is_outside_of_the_graph_and_its_shape_decides(accelerator):
    class Model(Graphed):
        def warmup_inputs(self, rows):
            return {"X": torch.ones(rows, 4)}

        def collate(self, name, tensors):
            return torch.cat([nn.functional.pad(one, (0, 4 - one.shape[1])) for one in tensors])

        def forward(self, X):
            self.sizes.append(len(X))
            return X.sum(dim=1, keepdim=True)

    model = start_on_gpu(Model, input=[tensor("X", [-1])], output=[tensor("Y", [1])])
    requests = [Request("r", {"X": torch.ones(1, width)}, 1) for width in (2, 4, 1)]
    assert [one["Y"].item() for one in pipeline_of(model).run(requests)] == [2, 4, 1]
    assert model.sizes == []


def test_run_collate_that_loses_rows_is_not_padded(accelerator):
    class Model(Graphed):
        def collate(self, name, tensors):
            return tensors[0]

    model = start_on_gpu(Model)
    assert_doubled(model, 1)
    for outcome in ask(model, 1, 1)[1]:
        assert "collate of input 'X': expected 2 rows, as many as the requests have" in outcome.text
    assert model.sizes == [1]


@pytest.mark.parametrize(
    ("precision", "memory_format"), [("bf16-true", "channels_last"), ("32-true", "contiguous")]
)
def test_run_conversions_of_the_input_are_part_of_the_graph(accelerator, precision, memory_format):
    class Model(Graphed):
        def load(self):
            self.sizes = []
            return nn.Conv2d(3, 3, 1)

        def forward(self, X):
            self.sizes.append(len(X))
            return self.model(X)

    image = {"input": [tensor("X", [3, 2, 2])], "output": [tensor("Y", [3, 2, 2])]}
    settings = {"kindaware.precision": precision, "kindaware.memory_format": memory_format}
    model = start_on_gpu(Model, parameters=settings, **image)
    sent = torch.rand(3, 3, 2, 2)
    [outcome] = pipeline_of(model).run([Request("r", {"X": sent}, 3)])
    weight, bias = (one.detach().cpu().float() for one in (model.model.weight, model.model.bias))
    expected = nn.functional.conv2d(sent, weight, bias)
    torch.testing.assert_close(outcome["Y"], expected, rtol=2e-2, atol=2e-2)
    assert model.sizes == []


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def count_captures(accelerator, monkeypatch):
    """Count from now on."""
    begun = []
    original = torch.cuda.CUDAGraph.capture_begin
    monkeypatch.setattr(
        torch.cuda.CUDAGraph,
        "capture_begin",
        lambda self, *args, **more: begun.append(1) or original(self, *args, **more),
    )
    return begun


def test_initialize_forward_that_waits_runs_eagerly_and_the_log_says_why(accelerator, caplog, monkeypatch):
    class Model(Graphed):
        def forward(self, X):
            self.sizes.append(len(X))
            return X * (X.max().item() * 0 + 2)

    begun = count_captures(accelerator, monkeypatch)
    with caplog.at_level("INFO"):
        model = start_on_gpu(Model)
    assert warnings_of(caplog) == [
        "model 'm' cuda_graphs batch size(s) 4, 8: expected a forward that can be captured, got "
        "RuntimeError: called a synchronizing CUDA operation; these run without a graph; change forward, or "
        "set cuda_graphs to 'off'"
    ]
    assert caplog.messages[-1].endswith(" s (batch sizes 1, 4, 8), no CUDA graph")
    assert begun == []
    assert torch.cuda.get_sync_debug_mode() == 0
    assert_doubled(model, 3)
    assert model.sizes == [3]


def test_initialize_capture_that_is_spoilt_says_by_what_and_is_the_last(accelerator, caplog, monkeypatch):
    class Model(Graphed):
        def forward(self, X):
            self.sizes.append(len(X))
            torch.cuda.synchronize()
            return 2 * X

    begun = count_captures(accelerator, monkeypatch)
    model = start_on_gpu(Model)
    [text] = warnings_of(caplog)
    assert "batch size(s) 4, 8" in text
    assert "operation not permitted when stream is capturing" in text
    assert len(begun) == 1
    assert model.is_ready()
    for _ in range(2):
        assert_doubled(model, 3)
    assert model.sizes == [3, 3]


def test_initialize_size_without_room_runs_eagerly_and_no_larger_graph_stands_in(accelerator, caplog):
    class Model(Graphed):
        def forward(self, X):
            self.sizes.append(len(X))
            if len(X) == 4 and torch.cuda.is_current_stream_capturing():
                raise torch.OutOfMemoryError("CUDA out of memory")
            return 2 * X

    with caplog.at_level("INFO"):
        model = start_on_gpu(Model, parameters={"kindaware.cuda_graphs": "2,4,8"})
    [text] = warnings_of(caplog)
    assert "batch size(s) 4: expected a forward that can be captured, got OutOfMemoryError: " in text
    assert caplog.messages[-1].endswith("CUDA graphs for batch sizes 2, 8")
    for rows in range(1, 9):
        assert_doubled(model, rows)
    assert model.sizes == [3, 4]


class NoRoom(CpuRuntime):
    """Refuses captures; tells what was alive when memory was handed back."""

    def __init__(self):
        self.held, self.alive = [], []

    def capture(self, work):
        work()
        raise torch.OutOfMemoryError("full")

    def release_memory(self):
        self.alive.append([reference() is not None for reference in self.held])


def test_capture_without_room_lets_go_of_what_it_had_before_memory_is_handed_back():
    runtime = NoRoom()

    def compute(inputs):
        doubled = 2 * inputs["X"]
        runtime.held += [weakref.ref(doubled), weakref.ref(inputs["X"])]
        return {"Y": doubled}

    graphs = Graphs(runtime, HostStaging(), compute)
    assert graphs.capture({"X": [torch.ones(2, 4)]}, 2) == "OutOfMemoryError: full"
    assert runtime.alive == [[False] * 4]
    assert graphs.run({"X": [torch.ones(2, 4)]}, 2) is None


@pytest.mark.parametrize(
    ("forward", "got"),
    [
        (lambda self, X: X[:1].expand(3, -1), "shape [3, 4] on cuda:1"),
        (lambda self, X: torch.ones(len(X), 4), "on cpu"),
        (lambda self, X: (2 * X).to("cuda:0", non_blocking=True), "on cuda:0"),
    ],
)
def test_initialize_outputs_that_a_graph_cannot_give_run_eagerly(accelerator, caplog, forward, got):
    def postprocess(self, outputs):
        return {"Y": torch.zeros(self.num_rows, 4)}

    class Model(Graphed):
        pass

    Model.forward = lambda self, X: setattr(self, "num_rows", len(X)) or forward(self, X)
    Model.postprocess = postprocess
    start_on_gpu(Model)
    [text] = warnings_of(caplog)
    assert (
        f"forward output 'Y': expected 8 rows on cuda:1, got {'' if 'shape' in got else 'shape [8, 4] '}{got}"
        in text
    )


def test_initialize_device_that_is_lost_while_capturing_fails_the_load(accelerator):
    class Model(Graphed):
        def forward(self, X):
            if torch.cuda.is_current_stream_capturing():
                accelerator.lose(1)
            return 2 * X

    with pytest.raises(torch.AcceleratorError, match="device-side assert"):
        start_on_gpu(Model)


def test_initialize_runs_each_size_before_its_capture_whatever_warmup_says(accelerator):
    class Model(Graphed):
        def forward(self, X):
            self.sizes.append((len(X), torch.cuda.is_current_stream_capturing()))
            return 2 * X

    model = start(Model, kind="GPU", parameters={"kindaware.warmup": "off"})
    assert model.sizes == [(4, False), (8, False), (8, False), (8, True), (4, False), (4, True)]


def test_initialize_records_forward_in_inference_mode(accelerator):
    class Model(Graphed):
        def forward(self, X):
            self.sizes.append((torch.cuda.is_current_stream_capturing(), torch.is_inference_mode_enabled()))
            return 2 * X

    assert set(start(Model, kind="GPU").sizes) == {(False, True), (True, True)}


def test_initialize_zeros_that_are_refused_leave_the_model_without_graphs(accelerator, caplog):
    class Model(Graphed):
        def preprocess(self, inputs):
            raise RequestError("an empty picture")

    with caplog.at_level("INFO"):
        start_on_gpu(Model)
    assert caplog.messages[-1].endswith("define warmup_inputs(rows)), no CUDA graph")


def test_initialize_on_the_cpu_has_no_effect_and_says_so(caplog):
    with caplog.at_level("INFO"):
        model = start(Graphed)
    assert caplog.messages[-1].endswith(" s (batch sizes 1); without effect: cuda_graphs (on the CPU)")
    assert model.sizes == [1]


SPEC = ModelSpec("m", 8, (TensorSpec("X", "FP32", [4]),), (TensorSpec("Y", "FP32", [4]),))


def test_graph_sizes_are_those_of_the_setting_on_a_gpu_alone():
    settings = Settings(cuda_graphs=(1, 8), compile="default")
    assert graph_sizes(SPEC, settings, GPU) == (1, 8)
    assert graph_sizes(SPEC, settings, CPU) == ()
    assert graph_sizes(SPEC, Settings(), TWO_GPUS) == ()


@pytest.mark.parametrize("placement", [CPU, GPU, TWO_GPUS])
@pytest.mark.parametrize(
    ("changes", "settings", "text"),
    [
        ({"max_batch_size": 0}, {}, "expected a model with max_batch_size above 0, got max_batch_size 0; "),
        ({"max_batch_size": 7}, {}, "expected batch sizes up to max_batch_size 7, got 8; "),
        (
            {},
            {"compile": "reduce-overhead"},
            "expected compile 'off' or 'default', got 'reduce-overhead', which ",
        ),
        ({}, {"compile": "max-autotune"}, "expected compile 'off' or 'default', got 'max-autotune', which "),
    ],
)
def test_graph_sizes_that_cannot_be_had_raise_on_every_device(placement, changes, settings, text):
    spec = ModelSpec("m", changes.get("max_batch_size", 8), SPEC.inputs, SPEC.outputs)
    with pytest.raises(ConfigError, match=r"^model 'm' setting 'cuda_graphs': ") as caught:
        graph_sizes(spec, Settings(cuda_graphs=(1, 8), **settings), placement)
    assert text in str(caught.value)


def test_graph_sizes_with_several_devices_raise():
    with pytest.raises(ConfigError, match="expected an instance with one device, got 2 devices"):
        graph_sizes(SPEC, Settings(cuda_graphs=(8,)), TWO_GPUS)


@pytest.mark.parametrize("kind", ["CPU", "GPU"])
def test_initialize_dynamic_inputs_need_warmup_inputs(accelerator, kind):
    class Model(Doubler):
        cuda_graphs = 4

    with pytest.raises(
        ConfigError, match="got input 'X' with a dimension of -1, and no warmup_inputs; define"
    ):
        start(Model, kind=kind, **DYNAMIC)


def test_run_request_that_fails_in_postprocess_of_a_replay_fails_alone(accelerator):
    class Model(Graphed):
        def postprocess(self, outputs):
            if (outputs["Y"] == 4).any():
                raise ValueError("unlucky")
            return outputs

    model = start_on_gpu(Model)
    parts, outcomes = ask(model, 1, 1, 1)
    assert [isinstance(one, Failure) for one in outcomes] == [False, True, False]
    assert torch.equal(outcomes[2]["Y"], 2 * parts[2])
