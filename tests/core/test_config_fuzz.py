"""Whatever the args dict holds, `initialize` raises ConfigError in the one form, or succeeds."""

import copy

import pytest
from core_kit import MESSAGE, Doubler, group, make_args, make_config, start, tensor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kindaware import ConfigError, DevicePlacement, KindAwareModel, TensorSpec
from searches import examples

MAX_LENGTH = 2500


class AnyInputs(KindAwareModel):
    """Takes whatever is configured, and is not warmed up."""

    warmup = "off"

    def load(self):
        """Make nothing."""

    def forward(self, *inputs):
        return inputs


class Placed(DevicePlacement):
    """The mixin alone."""


def check(model_class, args):
    """Initialize; the only thing that may be raised is a well-formed ConfigError."""
    return error_of(lambda: model_class().initialize(args))


def error_of(action):
    """Run it; give the text of a ConfigError, None if there was none. Anything else passes through."""
    try:
        action()
    except ConfigError as error:
        text = str(error)
    else:
        return None
    assert MESSAGE.match(text), text
    assert len(text) < MAX_LENGTH
    return text


RICH = make_config(
    input=[tensor("A", [4, -1], optional=False), tensor("B", [2], "TYPE_INT64", reshape={"shape": [2, 1]})],
    output=[tensor("Y", [4]), tensor("Z", [-1], "TYPE_BF16")],
    instance_group=[group("m_0", count=2), group("m_1", "KIND_GPU", gpus=[0])],
    parameters={"weights": {"string_value": "random"}, "kindaware.num_threads": {"string_value": "1"}},
    dynamic_batching={"preferred_batch_size": [4, 8]},
    model_transaction_policy={"decoupled": False},
)

GARBAGE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from([-(2**70), -2, -1, 0, 1, 2**31, 2**41, 1e308, float("nan"), float("inf")]),
        st.sampled_from(
            ["", "TYPE_FP32", "TYPE_STRING", "KIND_TPU", "kindaware.warmup", "\ud800", "x" * 3000]
        ),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "kind", "dims", "shape", "string_value", "x"]), inner, max_size=3
        ),
    ),
    max_leaves=6,
)


def paths_of(value, path=()):
    """List where something stands in nested dicts and lists."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from paths_of(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from paths_of(value[index], (*path, index))


PATHS = [path for path in paths_of(RICH) if path]


@st.composite
def broken_configs(draw):
    """A valid configuration in which up to three places were deleted, replaced or doubled."""
    config = copy.deepcopy(RICH)
    for path in draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=3)):
        owner = config
        try:
            for step in path[:-1]:
                owner = owner[step]
            owner[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took this place away
        if isinstance(owner, str):
            continue  # or put text there, which can be read by index too
        change = draw(st.sampled_from(["delete", "replace", "double"]))
        if change == "delete":
            del owner[path[-1]]
        elif change == "replace":
            owner[path[-1]] = draw(GARBAGE)
        elif isinstance(owner, list):
            owner.append(copy.deepcopy(owner[path[-1]]))
        else:
            owner[path[-1]] = [owner[path[-1]]] * 2
    return config


@st.composite
def broken_args(draw):
    """Triton's dict around such a configuration, itself possibly broken."""
    args = make_args(
        draw(broken_configs()),
        kind=draw(st.sampled_from(["CPU", "CPU", "CPU", "GPU", "MODEL", "KIND_GPU", "TPU", ""])),
        device_id=draw(st.sampled_from(["0", "0", "7", "-1", "one", "", "9" * 5000])),
    )
    key = draw(st.sampled_from(sorted(args)))
    change = draw(st.sampled_from(["leave", "leave", "leave", "delete", "value", "text"]))
    if change == "delete":
        del args[key]
    elif change == "value":
        args[key] = draw(GARBAGE)
    elif change == "text":
        args[key] = draw(
            st.sampled_from(["", "{", "[]", "null", "1", "[" * 100_000, "x" * 5000, args[key][:-9]])
        )
    return args


@settings(max_examples=examples(400), deadline=None, suppress_health_check=list(HealthCheck))
@given(broken_args())
def test_initialize_any_args_raises_nothing_but_config_error(args):
    check(AnyInputs, args)
    check(Placed, args)


@settings(max_examples=examples(200), deadline=None)
@given(st.one_of(GARBAGE, st.dictionaries(st.text(max_size=5), GARBAGE, max_size=3)))
def test_initialize_no_args_dict_at_all_raises_config_error(args):
    assert check(AnyInputs, args) is not None


@settings(max_examples=examples(200), deadline=None)
@given(GARBAGE, GARBAGE, GARBAGE)
def test_tensor_spec_any_arguments_raise_nothing_but_config_error(name, dtype, shape):
    error_of(lambda: TensorSpec(name, dtype, shape))


