"""What happens to the modules that `load()` makes."""

import re
import sys
from types import SimpleNamespace

import pytest
import torch
from core_kit import Doubler, pipeline_of, start, tensor
from torch import nn

from kindaware import ConfigError, KindAwareModel
from kindaware._batch.request import Request
from kindaware._config.settings import Settings
from kindaware._device.modules import prepare_modules, stop_compiling
from kindaware._placement.placement import Placement
from kindaware.testing.accelerator import SimulatedAccelerator

IMAGE = {"input": [tensor("X", [3, 8, 8])], "output": [tensor("Y", [3, 8, 8])]}


def make_class(load, forward=lambda self, X: X, **members):
    """A user's class around the two hooks."""
    return type("Model", (KindAwareModel,), {"load": load, "forward": forward, **members})


class Probe(nn.Module):
    """A convolution that keeps notes of what it was called with."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.notes = {}

    def forward(self, X):
        computed = self.conv(X)
        self.notes = {
            "input": X.dtype,
            "weight": self.conv.weight.dtype,
            "computed": computed.dtype,
            "autocast": torch.is_autocast_enabled("cpu"),
            "inference": torch.is_inference_mode_enabled(),
            "channels_last": X.is_contiguous(memory_format=torch.channels_last) and not X.is_contiguous(),
        }
        return computed


def run_probe(**settings):
    """Start a probe with these settings, and answer one batch of two rows."""
    model = start(
        make_class(lambda self: Probe(), lambda self, X: self.model(X)),
        parameters={f"kindaware.{key}": value for key, value in settings.items()},
        **IMAGE,
    )

    [outputs] = pipeline_of(model).run([Request("r", {"X": torch.randn(2, 3, 8, 8)}, 2)])
    return model.model, outputs["Y"]


@pytest.mark.parametrize(
    ("precision", "dtype", "weights", "autocast"),
    [
        ("32-true", torch.float32, torch.float32, False),
        ("bf16-true", torch.bfloat16, torch.bfloat16, False),
        ("16-true", torch.float16, torch.float16, False),
        ("bf16-mixed", torch.bfloat16, torch.float32, True),
        ("16-mixed", torch.float16, torch.float32, True),
    ],
)
def test_precision_is_what_forward_computes_in(precision, dtype, weights, autocast):
    module, output = run_probe(precision=precision)
    assert module.notes["computed"] is dtype
    assert module.notes["weight"] is module.notes["input"] is weights
    assert module.notes["autocast"] is autocast
    assert module.notes["inference"]
    assert output.dtype is torch.float32


def test_precision_true_leaves_whole_numbers_alone():
    seen = []
    model_class = make_class(lambda self: None, lambda self, X: seen.append(X.dtype) or X)
    ints = {"input": [tensor("X", [4], "TYPE_INT64")], "output": [tensor("Y", [4], "TYPE_INT64")]}
    start(model_class, parameters={"kindaware.precision": "bf16-true"}, **ints)
    assert seen == [torch.int64]


def test_memory_format_channels_last_reaches_weights_and_inputs():
    module, output = run_probe(memory_format="channels_last")
    weight = module.conv.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert module.notes["channels_last"]
    assert output.is_contiguous()


def test_memory_format_default_leaves_both_contiguous():
    module, _ = run_probe()
    assert module.conv.weight.is_contiguous()
    assert not module.notes["channels_last"]


@pytest.mark.timeout(300)  # it compiles: the mutants are given less
@pytest.mark.filterwarnings("ignore")  # torch's own, while it compiles
def test_compile_default_compiles_for_every_batch_size_before_the_instance_is_ready(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()

    class Scale(nn.Linear):  # of its own: torch before 2.5 does not compile torch's own layers alone
        def forward(self, x):
            return super().forward(x) * 2

    model_class = make_class(lambda self: Scale(4, 4), lambda self, X: self.model(X))
    model = start(model_class, parameters={"kindaware.compile": "default"})
    num_graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert num_graphs == 2  # for one row, and for any number
    plain = nn.functional.linear(torch.ones(1, 4), model.model.weight, model.model.bias) * 2
    for rows in ([1], [3], [1, 1], [2, 5], [8]):  # one request or several, of any size
        requests = [Request("r", {"X": torch.ones(n, 4)}, n) for n in rows]
        for n, answer in zip(rows, pipeline_of(model).run(requests), strict=True):
            torch.testing.assert_close(answer["Y"], plain.detach().expand(n, 4))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == num_graphs


@pytest.fixture
def inductor(monkeypatch, tmp_path):
    """What torch compiles with, from scratch, in a cache of its own, and as it was before."""
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    # And not by monkeypatch, which deletes what a module computes: torch then hides the option for good.
    config.freezing = False
    yield config
    config.freezing = False
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")  # torch's own, while it compiles
@pytest.mark.parametrize(("mode", "sees_change"), [("frozen", False), ("default", True)])
def test_compile_frozen_makes_constants_of_the_weights(inductor, mode, sees_change):
    class Scale(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    model_class = make_class(lambda self: Scale(4, 4), lambda self, X: self.model(X))
    model = start(model_class, parameters={"kindaware.compile": mode})
    request = Request("r", {"X": torch.ones(3, 4)}, 3)
    before = model.model.weight.sum(1) * 2 + model.model.bias * 2
    [answer] = pipeline_of(model).run([request])
    torch.testing.assert_close(answer["Y"], before.detach().expand(3, 4))
    with torch.no_grad():
        model.model.weight.zero_()
    [answer] = pipeline_of(model).run([request])
    after = model.model.bias * 2 if sees_change else before
    torch.testing.assert_close(answer["Y"], after.detach().expand(3, 4))


def test_compile_frozen_reaches_torch_without_a_mode(inductor, monkeypatch):
    modes = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: modes.append(options))
    start(make_class(lambda self: nn.Identity()), parameters={"kindaware.compile": "frozen"})
    assert (modes, inductor.freezing) == ([{"mode": None}], True)


def test_stop_compiling_has_torch_forget_its_code_and_that_weights_were_frozen(monkeypatch):
    forgotten = []
    dynamo, inductor = SimpleNamespace(reset=lambda: forgotten.append("code")), SimpleNamespace(freezing=True)
    monkeypatch.setitem(sys.modules, "torch._dynamo", dynamo)
    monkeypatch.setitem(sys.modules, "torch._inductor.config", inductor)
    stop_compiling()
    assert (forgotten, inductor.freezing) == (["code"], False)


def test_compile_mode_reaches_torch(monkeypatch):
    modes = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: modes.append(options))
    model_class = make_class(lambda self: nn.Identity())
    start(model_class)
    assert modes == []
    start(model_class, parameters={"kindaware.compile": "reduce-overhead"})
    assert modes == [{"mode": "reduce-overhead"}]


def test_load_returned_module_is_kept_as_model_in_eval_mode():
    model = start(make_class(lambda self: nn.Dropout()))
    assert isinstance(model.model, nn.Dropout)
    assert not model.model.training


def test_load_modules_left_on_self_and_in_containers_are_prepared():
    def load(self):
        self.net = nn.Linear(4, 4)
        self.heads = [nn.Linear(4, 4), "no module"]
        self.pair = (nn.Linear(4, 4),)
        self.named = {"a": nn.Linear(4, 4), "b": 3}
        self.twice = self.net

    model = start(make_class(load), parameters={"kindaware.precision": "bf16-true"})
    modules = [model.net, model.heads[0], model.pair[0], model.named["a"]]
    assert not any(module.training for module in modules)
    assert {module.weight.dtype for module in modules} == {torch.bfloat16}
    assert not hasattr(model, "model")


@pytest.mark.parametrize("rubbish", [3, "resnet50", nn.Linear, [nn.Identity()], {"state": 1}])
def test_load_returning_no_module_raises(rubbish):
    with pytest.raises(ConfigError) as caught:
        start(make_class(lambda self: rubbish))
    got = type(rubbish).__name__
    assert str(caught.value).startswith(
        f"model 'm' load(): expected a torch.nn.Module or None, got {got}; return"
    )


def test_load_what_it_raises_reaches_triton_unchanged():
    def load(self):
        raise FileNotFoundError("weights.pt")

    with pytest.raises(FileNotFoundError, match=r"weights\.pt"):
        start(make_class(load))


def test_load_parameter_that_stays_elsewhere_raises():
    class Pinned(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(2, device="meta"))

        def _apply(self, *_, **__):
            return self

    def load(self):
        self.net = Pinned()

    with pytest.raises(
        ConfigError, match=r"module 'net' tensor 'weight': expected device cpu after load\(\), got meta"
    ):
        start(make_class(load))


def test_load_several_devices_nothing_is_moved():
    owner = type("Owner", (), {})()
    owner.net = nn.Linear(2, 2, device="meta")
    devices = (torch.device("cuda", 0), torch.device("cuda", 1))
    prepare_modules(owner, Placement("MODEL", devices, moves_modules=False, reason=""), Settings())
    assert owner.net.weight.device.type == "meta"
    assert not owner.net.training


def test_initialize_gives_hooks_what_they_need(caplog):
    seen = {}

    def load(self):
        seen.update(device=self.device, devices=self.devices, stream=self.cuda_stream, name=self.spec.name)
        seen.update(weights=self.parameters["weights"], args=self.args, settings=self.settings)
        self.logger.info("from load")

    with caplog.at_level("INFO", logger="kindaware"):
        model = start(make_class(load), parameters={"weights": "w.pt"})
    assert (seen["device"], seen["stream"], seen["name"]) == (torch.device("cpu"), None, "m")
    assert (seen["devices"], seen["weights"]) == ((torch.device("cpu"),), "w.pt")
    assert (seen["args"], seen["settings"]) == (model.args, model.settings)
    assert "from load" in caplog.text


def test_initialize_logs_one_line_when_ready(caplog):
    with caplog.at_level("INFO", logger="kindaware"):
        start(Doubler, parameters={"kindaware.num_threads": "2"})
    [record] = caplog.records
    text = record.getMessage()
    assert "kindaware instance m_0_0 ready: kind CPU, device cpu, threads 2 (setting num_threads)" in text
    assert "precision 32-true, load 0." in text
    assert "warm-up 0." in text
    assert text.endswith(" s (batch sizes 1)")


def test_initialize_instance_that_fell_back_says_why_in_that_line(caplog):
    with caplog.at_level("INFO", logger="kindaware"):
        start(Doubler, kind="GPU", device_id=999, parameters={"kindaware.on_missing_gpu": "cpu"})
    text = "kind GPU, device cpu, on_missing_gpu=cpu: KIND_GPU 999 asked for cuda:999, "
    assert text in caplog.records[-1].getMessage()


class Verbs(nn.Module):
    """A product's class, whose verbs are no modes."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
        self.weight = nn.Parameter(torch.ones(2))

    def train(self, *_, **__):
        self.weight.data.zero_()
        return self

    def eval(self):
        raise RuntimeError("give a data set")


