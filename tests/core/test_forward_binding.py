"""How `forward` gets the configured inputs."""

import pytest
import torch

from kindaware import ConfigError
from kindaware._config.model_spec import ModelSpec, TensorSpec
from kindaware._hooks.binding import Call


def bind(forward, *names, optional=()):
    """Bind and call: input `n` is a tensor that holds its place in the configuration."""
    inputs = tuple(TensorSpec(name, "FP32", [1], optional=name in optional) for name in names)
    call = Call.bind(forward, ModelSpec("m", 8, inputs, ()), "model 'm'")
    values = {name: torch.tensor(place) for place, name in reversed(list(enumerate(names)))}
    return call(forward, {name: value for name, value in values.items() if name not in optional})


def places(*tensors):
    """What a forward was given, as places in the configuration."""
    return [None if one is None else int(one) for one in tensors]


@pytest.mark.parametrize(
    ("forward", "names", "expected"),
    [
        (lambda A, B: [*places(A, B)], "AB", [0, 1]),
        (lambda B, A: [*places(B, A)], "AB", [1, 0]),
        (lambda *, B, A: places(B, A), "AB", [1, 0]),
        (lambda A, B, scale=7: [*places(A, B), scale], "AB", [0, 1, 7]),
        (lambda A, *, B: places(A, B), "AB", [0, 1]),
        (lambda A, *rest: [*places(A), len(rest)], "A", [0, 0]),
        (lambda **inputs: [*places(*map(inputs.get, "AB"))], "AB", [0, 1]),
        (lambda A, **rest: [*places(A), *sorted(rest)], "AB", [0, "B"]),
        (lambda x, y, /: places(x, y), "AB", [0, 1]),
        (lambda x, y: [*places(x, y)], "AB", [0, 1]),
        (lambda *xs: [*places(*xs)], "ABC", [0, 1, 2]),
        (lambda x, *xs: [*places(x, *xs)], "ABC", [0, 1, 2]),
        (lambda x, scale=7: [*places(x), scale], "A", [0, 7]),
        (list, "", []),
        (lambda **inputs: sorted(inputs), "", []),
        (lambda A, /, **rest: [*places(A), *sorted(rest)], "A", None),
    ],
)
def test_bind_good_signature_hands_inputs_over(forward, names, expected):
    if expected is None:
        with pytest.raises(ConfigError, match="a further parameter 'A' without a default"):
            bind(forward, *names)
    else:
        assert bind(forward, *names) == expected


def test_bind_parameters_named_in_other_letters_must_keep_the_order():
    assert bind(lambda ids, mask: [*places(ids, mask)], "IDS", "MASK") == [0, 1]
    with pytest.raises(ConfigError, match=r"in the order of the inputs .* got 'mask' at place 1"):
        bind(lambda mask, ids: 0, "IDS", "MASK")


@pytest.mark.parametrize("names", [("input__0", "a.b"), ("1", "class"), ("images:0", "Größe")])
def test_bind_names_no_identifiers_go_by_position_or_by_mapping(names):
    assert bind(lambda x, y: [*places(x, y)], *names) == [0, 1]
    assert bind(lambda **inputs: places(*[inputs[name] for name in names]), *names) == [0, 1]


@pytest.mark.parametrize(
    ("forward", "names", "text"),
    [
        (
            lambda A, y: 0,
            "AB",
            r"forward\(A, y\): expected a parameter for each input \['A', 'B'\], or for none",
        ),
        (lambda A, y=None: 0, "AB", r"got none for \['B'\]"),
        (
            lambda A, B, extra: 0,
            "AB",
            "got a further parameter 'extra' without a default; remove it, declare",
        ),
        (lambda A, *, extra: 0, "A", "a further parameter 'extra' without a default"),
        (lambda extra, **rest: 0, "AB", "a further parameter 'extra' without a default"),
        (lambda x: 0, "AB", r"a parameter for each of the 2 inputs \['A', 'B'\], got 1 positional"),
        (lambda x, y, z: 0, "AB", "got 3 positional;"),
        (lambda: 0, "A", "got 0 positional;"),
        (lambda x: 0, "", r"each of the 0 inputs \[\], got 1 positional"),
        (lambda x, *, mode: 0, "A", "a parameter for each of the 1 inputs"),
        (lambda x, y, *xs: 0, "A", "got 2 to"),
        (lambda requests, x: 0, "A", r"expected 'requests' behind the parameters for the inputs \['A'\]"),
    ],
)
def test_bind_bad_signature_raises(forward, names, text):
    with pytest.raises(ConfigError, match=text):
        bind(forward, *names)


def test_bind_partial_match_points_at_the_likely_typo():
    with pytest.raises(ConfigError, match=r"\('input_idz' looks like 'input_ids'\)"):
        bind(lambda input_idz, mask: 0, "input_ids", "mask")


@pytest.mark.parametrize("name", ["lengths", "requests"])
def test_bind_reserved_name_that_is_an_input_is_fine(name):
    assert bind(lambda **inputs: sorted(inputs), name) == [name]
    assert bind(eval(f"lambda {name}: [1]"), name) == [1]


def test_bind_optional_input_absent_takes_the_default():
    assert bind(lambda A, B=None: places(A, B), "A", "B", optional="B") == [0, None]
    assert bind(lambda A, **rest: [*places(A), *rest], "A", "B", optional="B") == [0]


@pytest.mark.parametrize(
    ("forward", "text"),
    [
        (lambda A, B: 0, "expected a default for the optional input 'B', got none; write B=None"),
        (lambda x, y=None: 0, r"since \['B'\] may be absent, got parameters by position; name them A, B"),
        (lambda *xs: 0, r"since \['B'\] may be absent"),
    ],
)
def test_bind_optional_input_without_named_default_raises(forward, text):
    with pytest.raises(ConfigError, match=text):
        bind(forward, "A", "B", optional="B")
