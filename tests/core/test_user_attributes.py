"""What a user's class calls its own attributes and methods is the user's, or is refused by name.

For every attribute name that occurs anywhere in the library's source there are two outcomes: the user's own
is left as it is and the answers are right, or the model does not load, and the message has the name in it.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from core_kit import Doubler, make_args, written_config
from torch import nn

import kindaware
from kindaware import ConfigError, DevicePlacement
from kindaware._errors import KindAwareError
from kindaware._hooks.class_rules import PLACEMENT_ATTRIBUTES
from kindaware.testing import ModelHarness

SOURCE = Path(kindaware.__file__).parent
LIFE_CYCLE = {"initialize", "execute", "finalize"}
CONFIG = written_config(2, max_batch_size=4)


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
    return sorted(name for name in names if not name.startswith("__"))


NAMES = collect_names()


@dataclass
class Refused:
    """What a model is whose class or attribute of this name the library refuses."""

    name: str


def own(self, *_, **__):
    """A method of the user's."""
    return 7


def outcome(model_class, names, expected):
    """None if the user's attributes are untouched and the answers right; else what was said instead.

    A refusal that names one is that name and no text.
    """
    try:
        with ModelHarness(model_class, config=CONFIG) as model:
            answers = [model.infer(X=[[1.0, 2.0]]).outputs["Y"].tolist() for _ in range(2)]
            kept = vars(type(model.instance)) | vars(model.instance)
            found = {name: kept.get(name) for name in names}
    except Exception as error:
        # Among many, only one that the message is about; a hook of that name may be told in other words.
        text = str(error).partition(": expected ")[0] if len(names) > 1 else str(error)
        quoted = repr if len(names) > 1 else str
        named = [name for name in names if quoted(name) in text and isinstance(error, KindAwareError)]
        return Refused(*named) if len(named) == 1 else f"{type(error).__name__}: {error}"
    if answers != [[[2.0, 4.0]]] * 2:
        return f"answers {answers}"
    replaced = {name: one for name, one in found.items() if one is not expected}
    return f"replaced: {replaced}" if replaced else None


def wrong_names(names, make_class, expected):
    """Which of the names have a third outcome: all at once, without those refused, then by halves."""
    said = outcome(make_class(names), names, expected)
    while isinstance(said, Refused):
        names = [name for name in names if name != said.name]
        said = outcome(make_class(names), names, expected)
    if said is None:
        return {}
    if len(names) == 1:
        return {names[0]: said}
    middle = len(names) // 2
    return {
        **wrong_names(names[:middle], make_class, expected),
        **wrong_names(names[middle:], make_class, expected),
    }


@pytest.mark.parametrize("value", [object(), own], ids=["value", "function"])
def test_attribute_of_any_name_set_in_load_is_the_users_or_refused(value):
    def make_class(names):
        class Model(Doubler):
            def load(self):
                for name in names:
                    setattr(self, name, value)

        return Model

    assert wrong_names(NAMES, make_class, value) == {}


def test_method_of_any_name_is_the_users_or_refused():
    def make_class(names):
        return type("Model", (Doubler,), dict.fromkeys(names, own))

    names = sorted(set(NAMES) - LIFE_CYCLE)
    assert wrong_names(names, make_class, own) == {}


@pytest.mark.parametrize("name", sorted(LIFE_CYCLE))
def test_method_that_triton_calls_is_refused_when_the_class_is_defined(name):
    with pytest.raises(ConfigError, match=f"expected {name} left to KindAwareModel"):
        type("Model", (Doubler,), {name: own})


def test_names_hold_those_that_once_were_replaced_in_silence():
    assert {"_pipeline", "_runtime", "_metrics", "_loop", "_sequences", "_streams", "_reads_info"} <= set(
        NAMES
    )
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
