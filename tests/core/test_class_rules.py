"""What a class must and must not define, told when it loads."""

import pytest
import torch
from core_kit import Doubler, start
from torch import nn

from kindaware import ConfigError, KindAwareModel
from kindaware._hooks.hooks import HOOKS


def make_class(base=Doubler, /, **members):
    """A user's class with these members."""
    return type("TritonPythonModel", (base,), members)


class NoHooks(KindAwareModel):
    """Nothing at all."""


class OnlyForward(KindAwareModel):
    def forward(self, X):
        return X


class OnlyLoad(KindAwareModel):
    def load(self):
        return nn.Identity()


@pytest.mark.parametrize(
    ("model_class", "text"),
    [
        (NoHooks, r"class NoHooks: expected a method load, got methods \[\]; define load\(self\)"),
        (OnlyForward, r"class OnlyForward: expected a method load, got methods \['forward'\]"),
        (OnlyLoad, r"expected a method forward, got methods \['load'\]; define forward\(self, ...\)"),
        (make_class(forward="model.pt"), "expected a method forward"),
        (make_class(load=None), "expected a method load"),
    ],
)
def test_initialize_missing_hook_raises_with_remedy(model_class, text):
    with pytest.raises(ConfigError, match=text):
        start(model_class)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("foward", "forward"),
        ("forwards", "forward"),
        ("Forward", "forward"),
        ("post_process", "postprocess"),
        ("pre_process", "preprocess"),
        ("preproces", "preprocess"),
        ("warmup_input", "warmup_inputs"),
        ("warm_up_inputs", "warmup_inputs"),
        ("colate", "collate"),
        ("unlaod", "unload"),
        ("isready", "is_ready"),
        ("fowrard", "forward"),
        ("laod", "load"),
        ("strem", "stream"),
        ("is_raedy", "is_ready"),
        ("pre_proces", "preprocess"),
        ("warmupinput", "warmup_inputs"),
    ],
)
def test_initialize_misspelt_hook_raises_with_the_right_name(name, meant):
    with pytest.raises(ConfigError) as caught:
        start(make_class(**{name: lambda self, X: X}))
    assert f"class TritonPythonModel attribute {name!r}: expected the name {meant!r}" in str(caught.value)
    assert "begin it with an underscore if it is a helper" in str(caught.value)


def test_initialize_misspelt_only_hook_is_named_rather_than_missed():
    model_class = type("TritonPythonModel", (OnlyLoad,), {"foward": lambda self, X: X})
    with pytest.raises(ConfigError, match="attribute 'foward': expected the name 'forward'"):
        start(model_class)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("precison", "precision"),
        ("warm_up", "warmup"),
        ("on_missing_gpus", "on_missing_gpu"),
        ("max_batchsize", "max_batch_size"),
        ("ouputs", "outputs"),
        ("isolate_error", "isolate_errors"),
        ("num_thread", "num_threads"),
        ("max_seqences", "max_sequences"),
        ("mxa_batch_size", "max_batch_size"),
        ("modle_devices", "model_devices"),
        ("infernce_mode", "inference_mode"),
        ("Pad", "pad"),
    ],
)
def test_initialize_misspelt_setting_raises_with_the_right_name(name, meant):
    with pytest.raises(ConfigError, match=f"attribute '{name}': expected the name '{meant}'"):
        start(make_class(**{name: "x"}))


HELPERS = """download reload preload upload encode decode preprocess_image postprocess_boxes forward_features
load_weights read process tokenize collate_images ready streaming_load process_output run predict
preprocessor postprocessor preprocess_one compiled upstream stem collapse collator warm_up setup handle
reprocess collage onload preprocess2 steam scream lead road loan aload is_read my_preprocess forward_"""


@pytest.mark.parametrize("name", HELPERS.split())
def test_initialize_helper_of_ones_own_is_left_alone(name):
    assert start(make_class(**{name: lambda self: None})).device.type == "cpu"


