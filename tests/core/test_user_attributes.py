"""What a user's class calls its own attributes and methods is the user's, or is refused by name.

For every attribute name that occurs anywhere in the library's source there are two outcomes: the user's own
is left as it is and the answers are right, or the model does not load, and the message is about that name.
"""

import ast
import functools
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from core_kit import Doubler, make_args, written_config
from torch import nn

import kindaware
from kindaware import ConfigError, DevicePlacement, KindAwareModel
from kindaware._config.settings import PLACEMENT_SETTINGS
from kindaware._errors import KindAwareError
from kindaware._hooks.attachment import ATTRIBUTE
from kindaware._hooks.class_rules import PLACEMENT_ATTRIBUTES
from kindaware._hooks.hooks import HOOKS
from kindaware.testing import InferenceError, ModelHarness, ModelLoadError

SOURCE = Path(kindaware.__file__).parent
LIFE_CYCLE = {"initialize", "execute", "finalize"}
CONFIG = written_config(2, max_batch_size=4)
WRITTEN_IN_CONSTANTS = {ATTRIBUTE}
AT_A_TIME = 100


def names_in(tree):
    """Names of attributes that a module reads, sets or defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            for one in node.body:
                targets = getattr(one, "targets", None) or [getattr(one, "target", None)]
                yield from (target.id for target in targets if isinstance(target, ast.Name))


def collect_names():
    """All of the library's, without those that Python gives a meaning to."""
    names = {name for path in SOURCE.rglob("*.py") for name in names_in(ast.parse(path.read_text()))}
    return sorted(name for name in names | WRITTEN_IN_CONSTANTS if not name.startswith("__"))


NAMES = collect_names()
METHODS = sorted(set(NAMES) - LIFE_CYCLE - set(HOOKS) - {"auto_complete_config"})
"""Those that a method may have that neither Triton nor the library calls."""


def own(self, *_, **__):
    """A method of the user's."""
    return 7


class Prepared(Doubler):
    """Doubles what it has incremented, and increments that: 2 (X + 1) + 1."""

    def preprocess(self, inputs):
        return {"X": inputs["X"] + 1}

    def postprocess(self, outputs):
        return {"Y": outputs["Y"] + 1}


class Streams(KindAwareModel):
    """Streams 2 X and 3 X."""

    def load(self):
        """Make nothing."""

    async def stream(self, X):
        for factor in (2, 3):
            yield factor * X


class Sums(Doubler):
    """Adds up what a sequence has sent."""

    def forward(self, X, requests):
        starts = torch.stack([self.sequence_state.get(one.correlation_id, X[0] * 0) for one in requests])
        for n, one in enumerate(requests):
            self.sequence_state[one.correlation_id] = starts[n] + X[n]
        return starts + X


class OnDevice(Doubler):
    """Multiplies by a weight on the instance's device."""

    def load(self):
        return nn.Linear(2, 2, bias=False)

    def forward(self, X):
        return X @ (2 * torch.eye(2, device=self.device))


def infer_twice(model, **options):
    """The same request twice."""
    return [model.infer(X=[[1.0, 2.0]], **options).outputs["Y"].tolist() for _ in range(2)]


def infer_sequence(model):
    """A sequence of two requests."""
    return [
        model.infer(X=[[1.0, 2.0]], correlation_id=5, flags=flags).outputs["Y"].tolist() for flags in (1, 2)
    ]


def infer_stream(model):
    """All responses to a request."""
    return [one.outputs["Y"].tolist() for one in model.stream(X=[[1.0, 2.0]])]


@dataclass(frozen=True)
class Shape:
    """A kind of model.

    Attributes:
        base: its class.
        answers: what `infer` returns if all is right.
        infer: sends it requests.
        config: what its configuration has besides.
        options: of the harness.
    """

    base: type
    answers: list
    infer: object = infer_twice
    config: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)


SHAPES = {
    "fast_path": Shape(Doubler, [[[2.0, 4.0]]] * 2),
    "hooks": Shape(Prepared, [[[5.0, 7.0]]] * 2),
    "async_stream": Shape(
        Streams,
        [[[2.0, 4.0]], [[3.0, 6.0]]],
        infer_stream,
        {"model_transaction_policy": {"decoupled": True}},
    ),
    "sequence": Shape(
        Sums, [[[1.0, 2.0]], [[2.0, 4.0]]], infer_sequence, {"sequence_batching": {"direct": {}}}
    ),
    "simulated_gpu": Shape(OnDevice, [[[2.0, 4.0]]] * 2, options={"kind": "GPU", "accelerator": "simulated"}),
}
FAST_PATH = SHAPES["fast_path"]