def test_initialize_the_rich_configuration_itself_works():
    assert check(AnyInputs, make_args(copy.deepcopy(RICH))) is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": 3}, "model_config name: expected text, got 3"),
        ({"max_batch_size": -1}, "model_config max_batch_size: expected a whole number, 0 or more, got -1"),
        ({"max_batch_size": "8"}, "model_config max_batch_size: expected a whole number, 0 or more, got '8'"),
        ({"max_batch_size": True}, "model_config max_batch_size: expected a whole number"),
        ({"max_batch_size": 2**31}, "model_config max_batch_size: expected a whole number"),
        ({"input": {}}, None),
        ({"input": {"X": 1}}, "model_config input: expected a list, got {'X': 1}"),
        ({"input": ["X"]}, r"model_config input[0]: expected an object, got 'X'"),
        ({"input": [tensor("", [4])]}, "tensor: expected a name, got ''"),
        ({"input": [{"data_type": "TYPE_FP32", "dims": [4]}]}, "tensor: expected a name, got None"),
        ({"input": [tensor("X", [4]), tensor("X", [4])]}, "model_config input: expected names that differ"),
        (
            {"output": [tensor("Y", [4])] * 2},
            "model_config output: expected names that differ, got 'Y' twice",
        ),
        (
            {"input": [tensor("X", [4], "FLOAT")]},
            "tensor 'X' data_type: expected a data type out of BOOL, UINT8",
        ),
        ({"input": [tensor("X", [4], 32)]}, "tensor 'X' data_type: expected a data type out of BOOL"),
        ({"input": [tensor("X", [0])]}, "tensor 'X' dims: expected a list of sizes, each -1 or above 0"),
        ({"input": [tensor("X", [-2])]}, "tensor 'X' dims: expected a list of sizes"),
        ({"input": [tensor("X", [True])]}, "tensor 'X' dims: expected a list of sizes"),
        ({"input": [tensor("X", [2**20, 2**21])]}, "at most 2**40 elements in all, got [1048576, 2097152]"),
        ({"input": [{**tensor("X", [4]), "dims": "4"}]}, "tensor 'X' dims: expected a list of sizes"),
        (
            {"instance_group": [group(count=-1)]},
            "instance_group[0] count: expected a whole number, 0 or more",
        ),
        ({"instance_group": [group(kind=3)]}, "instance_group[0] kind: expected text, got 3"),
        ({"instance_group": [{**group(), "gpus": 0.5}]}, "instance_group[0] gpus: expected a list, got 0.5"),
        (
            {"parameters": {"a": "b"}},
            """model_config parameters 'a': expected {"string_value": "..."}, got 'b'""",
        ),
        ({"parameters": ["a"]}, "model_config parameters '': expected"),
        ({"dynamic_batching": 3}, "model_config dynamic_batching: expected an object, got 3"),
        (
            {"dynamic_batching": {"preferred_batch_size": [0]}},
            "preferred_batch_size: expected a whole number",
        ),
        ({"batch_input": [{}]}, "model 'm': expected a configuration that this version of kindaware can"),
        ({"sequence_batching": {}}, None),
        ({"sequence_batching": 3}, "model_config sequence_batching: expected an object, got 3"),
        ({"sequence_batching": {"control_input": 3}}, "sequence_batching control_input: expected a list"),
        (
            {"sequence_batching": {"max_sequence_idle_microseconds": -1}},
            "max_sequence_idle_microseconds: expected a whole number, 0 or more, got -1",
        ),
        (
            {"sequence_batching": {"state": [{"input_name": "H"}]}},
            "expected no state, which the Python backend does not have, got state with input_name ['H']",
        ),
        (
            {"sequence_batching": {}, "model_transaction_policy": {"decoupled": True}},
            "model 'm' sequence_batching: expected a model that answers with forward, got a decoupled model",
        ),
    ],
)
def test_initialize_bad_configuration_names_what_is_wrong(changes, text):
    got = check(AnyInputs, make_args(make_config(**changes)))
    assert (got or "").find(text or "") >= 0
    assert (got is None) == (text is None)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("{", "expected the model configuration as JSON text, got '{' ("),
        ("", "expected the model configuration as JSON text, got '' ("),
        ("[" * 100_000, "expected the model configuration as JSON text"),
        ("[]", "expected a JSON object, got list; pass json.dumps(configuration)"),
        ("null", "expected a JSON object, got NoneType"),
        (None, "args['model_config']: expected text, as every value that Triton passes, got None"),
        (
            {"name": "m"},
            "args['model_config']: expected text, as every value that Triton passes, got {'name'",
        ),
    ],
)
def test_initialize_configuration_no_json_object_raises(config, text):
    got = check(AnyInputs, {**make_args(), "model_config": config})
    assert got is not None
    assert text in got


@pytest.mark.parametrize("key", ["model_config", "model_instance_kind", "model_instance_device_id"])
def test_initialize_key_missing_lists_the_keys_that_there_are(key):
    args = make_args()
    del args[key]
    with pytest.raises(ConfigError, match=f"args: expected the key '{key}', got keys .*'model_name'"):
        Doubler().initialize(args)


def test_initialize_three_keys_are_enough():
    model = Doubler()
    model.initialize(
        {
            key: make_args()[key]
            for key in make_args()
            if key in ("model_config", "model_instance_kind", "model_instance_device_id")
        }
    )
    assert (model.args.instance_name, model.args.model_name, model.args.model_version) == ("m_0_0", "m", "1")
    assert model.args.repository == ""


def test_initialize_reshape_stands_in_for_dims():
    model = start(input=[tensor("X", [4], reshape={"shape": [2, 2]})], parameters={"kindaware.warmup": "off"})
    assert model.spec.inputs[0].shape == (2, 2)