class Foreign(nn.Linear):
    """A product's class, whose methods are not what torch's of these names are."""

    def __init__(self):
        super().__init__(4, 4)
        self.register_buffer("scale", torch.ones(4))

    def modules(self):
        return ["encoder", "decoder"]

    def named_modules(self, kind, *_, **__):
        raise RuntimeError(f"no {kind}")

    parameters = named_parameters = buffers = named_buffers = compile = named_modules


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: nn.Sequential(nn.Identity(), one)])
@pytest.mark.parametrize("move_modules", ["true", "false"])
@pytest.mark.parametrize(("kind", "devices"), [("CPU", None), ("GPU", None), ("MODEL", "all")])
def test_load_methods_of_the_modules_own_named_like_torchs_are_not_called(wrap, move_modules, kind, devices):
    own = Foreign()
    parameters = {"kindaware.move_modules": move_modules}
    if devices:
        parameters["kindaware.model_devices"] = devices
    simulated = SimulatedAccelerator(1)
    with simulated.installed(lambda *_: None), simulated.entered():
        if move_modules == "false" and kind != "CPU":
            own.to("cuda:0")
        start(make_class(lambda self: wrap(own), warmup=()), kind=kind, parameters=parameters)
        assert not own.training
        assert {own.weight.device.type, own.scale.device.type} == {
            "cpu" if kind == "CPU" or (devices and move_modules == "true") else "cuda"
        }