@dataclass
class Refused:
    """What a model is whose class or attribute of this name the library refuses."""

    name: str


SUBJECT = re.compile(r"(?:attribute|setting) '(\w+)'|hook (\w+)|class Model (inputs|outputs|max_batch_size)")
"""How a message says which attribute, hook, setting or declaration it is about."""


def names_told(error):
    """The attributes that an error of the library is about."""
    subject = str(error).partition(": expected ")[0]
    return {name for found in SUBJECT.findall(subject) for name in found if name}


def outcome(shape, model_class, names, expected):
    """None if the user's attributes are untouched and the answers right; else what was said instead."""
    try:
        with ModelHarness(model_class, config=CONFIG | shape.config, **shape.options) as model:
            answers = shape.infer(model)
            kept = vars(type(model.instance)) | vars(model.instance)
            found = {name: kept.get(name) for name in names}
    except ModelLoadError as error:
        cause = error.__cause__
        told = names_told(cause) & set(names) if isinstance(cause, ConfigError) else ()
        return Refused(*told) if len(told) == 1 else f"{type(cause).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if answers != shape.answers:
        return f"answers {answers}"
    replaced = {name: one for name, one in found.items() if one is not expected}
    return f"replaced: {replaced}" if replaced else None


def set_in_load(base, names, value):
    """A model whose `load` sets attributes of these names."""

    class Model(base):
        def load(self):
            for name in names:
                setattr(self, name, value)
            return super().load()

    return Model


def defined(base, names, value):
    """A model whose class defines these names."""
    return type("Model", (base,), dict.fromkeys(names, value))


@functools.cache
def refused(make_class):
    """The names that the smallest model refuses: a load tells of one, which the next goes without."""
    names = METHODS if make_class is defined else NAMES
    found = []
    # A load looks at all names up to the one that it refuses, so few at a time are much faster.
    for start in range(0, len(names), AT_A_TIME):
        left = names[start : start + AT_A_TIME]
        while isinstance(
            said := outcome(FAST_PATH, make_class(FAST_PATH.base, left, own), left, own), Refused
        ):
            found.append(said.name)
            left = [name for name in left if name != said.name]
    return frozenset(found)


def wrong_names(shape, names, make_class, value):
    """Which of the names have a third outcome, and what it is: all at once, then by halves."""
    said = outcome(shape, make_class(shape.base, names, value), names, value)
    if said is None or (len(names) == 1 and isinstance(said, Refused)):
        return {}
    if len(names) == 1:
        return {names[0]: said}
    middle = len(names) // 2
    first = wrong_names(shape, names[:middle], make_class, value)
    # A few show what is wrong; each takes a dozen loads.
    return first if len(first) > 3 else first | wrong_names(shape, names[middle:], make_class, value)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("value", [object(), own], ids=["value", "function"])
def test_attribute_of_any_name_set_in_load_is_the_users_or_refused(shape, value):
    names = [name for name in NAMES if name not in refused(set_in_load)]
    assert wrong_names(shape, names, set_in_load, value) == {}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_method_of_any_name_is_the_users_or_refused(shape):
    names = [name for name in METHODS if name not in refused(defined)]
    assert wrong_names(shape, names, defined, own) == {}


@pytest.mark.parametrize("name", HOOKS)
def test_hook_that_returns_what_it_may_not_is_refused_by_name(name):
    try:
        with ModelHarness(defined(Doubler, [name], own), config=CONFIG) as model:
            answers = infer_twice(model)
    except ModelLoadError as error:
        text = str(error.__cause__)
    except InferenceError as error:
        text = str(error)
    else:
        # What unload returns nobody reads, and 7 is a true answer to is_ready.
        assert name in {"unload", "is_ready"}
        assert answers == FAST_PATH.answers
        return
    assert re.search(rf"\b{name}\b.*: expected ", text)


@pytest.mark.parametrize("name", sorted(LIFE_CYCLE))
def test_method_that_triton_calls_is_refused_when_the_class_is_defined(name):
    with pytest.raises(ConfigError, match=f"expected {name} left to KindAwareModel"):
        type("Model", (Doubler,), {name: own})


def test_names_hold_those_that_once_were_replaced_in_silence():
    assert {"_pipeline", "_runtime", "_metrics", "_loop", "_sequences", "_streams", "_reads_info"} <= set(
        NAMES
    )
    assert ATTRIBUTE in NAMES
    assert len(NAMES) > 1500


