"""The setting `optimize`: what is tried of a loaded model, what is kept, and what is left as it was."""

import math
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from core_kit import group, start, tensor
from torch import nn

from kindaware import KindAwareModel, RequestError, TensorSpec
from kindaware._batch.request import Request
from kindaware._cache import CacheError
from kindaware._config.model_spec import ModelSpec
from kindaware._config.settings import Settings
from kindaware._tuning import optimizer as optimizer_module
from kindaware._tuning.optimizer import Optimizer, layouts_to_try, precisions_to_try
from kindaware._tuning.threads import ThreadTimes
from kindaware.testing.accelerator import SimulatedAccelerator

IMAGES = {"input": [tensor("X", [3, 8, 8])], "output": [tensor("Y", [2, 8, 8])]}


class Convolution(KindAwareModel):
    """A network that notes in which state it was called."""

    optimize = "auto"
    dtype = torch.float32

    def load(self):
        torch.manual_seed(0)
        self.seen = []
        return nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, X):
        weight = self.model.weight
        layout = weight.is_contiguous(memory_format=torch.channels_last) and X.is_contiguous(
            memory_format=torch.channels_last
        )
        self.seen.append(("channels_last" if layout else "contiguous", weight.dtype, len(X)))
        return self.model(X)


class WithExamples(Convolution):
    def warmup_inputs(self, rows):
        return {"X": torch.randn(rows, 3, 8, 8)}


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server with four free cores. What is fastest is said, by the changes that make it so."""
    speeds = {}
    tried = []

    def times(states, runs, requests):
        changes = tried[-1]
        gain = speeds.get(changes, 1.0)
        for name in ("plain", "changed", "plain"):
            states[name].enter()
            runs[name](requests[1])
        return {
            (name, size): 1.0 / (gain if name == "changed" else 1.0) for name in runs for size in requests
        }

    def enter(self, changes):
        tried.append(tuple(sorted(changes.items())))
        return original(self, changes)

    original = optimizer_module.Optimizer._enter
    monkeypatch.setattr(optimizer_module.Optimizer, "_enter", enter)
    monkeypatch.setattr(optimizer_module, "_times", times)
    monkeypatch.setattr(optimizer_module, "measure_in_quiet", lambda run, cores: (run(cores), cores))
    monkeypatch.setattr(
        optimizer_module,
        "measure_threads",
        lambda counts, forwards, set_threads: ThreadTimes(counts[0], {count: {1: count} for count in counts}),
    )
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("KINDAWARE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("kindaware._device.placed_instance.count_cores", lambda: 4)
    monkeypatch.setattr("kindaware._instance.is_stub", lambda: True)
    return speeds, tried


CHANNELS_LAST = (("memory_format", "channels_last"),)
FROZEN = (("compile", "frozen"),)
BOTH = (*FROZEN, *CHANNELS_LAST)
BF16 = (("precision", "bf16-true"),)


def settings_of(model):
    settings = model.settings
    return settings.memory_format, settings.compile, settings.precision


def test_fastest_settings_are_kept_and_logged(server, caplog):
    speeds, tried = server
    speeds |= {CHANNELS_LAST: 1.4, BOTH: 1.9}
    with caplog.at_level("INFO", logger="kindaware"):
        model = start(Convolution, **IMAGES)
    assert tried == [CHANNELS_LAST, BOTH, BOTH]
    assert settings_of(model) == ("channels_last", "frozen", "32-true")
    assert torch.get_num_threads() == 1
    assert "threads 1 (optimize, of 4 cores / 1 CPU instance)" in caplog.text
    text = "memory_format=channels_last compile=frozen"
    assert (
        f"optimize: {text}, threads 1; tried memory_format=channels_last: 1.40 times as fast; " in caplog.text
    )
    assert f"; {text}: 1.90 times as fast; threads: " in caplog.text
    assert model.seen[-1][:2] == ("channels_last", torch.float32)


@pytest.mark.parametrize(
    ("parameters", "threads", "reason"),
    [
        ({"kindaware.num_threads": "3"}, 3, "setting num_threads"),
        ({"kindaware.wait_policy": "passive"}, 1, "optimize, of 4 cores / 1 CPU instance"),
    ],
)
def test_threads_are_chosen_only_where_they_are_free(server, monkeypatch, parameters, threads, reason):
    monkeypatch.setattr("kindaware._device.placed_instance.stop_spinning", lambda *_: None)
    model = start(Convolution, parameters=parameters, **IMAGES)
    assert torch.get_num_threads() == threads
    budget = model._kindaware_instance.thread_budget
    assert (budget.num_threads, budget.reason) == (threads, reason)


def test_gain_too_small_changes_nothing_and_leaves_modules_as_they_were(server):
    speeds, _ = server
    speeds |= {CHANNELS_LAST: 1.04, BOTH: 1.04, FROZEN: 0.5}
    model = start(Convolution, **IMAGES)
    assert settings_of(model) == ("contiguous", "off", "32-true")
    assert model.seen[-1] == ("contiguous", torch.float32, 1)
    assert model.model.weight.is_contiguous()


def test_what_the_author_has_set_is_not_tried(server):
    _, tried = server

    class Set(Convolution):
        memory_format = "channels_last"

    start(Set, **IMAGES)
    assert tried == [FROZEN, ()]
    tried.clear()
    start(Convolution, parameters={"kindaware.compile": "default"}, **IMAGES)
    assert tried == [CHANNELS_LAST, ()]


@pytest.mark.parametrize(
    ("model_class", "tolerance", "is_tried"),
    [(WithExamples, "0.05", True), (WithExamples, None, False), (Convolution, "0.05", False)],
)
def test_precision_is_tried_only_with_a_tolerance_and_examples(server, model_class, tolerance, is_tried):
    _, tried = server
    parameters = {} if tolerance is None else {"kindaware.tolerance": tolerance}
    start(model_class, parameters=parameters, **IMAGES)
    assert any("precision" in dict(changes) for changes in tried) == is_tried


@pytest.mark.parametrize(("tolerance", "precision"), [("0.05", "bf16-true"), ("0.0001", "32-true")])
def test_precision_is_kept_only_within_the_tolerance(server, caplog, tolerance, precision):
    speeds, tried = server
    speeds |= {BF16: 3.0}
    with caplog.at_level("INFO", logger="kindaware"):
        model = start(WithExamples, parameters={"kindaware.tolerance": tolerance}, **IMAGES)
    assert model.settings.precision == precision
    # Nothing is compiled in a precision that is too coarse.
    is_compiled = any({"precision", "compile"} <= dict(changes).keys() for changes in tried)
    assert is_compiled == (precision == "bf16-true")
    assert model.seen[-1][1] == getattr(torch, "bfloat16" if precision == "bf16-true" else "float32")
    assert ("precision=bf16-true: error 0.00" in caplog.text) == (precision == "32-true")


def test_change_that_fails_is_dropped_and_the_log_says_why(server, caplog):
    speeds, _ = server
    speeds |= {CHANNELS_LAST: 9.0}

    class Refusing(Convolution):
        def forward(self, X):
            if not X.is_contiguous():
                raise ValueError("contiguous only")
            return self.model(X)

    with caplog.at_level("INFO", logger="kindaware"):
        model = start(Refusing, **IMAGES)
    assert settings_of(model)[0] == "contiguous"
    assert "memory_format=channels_last: ValueError: contiguous only; " in caplog.text


def test_change_that_answers_otherwise_is_dropped(server):
    speeds, _ = server
    speeds |= {CHANNELS_LAST: 9.0}

    class Other(Convolution):
        def forward(self, X):
            return self.model(X) if X.is_contiguous() else self.model(X) * 1.01

    assert settings_of(start(Other, **IMAGES))[0] == "contiguous"


def test_change_that_somebody_stops_is_stopped(server):
    class Stopped(Convolution):
        def forward(self, X):
            if not X.is_contiguous():
                raise KeyboardInterrupt
            return self.model(X)

    with pytest.raises(KeyboardInterrupt):
        start(Stopped, **IMAGES)


class Trial:
    """An `Optimizer` of a network of its own, and what it has done to that: all in order."""

    def __init__(self, monkeypatch, *, fails=lambda layout: False):
        self.done = []
        self.model = nn.Conv2d(3, 2, 3, padding=1)
        self.fails = fails
        self.request = Request("warm-up", {"X": torch.ones(1, 3, 8, 8)}, 1)
        monkeypatch.setattr(nn.Module, "compile", lambda _, **options: self.done.append("compile"))
        monkeypatch.setattr(optimizer_module, "stop_compiling", lambda: self.done.append("stop"))
        monkeypatch.setattr(optimizer_module, "measure_threads", self.measure_threads)
        owner = SimpleNamespace(model=self.model)
        self.optimizer = Optimizer(
            owner,
            Settings(),
            {1: self.request},
            has_examples=False,
            make_run=lambda settings: self.run,
            set_threads=self.done.append,
        )

    @property
    def layout(self):
        is_plain = self.model.weight.is_contiguous()
        return "contiguous" if is_plain else "channels_last"

    def run(self, request):
        self.done.append(self.layout)
        if self.fails(self.layout):
            raise ValueError("refused")
        return {"Y": self.model(request.inputs["X"]).detach()}

    def measure_threads(self, counts, forwards, set_threads):
        self.done.append(("measure", list(counts)))
        return ThreadTimes(counts[0], {count: {1: count} for count in counts})

    def choose(self, counts):
        spec = ModelSpec("m", 8, (TensorSpec("X", "FP32", [3, 8, 8]),), (TensorSpec("Y", "FP32", [2, 8, 8]),))
        return self.optimizer.choose(spec, counts)

    def threads(self):
        """What was done about threads, behind all else."""
        found = self.done[self.done.index("stop", self.done.index("stop") + 1) + 1 :]
        return found[: found.index("stop")]


def test_each_change_begins_with_the_modules_as_they_were_and_so_does_the_model(server, monkeypatch):
    trial = Trial(monkeypatch)
    choice = trial.choose([4])
    assert trial.done[:2] == [4, "contiguous"]  # all cores, and the outputs to expect
    plain, changed = "contiguous", "channels_last"
    # The first run, whose outputs are compared, then three that are timed.
    assert trial.done[2:] == [
        *[changed, plain, changed, plain, "stop"],
        *["compile", plain, plain, plain, plain, "stop"],
        "stop",
    ]
    assert trial.layout == "contiguous"
    assert (choice.changes, choice.num_threads) == ({}, 4)
    assert "threads" not in choice.report
    text = "memory_format=channels_last: 1.00 times as fast; compile=frozen: 1.00 times as fast"
    assert str(choice) == f"nothing is faster, threads 4; tried {text}"


def test_change_that_fails_leaves_the_modules_as_they_were_to_the_next(server, monkeypatch):
    trial = Trial(monkeypatch, fails=lambda layout: layout == "channels_last")
    trial.choose([4])
    plain = "contiguous"
    assert trial.done[2:] == ["channels_last", "stop", "compile", *[plain] * 4, "stop", "stop"]
    assert trial.layout == "contiguous"


def test_threads_of_what_is_not_compiled_are_measured_in_the_layout_that_was_chosen(server, monkeypatch):
    speeds, _ = server
    speeds |= {CHANNELS_LAST: 1.4}
    trial = Trial(monkeypatch)
    choice = trial.choose([8, 4, 2, 1])
    assert trial.threads() == [("measure", [8, 4, 2, 1])]
    assert (choice.changes, choice.num_threads) == ({"memory_format": "channels_last"}, 1)
    assert trial.layout == "contiguous"


def test_threads_of_what_is_compiled_are_three_numbers_that_it_is_compiled_for_before(server, monkeypatch):
    speeds, _ = server
    speeds |= {FROZEN: 1.4}
    trial = Trial(monkeypatch)
    trial.choose([8, 4, 2, 1])
    compiled = [part for count in (8, 4, 2) for part in (count, "contiguous")]
    assert trial.threads() == ["compile", *compiled, ("measure", [8, 4, 2])]


def test_modules_are_as_they_were_where_the_measurement_of_threads_fails(server, monkeypatch):
    speeds, _ = server
    speeds |= {CHANNELS_LAST: 1.4}
    trial = Trial(monkeypatch)

    def fail(*_):
        raise OSError("no cores")

    monkeypatch.setattr(optimizer_module, "measure_threads", fail)
    with pytest.raises(OSError, match="no cores"):
        trial.choose([4, 2, 1])
    assert trial.layout == "contiguous"


@pytest.mark.parametrize(("error", "gain"), [(optimizer_module.ROUNDING, 1.5), (2e-3, 0.0)])
def test_change_may_answer_otherwise_by_as_much_as_rounding(server, monkeypatch, error, gain):
    speeds, _ = server
    speeds |= {CHANNELS_LAST: 1.5}
    monkeypatch.setattr(optimizer_module, "_error", lambda *_: error)
    choice = Trial(monkeypatch).choose([4])
    assert choice.changes == ({"memory_format": "channels_last"} if gain else {})


def test_change_that_had_no_turn_in_time_is_dropped_and_the_report_says_so(server, monkeypatch):
    monkeypatch.setattr(optimizer_module, "_times", lambda *_: {("plain", 1): 1.0})
    choice = Trial(monkeypatch).choose([4])
    assert choice.changes == {}
    assert "memory_format=channels_last: too slow to compare" in choice.report


@pytest.mark.parametrize(
    ("settings", "has_instructions", "expected"),
    [
        (Settings(tolerance=0.05), True, [None, "bf16-true"]),
        (Settings(tolerance=0.05, precision="16-true"), True, [None]),
        (Settings(tolerance=0.05), False, [None]),
        (Settings(), True, [None]),
    ],
)
def test_precisions_to_try_are_those_that_are_free_and_fast(
    monkeypatch, settings, has_instructions, expected
):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_instructions)
    assert precisions_to_try(settings, has_examples=True) == expected


def test_layouts_to_try_are_for_images():
    images, rows = (ModelSpec("m", 8, (TensorSpec("X", "FP32", shape),), ()) for shape in ([3, 8, 8], [4]))
    assert layouts_to_try(rows, Settings(), None) == [{}]
    assert layouts_to_try(images, Settings(), None) == [{}, {"memory_format": "channels_last"}]
    assert layouts_to_try(images, Settings(memory_format="channels_last"), "bf16-true") == [
        {"precision": "bf16-true"}
    ]


def test_outputs_of_any_type_are_compared():
    def error(found, expected):
        return optimizer_module._error(*({"Y": optimizer_module._arrays(one)} for one in (found, expected)))

    numbers, words = torch.tensor([3, 4]), np.array([b"a", b"b"], dtype=object)
    assert error(torch.ones(2).bfloat16(), torch.ones(2)) == 0
    assert error(torch.ones(2), torch.full((2,), 2.0)) == 0.5
    assert error([torch.ones(2), torch.ones(3)], [torch.ones(2), torch.ones(3)]) == 0
    assert error(torch.ones(2), torch.ones(3)) == math.inf
    assert error(numbers, numbers.clone()) == error(words, words.copy()) == 0
    assert error(numbers, numbers + 1) == error(words, words[::-1]) == math.inf
    # Whole numbers too large for FP32 are compared as they are.
    assert error(torch.tensor([2**30]), torch.tensor([2**30 + 1])) == math.inf


def test_outputs_to_expect_are_copies():
    kept = torch.ones(2)
    [array] = optimizer_module._arrays(kept)
    kept.zero_()
    assert array.tolist() == [1, 1]


@pytest.mark.parametrize("repository", ["/models/m", "/tmp/downloaded/m"])
def test_choice_is_kept_for_the_next_start(server, caplog, repository):
    speeds, tried = server
    speeds |= {CHANNELS_LAST: 1.4}
    start(Convolution, **IMAGES)
    tried.clear()
    with caplog.at_level("INFO", logger="kindaware"):
        model = start(Convolution, **IMAGES, repository=repository)
    assert (tried, settings_of(model)[0], torch.get_num_threads()) == ([], "channels_last", 1)
    assert "(of an earlier start)" in caplog.text


def test_choice_is_made_again_for_other_shapes_settings_and_modules(server, monkeypatch):
    _, tried = server

    class Wider(Convolution):
        def load(self):
            Convolution.load(self)
            return nn.Conv2d(3, 2, 5, padding=2)

    others = [
        {"input": [tensor("X", [3, 16, 16])], "output": [tensor("Y", [2, 16, 16])]},
        {**IMAGES, "parameters": {"kindaware.inference_mode": "false"}},
        {**IMAGES, "instance_group": [group(count=2)]},
        {**IMAGES, "model_class": Wider},
    ]
    start(Convolution, **IMAGES)
    for changes in others:
        tried.clear()
        start(changes.pop("model_class", Convolution), **changes)
        assert tried


def test_choice_that_others_have_disturbed_is_used_and_not_kept(server, monkeypatch):
    speeds, tried = server
    speeds |= {CHANNELS_LAST: 1.4}
    monkeypatch.setattr(optimizer_module, "measure_in_quiet", lambda run, cores: (run(cores), 1))
    model = start(Convolution, **IMAGES)
    assert settings_of(model)[0] == "channels_last"
    tried.clear()
    start(Convolution, **IMAGES)
    assert tried


def test_cache_that_cannot_be_used_is_a_warning_and_no_failure(server, monkeypatch, caplog):
    speeds, _ = server
    speeds |= {CHANNELS_LAST: 1.4}

    def refuse(*_):
        raise CacheError("no room")

    monkeypatch.setattr("kindaware._tuning.kept_choice.Cache", refuse)
    model = start(Convolution, **IMAGES)
    assert settings_of(model)[0] == "channels_last"
    assert "no room" in caplog.text


def test_forward_that_refuses_zeros_is_left_as_it_is(server, caplog):
    class Refusing(Convolution):
        def forward(self, X):
            raise RequestError("no zeros")

    start(Refusing, **IMAGES)
    assert "optimize: nothing tried: RequestError: no zeros" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {"kindaware.optimize": "off"}},
        {"parameters": {"kindaware.warmup": "off"}},
        {"sequence_batching": {}, "dynamic_batching": None},
    ],
)
def test_nothing_is_tried_where_it_is_off_or_nothing_is_run(server, changes):
    _, tried = server
    start(Convolution, **IMAGES, **changes)
    assert tried == []


class Without(KindAwareModel):
    """Computes without a module."""

    optimize = "auto"

    def load(self):
        return None

    def forward(self, X):
        return X[:, :2]


class Streaming(Convolution):
    forward = None

    def stream(self, X):
        yield self.model(X)


@pytest.mark.parametrize(
    ("model_class", "changes"),
    [(Without, {}), (Streaming, {"model_transaction_policy": {"decoupled": True}})],
)
def test_nothing_is_tried_of_a_model_without_modules_or_with_streams(server, caplog, model_class, changes):
    _, tried = server
    with caplog.at_level("INFO", logger="kindaware"):
        start(model_class, **IMAGES, **changes)
    assert tried == []
    assert "kindaware: optimize" not in caplog.text
    assert "optimize: " not in caplog.text


def test_nothing_is_tried_on_a_gpu(server):
    _, tried = server
    simulated = SimulatedAccelerator(1)
    with simulated.installed(lambda *_: None), simulated.entered():
        start(Convolution, kind="GPU", **IMAGES)
    assert tried == []


def test_nothing_is_tried_outside_of_a_server(server, monkeypatch):
    _, tried = server
    monkeypatch.setattr("kindaware._instance.is_stub", lambda: False)
    start(Convolution, **IMAGES)
    assert tried == []


def test_interruption_of_a_try_leaves_the_model_as_it_was():
    optimizer = Mock(spec=Optimizer)
    optimizer._try.side_effect = KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        Optimizer._gain(optimizer, {"compile": "default"})
    optimizer._leave.assert_called_once_with()
