"""Every setting, from the class and from config.pbtxt."""

import pytest
from core_kit import Doubler, group, make_args, make_config, start

from kindaware import ConfigError, DevicePlacement
from kindaware._config.settings import PLACEMENT_SETTINGS, SETTING_NAMES, Settings

GOOD = [
    ("on_missing_gpu", "cpu", "cpu", "cpu"),
    ("model_devices", "cuda:1,cuda:0", " cuda:1 , cuda:0", "cuda:1,cuda:0"),
    ("model_devices", "all", "all", "all"),
    ("model_devices", "round_robin", "round_robin", "round_robin"),
    ("model_devices", "cpu", "cpu", "cpu"),
    ("num_threads", 1, "1", 1),
    ("num_threads", "auto", "auto", None),
    ("num_threads", "share", "share", "share"),
    ("precision", "bf16-true", "bf16-true", "bf16-true"),
    ("wait_policy", "passive", "passive", "passive"),
    ("keep_memory", "off", "off", "off"),
    ("primitive_cache", 0, "0", 0),
    ("primitive_cache", "auto", "auto", None),
    ("move_modules", False, "false", False),
    ("inference_mode", False, "false", False),
    ("memory_format", "channels_last", "channels_last", "channels_last"),
    ("compile", "reduce-overhead", "reduce-overhead", "reduce-overhead"),
    ("compile_cache", True, "true", True),
    ("compile", "frozen", "frozen", "frozen"),
    ("optimize", "auto", "auto", "auto"),
    ("tolerance", 0.02, "0.02", 0.02),
    ("tolerance", 0, "0", 0.0),
    ("tolerance", 1, "1", 1.0),
    ("cuda_graphs", "off", "off", ()),
    ("cuda_graphs", [], "off", ()),
    ("cuda_graphs", [8, 1, 4, 1], "8, 1,4,1", (1, 4, 8)),
    ("cuda_graphs", 8, "8", (8,)),
    ("output_device", "cpu", "cpu", "cpu"),
    ("output_device", "instance", "instance", "instance"),
    ("pinned_limit_bytes", 0, "0", 0),
    ("overlap_calls", True, "true", True),
    ("warmup", [1, 4], "1, 4", (1, 4)),
    ("warmup", 2, "2", (2,)),
    ("warmup", [], "off", ()),
    ("warmup", "1,8", "1,8", (1, 8)),
    ("cast_outputs", True, "true", True),
    ("allow_response_cache", True, "true", True),
    ("reload_on_fault", True, "true", True),
    ("metrics", False, "false", False),
    ("tracing", True, "true", True),
    ("cancellation", "on", "on", "on"),
    ("isolate_errors", False, "false", False),
    ("max_isolation", 0.25, "0.25", 0.25),
    ("max_isolation", 0, "0", 0.0),
    ("pad", {"A": "0", "B": "x y"}, "A=0, B = x y", {"A": "0", "B": "x y"}),
    ("pad", None, "off", None),
    ("unpad", {"A": "X", "B": None}, "A=X, B = none", {"A": ("X",), "B": (None,)}),
    ("unpad", {"A": ["X", None]}, "A=X none", {"A": ("X", None)}),
    ("max_padding", 0, "0", 0.0),
    ("max_padding", 0.25, "0.25", 0.25),
    ("max_padding", 1, "1", 1.0),
    ("max_padding", "auto", "auto", None),
    ("max_rows_per_forward", 1, "1", 1),
    ("max_rows_per_forward", "auto", "auto", "auto"),
    ("max_rows_per_forward", "off", "off", None),
    ("max_streams", 128, "128", 128),
    ("max_begins_per_step", 1, "1", 1),
    ("items_per_response", 8, "8", 8),
    ("drain_seconds", 0, "0", 0),
    ("max_stream_bytes", 0, "0", 0),
    ("max_stream_bytes", 2**40, "1099511627776", 2**40),
    ("max_sequences", 1, "1", 1),
    ("error_detail", "id", "id", "id"),
    ("error_detail", "full", "full", "full"),
]