def test_load_module_with_a_compile_of_its_own_is_compiled_by_torch():
    own = Foreign()
    start(
        make_class(lambda self: own), parameters={"kindaware.compile": "default", "kindaware.warmup": "off"}
    )
    assert own._compiled_call_impl is not None


def test_load_foreign_module_that_stays_elsewhere_is_named():
    own = Foreign()
    own._apply = lambda *_, **__: own  # keeps its tensors
    simulated = SimulatedAccelerator(1)
    with (
        simulated.installed(lambda *_: None),
        simulated.entered(),
        pytest.raises(ConfigError, match=r"module 'model' tensor '1\.weight': expected device cuda:0"),
    ):
        start(make_class(lambda self: nn.Sequential(nn.Identity(), own)), kind="GPU")


class Refusing(nn.Conv2d):
    """Refuses to be converted, as modules of bitsandbytes do."""

    def __init__(self):
        super().__init__(3, 3, 1)

    def to(self, *_, **__):
        raise ValueError("`.to` is not supported for `4-bit` modules")


@pytest.mark.parametrize("move_modules", ["true", "false"])
@pytest.mark.parametrize("kind", ["CPU", "GPU"])
@pytest.mark.parametrize(
    ("setting", "value"),
    [("precision", "bf16-true"), ("precision", "16-true"), ("memory_format", "channels_last")],
)
def test_load_module_that_refuses_a_conversion_is_named_with_the_setting(setting, value, kind, move_modules):
    parameters = {f"kindaware.{setting}": value, "kindaware.move_modules": move_modules}
    text = (
        f"module 'model' setting '{setting}': expected a module that can be converted to {value}, "
        f"got ValueError: `.to` is not supported for `4-bit` modules; leave {setting} out"
    )
    simulated = SimulatedAccelerator(1)
    with simulated.installed(lambda *_: None), simulated.entered():
        with torch.device("cpu" if kind == "CPU" else "cuda:0"):
            own = Refusing()
        with pytest.raises(ConfigError, match=re.escape(text)):
            start(make_class(lambda self: own), kind=kind, parameters=parameters, **IMAGE)


@pytest.mark.parametrize("kind", ["CPU", "MODEL"])
@pytest.mark.parametrize(
    "wrap",
    [lambda one: one, lambda one: nn.Sequential(nn.Identity(), one), lambda one: nn.ModuleDict({"a": one})],
)
def test_load_eval_mode_calls_no_verb_of_the_modules_own(kind, wrap):
    own = Verbs()
    model = start(
        make_class(lambda self: wrap(own)), kind=kind, parameters={"kindaware.model_devices": "cpu"}
    )
    assert own.weight.tolist() == [1, 1]
    assert not any(module.training for module in model.model.modules())


@pytest.mark.filterwarnings("ignore")  # torch's own, that scripts are deprecated
def test_load_scripted_modules_are_in_eval_mode_too():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Dropout()))
    model = start(make_class(lambda self: scripted, lambda self, X: self.model(X)))
    rows = torch.ones(2, 4)
    [outcome] = pipeline_of(model).run([Request("r", {"X": rows}, 2)])
    torch.testing.assert_close(outcome["Y"], scripted[0](rows).detach())