@pytest.mark.parametrize(
    "name",
    [
        "labels",
        "weights",
        "threshold",
        "input_size",
        "output_names",
        "batch_size",
        "input",
        "output",
        "compiled",
        "metric",
        "num_heads",
        "retries",
        "markup",
        "compute",
        "compare",
        "combine",
        "input1",
        "n_inputs",
        "padding",
        "dtype",
        "min_batch_size",
        "min_streams",
        "min_sequences",
        "max_sentences",
        "max_patch_size",
        "inference_model",
        "cuda_graph",
        "model_device",
        "on_missing_cpu",
        "num_reads",
        "last_outputs",
        "outputs2",
        "inputs1",
    ],
)
def test_initialize_attribute_of_ones_own_is_left_alone(name):
    assert getattr(start(make_class(**{name: 3})), name) == 3


@pytest.mark.parametrize(
    ("name", "value", "hook"),
    [
        ("decode_request", lambda self, request: request, "preprocess"),
        ("warm_up", lambda self: None, "warmup_inputs"),
        ("collator", lambda self, rows: rows, "collate"),
        ("streaming", lambda self: None, "stream"),
        ("padding", 0, "pad"),
        ("dtype", torch.float16, "precision"),
        ("batch_size", 8, "max_batch_size"),
    ],
)
def test_initialize_name_of_another_framework_is_logged_with_its_counterpart(name, value, hook, caplog):
    start(make_class(**{name: value}))
    [text] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"attribute {name!r}: expected {hook}, which is what kindaware looks for" in text


@pytest.mark.parametrize(
    ("name", "value", "counterpart"),
    [
        ("predict", lambda self, X: X, {}),
        ("handle", lambda self, data: data, {}),
        ("setup", lambda self: None, {}),
        ("collator", lambda self, rows: rows, {"collate": lambda self, name, rows: torch.cat(rows)}),
        ("dtype", torch.float16, {"precision": "32-true"}),
        ("batch_size", 8, {"max_batch_size": 8}),
    ],
)
def test_initialize_name_of_another_framework_beside_its_counterpart_is_a_helper(
    name, value, counterpart, caplog
):
    start(make_class(**{name: value}, **counterpart))
    assert [one.getMessage() for one in caplog.records if one.levelname == "WARNING"] == []


def test_initialize_underscore_makes_a_close_name_ones_own():
    assert start(make_class(_foward=lambda self: None)).device.type == "cpu"


def test_initialize_hooks_from_intermediate_classes_work():
    class Middle(Doubler):
        def preprocess(self, inputs):
            return inputs

    class Leaf(Middle):
        """Defines nothing itself."""

    assert torch.equal(start(Leaf).forward(torch.ones(4)), torch.full((4,), 2.0))


def test_initialize_hooks_from_a_mixin_work():
    class Loads:
        def load(self):
            return nn.Identity()

    assert isinstance(start(make_class(type("Base", (Loads, OnlyForward), {}))).model, nn.Identity)


def test_initialize_misspelling_in_an_intermediate_class_raises():
    with pytest.raises(ConfigError, match="attribute 'foward'"):
        start(make_class(make_class(foward=lambda self: None)))


@pytest.mark.parametrize(
    ("name", "hook"), [("initialize", "load"), ("execute", "forward"), ("finalize", "unload")]
)
def test_class_with_its_own_life_cycle_raises_with_remedy(name, hook):
    text = rf"expected {name} left to KindAwareModel, got its own {name}; implement {hook} instead"
    with pytest.raises(ConfigError, match=text):
        make_class(**{name: lambda self, *_: None})


@pytest.mark.parametrize(
    ("name", "hook", "got"),
    [
        ("load", lambda self, args: None, "missing a required argument: 'args'"),
        ("preprocess", lambda self: {}, "too many positional arguments"),
        ("collate", lambda self, tensors: None, "too many positional arguments"),
        ("postprocess", lambda self, a, b: {}, "missing a required argument: 'b'"),
        ("warmup_inputs", lambda self: {}, "too many positional arguments"),
        ("unload", lambda self, why: None, "missing a required argument: 'why'"),
    ],
)
def test_initialize_hook_that_takes_other_arguments_raises(name, hook, got):
    with pytest.raises(ConfigError, match=rf"hook {name}\(.*\): expected to be called with \d .* got {got}"):
        start(make_class(**{name: hook}))