BAD = [
    ("on_missing_gpu", ["ignore", "", None, 1], "one of error, cpu"),
    (
        "model_devices",
        [
            "gpu:0",
            "cuda",
            "cuda:",
            "cuda:-1",
            "0",
            "",
            "cuda:0,",
            "cuda:0,cuda:0",
            "cuda:0,cuda:00",
            7,
            ["cuda:0"],
        ],
        "'all', 'round_robin', 'cpu' or devices such as 'cuda:0,cuda:1'",
    ),
    (
        "num_threads",
        [0, -1, "two", "1.5", "", True, 1.0, [], "9" * 19, 2**15],
        "'auto', 'share' or a whole number",
    ),
    ("precision", ["fp16", "32", "", None, 16], "one of 32-true, bf16-mixed, bf16-true, 16-mixed, 16-true"),
    ("optimize", ["on", True, None], "one of off, auto"),
    ("tolerance", [-0.1, 1.1, "nan", "little", "", True, []], "a number from 0 to 1"),
    ("wait_policy", ["active", None], "one of default, passive"),
    ("keep_memory", [True, None, "1"], "one of auto, on, off"),
    ("primitive_cache", [-1, "off", "", True, 1.5], "'auto' or a whole number, 0 or more"),
    ("move_modules", ["no", 0, None], "'true' or 'false'"),
    ("inference_mode", ["off", 0, None], "'true' or 'false'"),
    ("memory_format", ["nhwc", None], "one of contiguous, channels_last"),
    ("compile_cache", ["on", 1, None], "'true' or 'false'"),
    ("compile", ["on", True, None], "one of off, default, reduce-overhead, max-autotune, frozen"),
    ("cuda_graphs", ["0", "1,", "on", True, [0], None, 1.5], "'off' or batch sizes such as '1,8'"),
    ("output_device", ["gpu", "cuda:0", "", None], "one of cpu, instance"),
    ("pinned_limit_bytes", [-1, "1MB", "", True, 2.0, None], "a number of bytes, 0 or more"),
    ("overlap_calls", ["yes", 1, None], "'true' or 'false'"),
    (
        "warmup",
        ["0", "1,", "", "on", True, [0], ["x"], [1.0], {1}, 1.5],
        "'off' or batch sizes such as '1,8'",
    ),
    ("cast_outputs", ["yes", "True", 1, None], "'true' or 'false'"),
    ("allow_response_cache", ["yes", "True", 1, None], "'true' or 'false'"),
    ("reload_on_fault", ["yes", "True", 1, None], "'true' or 'false'"),
    ("metrics", ["off", 1, None], "'true' or 'false'"),
    ("tracing", ["otlp", 1, None], "'true' or 'false'"),
    ("cancellation", ["true", True, "", None], "one of auto, on, off"),
    ("isolate_errors", ["0", 0, None], "'true' or 'false'"),
    ("max_isolation", ["2", -0.1, "auto", True, None], "a share from 0 to 1"),
    ("pad", ["INPUT", "", "A=0,", "A=0,A=1", {}, 0, {1: 2}], "'off' or values by input"),
    ("unpad", ["INPUT", "", "A=", "A=X,", 0, {1: "X"}, {"A": []}, {"A": 0}], "inputs by output"),
    ("max_padding", [-0.1, 1.1, "nan", "off", "", True, [0]], "'auto' or a share from 0 to 1"),
    ("max_rows_per_forward", [0, -1, "all", "", True, 1.5], "'off', 'auto' or a whole number, 1 or more"),
    ("max_streams", [0, -1, "all", "", True, 1.5, None], "a whole number, 1 or more"),
    ("max_begins_per_step", [0, -1, "all", "", True, 1.5, None], "a whole number, 1 or more"),
    ("items_per_response", [0, -1, "all", "", True, 1.5, None], "a whole number, 1 or more"),
    ("drain_seconds", [-1, "long", "", True, 1.5, None], "a number of seconds, 0 or more"),
    ("max_stream_bytes", [-1, "all", "", True, 1.5, None], "a number of bytes, 0 or more"),
    ("max_sequences", [0, -1, "all", "", True, 1.5, None], "a whole number, 1 or more"),
    ("error_detail", ["none", "", True, None], "one of message, full, id"),
]


def test_good_and_bad_values_cover_every_setting():
    assert {name for name, *_ in GOOD} == set(SETTING_NAMES)
    assert {name for name, *_ in BAD} == set(SETTING_NAMES)


@pytest.mark.parametrize(("name", "attribute", "text", "value"), GOOD)
def test_resolve_attribute_or_parameter_counts(name, attribute, text, value):
    assert getattr(Settings.resolve({name: attribute}, {}), name) == value
    assert getattr(Settings.resolve({}, {f"kindaware.{name}": text, "other": "x"}), name) == value