@pytest.mark.parametrize("name", ["args", "device", "settings", "thread_budget", "_kindaware_instance"])
def test_device_placement_attribute_of_its_own_is_refused(name):
    class Model(DevicePlacement):
        def initialize(self, args):
            super().initialize(args)
            setattr(self, name, 1)

    with pytest.raises(ConfigError, match=f"class Model attribute '{name}': expected self.{name} left"):
        Model().initialize(make_args())


def test_device_placement_leaves_any_other_attribute_alone():
    class Model(DevicePlacement):
        def initialize(self, args):
            super().initialize(args)
            for name in sorted(set(NAMES) - PLACEMENT_ATTRIBUTES):
                setattr(self, name, name)

    model = Model()
    model.initialize(make_args())
    assert model.device == torch.device("cpu")
    assert {name for name in NAMES if vars(model).get(name) != name} <= PLACEMENT_ATTRIBUTES


@pytest.mark.parametrize("name", sorted(PLACEMENT_ATTRIBUTES))
@pytest.mark.parametrize("value", [own, property(own), 7], ids=["method", "property", "value"])
def test_device_placement_class_that_defines_one_of_the_librarys_is_refused(name, value):
    model_class = type("Model", (DevicePlacement,), {name: value})
    with pytest.raises(ConfigError, match=f"class Model attribute '{name}': expected self.{name} left"):
        model_class().initialize(make_args())
    inherited = type("Model", (type("Mixin", (), {name: value}), DevicePlacement), {})
    with pytest.raises(ConfigError, match=f"class Model attribute '{name}': expected self.{name} left"):
        inherited().initialize(make_args())


@pytest.mark.parametrize("name", PLACEMENT_SETTINGS)
def test_device_placement_setting_that_is_a_method_is_refused(name):
    model_class = type("Model", (DevicePlacement,), {name: own})
    with pytest.raises(ConfigError, match=f"setting '{name}': expected "):
        model_class().initialize(make_args())


def test_device_placement_leaves_any_other_method_alone():
    names = set(NAMES) - PLACEMENT_ATTRIBUTES - set(PLACEMENT_SETTINGS) - {"initialize"}
    model = type("Model", (DevicePlacement,), dict.fromkeys(names, own))()
    model.initialize(make_args())
    assert model.device == torch.device("cpu")
    assert all(vars(type(model))[name] is own for name in names)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("num_thread", "num_threads"),
        ("wait_polciy", "wait_policy"),
        ("on_missing_gpus", "on_missing_gpu"),
        ("model_devces", "model_devices"),
    ],
)
def test_device_placement_misspelled_setting_is_refused(name, meant):
    model_class = type("Model", (DevicePlacement,), {name: 2})
    with pytest.raises(ConfigError, match=f"class Model attribute '{name}': expected the name '{meant}'"):
        model_class().initialize(make_args())


@pytest.mark.parametrize("name", ["_num_thread", "num_reads", "model_device", "precison", "threads"])
def test_device_placement_attribute_of_ones_own_in_the_class_is_left_alone(name):
    model = type("Model", (DevicePlacement,), {name: 2})()
    model.initialize(make_args())
    assert getattr(model, name) == 2


@pytest.mark.parametrize("name", ["device", "devices", "args", "settings", "parameters", "placement"])
def test_device_placement_without_initialize_says_so_at_first_use(name):
    class Model(DevicePlacement):
        def initialize(self, args):
            """Forgets super().initialize(args)."""
            self.where = getattr(self, name)

    text = rf"class Model self.{name}: expected super\(\).initialize\(args\) to have been called, got no call"
    with pytest.raises(KindAwareError, match=text):
        Model().initialize(make_args())
    assert not hasattr(Model(), name)


@pytest.mark.parametrize("name", ["spec", "logger", "cuda_stream", "sequence_state"])
def test_model_that_is_not_initialized_says_so(name):
    with pytest.raises(KindAwareError, match=rf"class Doubler .*{name}: expected super\(\).initialize"):
        getattr(Doubler(), name)


def test_module_that_load_returned_takes_no_place_of_the_users():
    class Model(Doubler):
        def load(self):
            self.model = "a name"
            return nn.Identity()

    with pytest.raises(
        ConfigError, match=r"attribute 'model': expected no other self.model than .* got a str"
    ):
        Model().initialize(make_args())
    method = type("Model", (Doubler,), {"load": lambda self: nn.Identity(), "model": own})
    with pytest.raises(ConfigError, match=r"attribute .model.: expected no other self\.model"):
        method().initialize(make_args())


def test_module_that_load_returned_and_kept_as_model_is_one():
    class Model(Doubler):
        def load(self):
            self.model = nn.Identity()
            return self.model

    model = Model()
    model.initialize(make_args())
    assert isinstance(model.model, nn.Identity)