@pytest.mark.parametrize("name", ["load", "forward", "preprocess", "postprocess", "warmup_inputs", "unload"])
def test_initialize_hook_without_self_is_refused(name):
    with pytest.raises(
        ConfigError, match=rf"hook {name}\(\): expected self as its first parameter, got none"
    ):
        start(make_class(**{name: lambda: None}))


def test_initialize_hook_without_a_signature_is_refused():
    with pytest.raises(ConfigError, match="hook forward: expected a function whose parameters can be read"):
        start(make_class(forward=max))


def test_initialize_without_inputs_and_outputs_says_that_the_configuration_is_missing():
    with pytest.raises(ConfigError, match="model 'm' configuration: expected inputs and outputs, got none"):
        start(Doubler, input=[], output=[])


class Taker(OnlyForward):
    def load(self):
        pass


class Maker(OnlyLoad):
    def forward(self):
        return torch.ones(1)


@pytest.mark.parametrize(("model_class", "left_out"), [(Taker, "output"), (Maker, "input")])
def test_initialize_inputs_alone_or_outputs_alone_are_enough(model_class, left_out):
    model = start(model_class, parameters={"kindaware.warmup": "off"}, **{left_out: []})
    assert [len(model.spec.inputs), len(model.spec.outputs)].count(0) == 1


@pytest.mark.parametrize("name", ["device", "devices", "args", "settings", "spec", "parameters", "logger"])
def test_initialize_load_that_overwrites_what_the_library_set_raises(name):
    def load(self):
        setattr(self, name, "cuda:1")

    with pytest.raises(
        ConfigError, match=rf"attribute '{name}': expected self.{name} left as kindaware set it"
    ):
        start(make_class(load=load))
    with pytest.raises(
        ConfigError, match=rf"attribute '{name}': expected self.{name} left as kindaware set it"
    ):
        start(make_class(**{name: "cuda:1"}))


def test_initialize_declaration_that_is_no_tensor_spec_raises():
    with pytest.raises(
        ConfigError, match=r"inputs: expected a list of kindaware.TensorSpec, got \[\{'name': 'X'\}\]"
    ):
        start(make_class(inputs=[{"name": "X"}]))


@pytest.mark.parametrize(
    "name", ["load", "forward", "preprocess", "collate", "postprocess", "warmup_inputs", "unload", "is_ready"]
)
def test_initialize_async_hook_raises(name):
    async def hook(self, *_):
        """Not awaited by anybody."""

    async def generator(self, *_):
        yield 1

    coroutines = () if HOOKS[name].may_be_async else (hook, staticmethod(hook))
    for function in (generator, *coroutines):
        with pytest.raises(ConfigError, match=f"hook {name}: expected a plain method, got async def"):
            start(make_class(**{name: function}))


@pytest.mark.parametrize(
    "name", ["preprocess", "collate", "postprocess", "warmup_inputs", "unload", "is_ready"]
)
def test_initialize_hook_no_method_raises(name):
    with pytest.raises(ConfigError, match=f"hook {name}: expected a plain method, got int"):
        start(make_class(**{name: 3}))


@pytest.mark.parametrize("name", ["preprocess", "collate", "postprocess", "warmup_inputs"])
def test_initialize_hook_none_is_a_hook_left_out(name):
    assert start(make_class(**{name: None})).device.type == "cpu"


@pytest.mark.parametrize("wrap", [staticmethod, classmethod])
def test_initialize_static_and_class_methods_are_methods(wrap):
    hooks = {
        staticmethod: {"load": lambda: None, "forward": lambda X: X},
        classmethod: {"load": lambda cls: None, "forward": lambda cls, X: X},
    }[wrap]
    model = start(type("Model", (KindAwareModel,), {name: wrap(hook) for name, hook in hooks.items()}))
    assert torch.equal(model.forward(torch.ones(4)), torch.ones(4))


def test_finalize_calls_unload_once():
    calls = []
    model = start(make_class(unload=lambda self: calls.append("unload")))
    assert calls == []
    model.finalize()
    assert calls == ["unload"]
    assert start().finalize() is None


def test_execute_without_a_server_raises_with_remedy():
    from kindaware import KindAwareError

    with pytest.raises(KindAwareError, match="execute: expected to be called by Triton's Python backend"):
        start().execute([])