@pytest.mark.parametrize(
    ("name", "attribute", "text", "value"),
    [
        ("on_missing_gpu", "cpu", "error", "error"),
        ("num_threads", 1, "2", 2),
        ("num_threads", 1, "auto", None),
        ("precision", "bf16-true", "32-true", "32-true"),
        ("cast_outputs", True, "false", False),
        ("isolate_errors", False, "true", True),
        ("warmup", [1], "off", ()),
    ],
)
def test_resolve_parameter_wins_over_attribute(name, attribute, text, value):
    assert getattr(Settings.resolve({name: attribute}, {f"kindaware.{name}": text}), name) == value


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [(name, value, expected) for name, values, expected in BAD for value in values],
)
def test_resolve_bad_attribute_raises_with_what_is_allowed(name, value, expected):
    with pytest.raises(ConfigError) as caught:
        Settings.resolve({name: value}, {})
    assert str(caught.value).startswith(f"setting {name!r}: expected {expected}")
    assert f"got {value!r}"[:80] in str(caught.value)
    assert str(caught.value).endswith(f"; correct {name}")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [(name, value, expected) for name, values, expected in BAD for value in values if isinstance(value, str)],
)
def test_resolve_bad_parameter_raises_with_what_is_allowed(name, value, expected):
    with pytest.raises(ConfigError) as caught:
        Settings.resolve({}, {f"kindaware.{name}": value})
    assert str(caught.value).startswith(f"parameter 'kindaware.{name}': expected {expected}")


@pytest.mark.parametrize("key", ["kindaware.precison", "kindaware.", "kindaware.Precision"])
def test_resolve_unknown_key_lists_the_allowed(key):
    with pytest.raises(ConfigError, match=f"^parameter '{key}': expected a setting out of") as caught:
        Settings.resolve({}, {key: "1"})
    for name in SETTING_NAMES:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("kindaware.precison", "precision"),
        ("kindaware.Precision", "precision"),
        ("kindaware_precision", "precision"),
        ("kindaware.thread", "num_threads"),
        ("kindaware.graphs", "cuda_graphs"),
        ("kindaware.max_stream", "max_streams"),
    ],
)
def test_resolve_unknown_key_names_the_nearest_first(key, nearest):
    with pytest.raises(ConfigError) as caught:
        Settings.resolve({}, {key: "1"})
    assert f"expected a setting out of kindaware.{nearest}, " in str(caught.value)
    assert str(caught.value).endswith(f"; correct the key in config.pbtxt: did you mean kindaware.{nearest}?")


@pytest.mark.parametrize("key", ["Kindaware.precision", "kindaware_precision", "kind_aware.precision"])
def test_resolve_misspelt_prefix_raises(key):
    with pytest.raises(ConfigError, match=rf"parameter '{key}': expected a setting out of kindaware."):
        Settings.resolve({}, {key: "bf16-true"})


def test_initialize_takes_settings_from_the_class_and_parameters_over_them():
    class Model(Doubler):
        isolate_errors = False
        warmup = (3,)

    assert start(Model).settings.isolate_errors is False
    assert start(Model).settings.warmup == (3,)
    assert start(Model, parameters={"kindaware.isolate_errors": "true"}).settings.isolate_errors is True


def test_initialize_keeps_the_users_own_parameters():
    assert start(parameters={"weights": "random"}).parameters == {"weights": "random"}


class Placed(DevicePlacement):
    """A model of somebody who keeps their own execute."""


@pytest.mark.parametrize("name", sorted(set(SETTING_NAMES) - set(PLACEMENT_SETTINGS)))
def test_device_placement_refuses_settings_that_it_does_not_have(name):
    with pytest.raises(ConfigError) as caught:
        start(Placed, parameters={f"kindaware.{name}": "off"})
    assert f"parameter 'kindaware.{name}': expected a setting out of kindaware.on_missing_gpu" in str(
        caught.value
    )
    assert ", wait_policy, got" in str(caught.value)


def test_device_placement_takes_settings_that_it_has():
    class Model(Placed):
        model_devices = "cpu"
        num_threads = 2

    model = start(Model, kind="MODEL", parameters={"kindaware.num_threads": "1"})
    assert (model.device.type, model.thread_budget.num_threads) == ("cpu", 1)
    assert model.devices == (model.device,)


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence_batching": {"oldest": {"max_candidate_sequences": 4}, "state": [{"input_name": "H"}]}},
        {"batch_input": [{"kind": "BATCH_ACCUMULATED_ELEMENT_COUNT"}]},
    ],
    ids=["sequence", "batch_input"],
)
def test_device_placement_takes_configurations_that_the_model_refuses(changes):
    assert start(Placed, **changes).device.type == "cpu"
    with pytest.raises(ConfigError, match=r"remove it, (and|or) keep"):
        start(Doubler, **changes)


@pytest.mark.parametrize("changes", [{"instance_group": [group(count=-1)]}, {"instance_group": [3]}])
def test_device_placement_checks_what_it_reads(changes):
    with pytest.raises(ConfigError, match=r"instance_group\[0\]"):
        Placed().initialize(make_args(make_config(**changes)))
