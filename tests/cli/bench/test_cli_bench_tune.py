"""The search for the fastest settings, with a function in place of a server."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kindaware._errors import ConfigError
from kindaware._server.config_edit import read_setting
from kindaware.cli.bench._level import Latencies, Level
from kindaware.cli.bench._load import Load
from kindaware.cli.bench._ratios import A, B, Comparison
from kindaware.cli.bench.tune._accuracy import Accuracy, compare_outputs
from kindaware.cli.bench.tune._axes import Axis, Machine, make_axes, makes_sense, parse_axes, with_given
from kindaware.cli.bench.tune._report import Outcome, apply_diff, write_json, write_outcome
from kindaware.cli.bench.tune._search import Trial, search

CONFIG = """\
name: "net"  # of the shop
instance_group [ { kind: KIND_CPU count: 1 } ]
parameters { key: "kindaware.num_threads" value { string_value: "2" } }
"""
THREADS, COUNT, DELAY = (
    "kindaware.num_threads",
    "instance_group.count",
    "dynamic_batching.max_queue_delay_microseconds",
)


def run_search(axes, rates, *, current=None, has_time=lambda: True, makes_sense=lambda settings: True):
    """Search where `rates` says how fast settings are; return the best settings and all that were tried."""
    trials = []
    best = search(
        [Axis(key, tuple(values)) for key, values in axes.items()],
        lambda settings: Trial(settings, requests_per_second=rates(settings), concurrency=8),
        current=current or {},
        makes_sense=makes_sense,
        has_time=has_time,
        trials=trials,
    )
    return best.settings, [dict(one.settings) for one in trials]


def test_search_keeps_the_best_value_of_each_setting_and_tries_none_twice():
    def rates(settings):
        return 100 + 50 * (settings.get("a") == "2") + 30 * (settings.get("b") == "y")

    best, tried = run_search({"a": "123", "b": "xy"}, rates, current={"a": "1", "b": "x"})
    assert best == {"a": "2", "b": "y"}
    assert tried == [
        {},
        {"a": "2"},
        {"a": "3"},
        {"a": "2", "b": "y"},
        {"a": "1", "b": "y"},
        {"a": "3", "b": "y"},
    ]


def test_search_finds_what_is_only_better_after_another_change():
    def rates(settings):
        return {("1", "x"): 10, ("1", "y"): 20, ("2", "x"): 5, ("2", "y"): 40}[settings["a"], settings["b"]]

    current = {"a": "1", "b": "x"}
    assert run_search({"a": "12", "b": "xy"}, lambda one: rates({**current, **one}), current=current)[0] == {
        "a": "2",
        "b": "y",
    }


def test_search_takes_a_small_gain_for_noise():
    assert run_search({"a": "12"}, lambda one: 102 if one else 100, current={"a": "1"})[0] == {}


def test_search_ends_when_the_time_is_over():
    left = iter([True, True, False])
    _, tried = run_search({"a": "12345"}, lambda one: 1, current={"a": "1"}, has_time=lambda: next(left))
    assert tried == [{}, {"a": "2"}, {"a": "3"}]


def test_search_leaves_out_defaults_and_what_makes_no_sense():
    _, tried = run_search(
        {THREADS: ("auto", "1", "9")}, lambda one: 1, makes_sense=lambda settings: settings[THREADS] != "9"
    )
    assert tried == [{}, {THREADS: "1"}]


@pytest.mark.parametrize(
    ("better", "other"),
    [
        (Trial(requests_per_second=104), Trial(requests_per_second=100)),
        (Trial(requests_per_second=1), Trial(requests_per_second=9, problem="inexact")),
        (Trial(requests_per_second=1), Trial(requests_per_second=9, is_within_limit=False)),
        (Trial(p95_ms=5, is_within_limit=False), Trial(p95_ms=9, is_within_limit=False)),
    ],
)
def test_trial_beats(better, other):
    assert better.beats(other)
    assert not other.beats(better)


MACHINE = Machine(num_cores=6, has_bf16=True, has_compiler=True)
PICTURE = {"dims": ["3", "224", "224"], "data_type": "TYPE_FP32"}


def axes_of(config, machine=MACHINE, is_kindaware=True):
    return {axis.key: axis.values for axis in make_axes(config, machine, is_kindaware=is_kindaware)}


def test_axes_of_a_picture_model_on_the_cpu():
    config = {"input": [PICTURE], "max_batch_size": "8", "instance_group": [{"kind": "KIND_CPU"}]}
    assert axes_of(config) == {
        "kindaware.precision": ("32-true", "bf16-mixed", "bf16-true"),
        "kindaware.memory_format": ("contiguous", "channels_last"),
        COUNT: ("1", "2", "4", "6"),
        THREADS: ("auto", "1", "2", "4", "6"),
        "kindaware.compile": ("off", "default", "frozen"),
        DELAY: ("0", "500", "2000", "5000"),
    }


def test_axes_leave_out_what_the_machine_or_the_model_does_not_have():
    plain = replace(MACHINE, has_bf16=False, has_compiler=False)
    assert set(axes_of({"max_batch_size": 0}, plain)) == {COUNT, THREADS}
    assert set(axes_of({"max_batch_size": 8}, is_kindaware=False)) == {COUNT, DELAY}
    assert axes_of({"instance_group": [{}, {}]}, is_kindaware=False) == {}
    on_gpu = axes_of({"instance_group": [{"kind": "KIND_GPU"}]}, plain)
    assert on_gpu["kindaware.precision"][-2:] == ("16-mixed", "16-true")
    assert on_gpu[COUNT] == ("1", "2")
    assert THREADS not in on_gpu


def test_machine_reads_the_features_of_the_processor(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : fpu avx512_bf16 sse\n")
    assert Machine.detect(cpuinfo).has_bf16
    cpuinfo.write_text("flags : fpu avx512f sse\n")
    found = Machine.detect(cpuinfo)
    assert (found.has_bf16, found.has_compiler) == (False, False)
    assert not Machine.detect(tmp_path / "none").has_bf16
    (tmp_path / "g++").touch(mode=0o755)
    assert Machine.detect(cpuinfo).has_compiler


def test_given_axes_take_the_place_of_the_others():
    axes = with_given([Axis("a", ("1",)), Axis("b", ("1",))], parse_axes(["b=2|3", "c=4"]))
    assert axes == [Axis("a", ("1",)), Axis("b", ("2", "3")), Axis("c", ("4",))]
    for wrong in ("c", "c=", "=1", "c=1||2"):
        with pytest.raises(ConfigError, match=re.escape(f"--try {wrong}")):
            parse_axes([wrong])


@pytest.mark.parametrize(
    ("count", "threads", "expected"),
    [("2", "3", True), ("2", "4", False), ("1", "8", True), ("6", "auto", True)],
)
def test_instances_have_no_more_threads_than_there_are_cores(count, threads, expected):
    assert makes_sense({COUNT: count, THREADS: threads}, MACHINE) is expected


def outputs(**arrays):
    return [{name: np.array(value) for name, value in arrays.items()}]


@pytest.mark.parametrize(
    ("found", "reference", "error", "agreement"),
    [
        ({"Y": [[1.0, 2.0]]}, {"Y": [[1.0, 2.0]]}, 0.0, 1.0),
        ({"Y": [[1.0, 2.0], [4.0, 3.0]]}, {"Y": [[1.0, 2.0], [3.0, 4.0]]}, 0.25, 0.5),
        ({"Y": [0.5]}, {"Y": [1.0]}, 0.5, 1.0),
        ({"Y": [[np.nan, 1.0]]}, {"Y": [[0.0, 1.0]]}, np.inf, 0.0),
        ({"Y": [[np.inf, 1.0]]}, {"Y": [[np.inf, 1.0]]}, 0.0, 1.0),
        ({"Y": [[1, 2]]}, {"Y": [[1, 3]]}, 0.0, 0.5),
        ({"Y": [[1.0, 2.0]]}, {"Y": [[1.0]]}, np.inf, 0.0),
        ({"Y": [[0.5, 0.0]]}, {"Y": [[0.0, 0.0]]}, 0.5, 1.0),
        ({"Y": [[2.0, 1.0]], "Z": [[5.0]]}, {"Y": [[2.0, 1.0]], "Z": [[4.0]]}, 0.25, 1.0),
    ],
)
def test_compare_outputs(found, reference, error, agreement):
    assert compare_outputs(outputs(**found), outputs(**reference)) == Accuracy(error, agreement)


def test_compare_outputs_of_several_requests_may_have_different_lengths():
    requests = [{"Y": np.ones((1, 2))}, {"Y": np.ones((1, 3))}]
    assert compare_outputs(requests, requests) == Accuracy(0.0, 1.0)


def test_accuracy_names_what_is_wrong():
    assert Accuracy(0.04, 1.0).find_problem(0.05, 0.99) == ""
    assert Accuracy(0.06, 1.0).find_problem(0.05, 0.99) == "error 0.06 above 0.05"
    assert Accuracy(float("nan"), 1.0).find_problem(0.05, 0.99).startswith("error nan")
    assert "agrees in 98.0%, below 99.0%" in Accuracy(0.0, 0.98).find_problem(0.05, 0.99)


def level(rate, p95):
    return Level(Load(8), rate, rate, 9, Latencies(1, 1, p95, 1), {}, 0, 0, None, None, None)


def outcome(tmp_path, ratio=2.0, limits=(True, True), p95=1.0, settings=None, limit=None):
    first = Trial(requests_per_second=10, p95_ms=5, concurrency=8, is_within_limit=limits[0])
    chosen = {COUNT: "2", THREADS: "1"} if settings is None else settings
    best = replace(first, settings=chosen, requests_per_second=10 * ratio, is_within_limit=limits[1])
    path = tmp_path / "net" / "config.pbtxt"
    path.parent.mkdir(exist_ok=True)
    path.write_text(CONFIG)
    rounds = [{A: level(10, 1.0), B: level(10 * ratio, p95)}] * 6
    trials = (first, Trial({"kindaware.precision": "x"}, problem="refused"), best)
    return Outcome(path, CONFIG, trials, best, Comparison(Load(8), rounds), limit)


def test_outcome_is_a_table_a_ratio_and_a_diff(tmp_path):
    lines = write_outcome(outcome(tmp_path)).splitlines()
    assert [re.split(" {2,}", line.strip()) for line in lines[:4]] == [
        ["tried", "in flight", "requests/s", "p95 ms", "error", "agreement"],
        ["as it is", "8", "10.0", "5.00", "-", "-"],
        ["kindaware.precision=x", "-", "-", "-", "-", "-", "refused"],
        ["instance_group.count=2 kindaware.num_threads=1", "8", "20.0", "5.00", "-", "-", "best"],
    ]
    assert lines[4:] == [
        "",
        "the best (B) in turns with the model as it is (A), 8 requests in flight",
        "B answers more requests per second than A: 2.000 times as many (95 % interval 2.000 to 2.000)",
        "",
        "better than the model as it is:",
        "--- a/net/config.pbtxt",
        "+++ b/net/config.pbtxt",
        "@@ -1,3 +1,3 @@",
        ' name: "net"  # of the shop',
        "-instance_group [ { kind: KIND_CPU count: 1 } ]",
        '-parameters { key: "kindaware.num_threads" value { string_value: "2" } }',
        "+instance_group [ { kind: KIND_CPU count: 2 } ]",
        '+parameters { key: "kindaware.num_threads" value { string_value: "1" } }',
    ]


@pytest.mark.parametrize(
    ("changes", "is_better"),
    [
        ({}, True),
        ({"ratio": 1.0}, False),
        ({"ratio": 0.5}, False),
        ({"settings": {}}, False),
        ({"ratio": 0.5, "limits": (False, True)}, True),
        ({"limits": (False, False), "p95": 0.5}, True),
        ({"limits": (False, False), "p95": 2.0}, False),
        ({"limit": 1.5}, True),
        ({"limit": 0.5}, False),
    ],
)
def test_outcome_is_better_only_beyond_noise_or_within_a_limit_that_was_missed(tmp_path, changes, is_better):
    found = outcome(tmp_path, **changes)
    assert found.is_better is is_better
    assert bool(found.diff()) is is_better
    assert ("left as it is" in write_outcome(found)) is not is_better


def test_outcome_of_an_interrupted_search_changes_nothing(tmp_path):
    found = replace(outcome(tmp_path), best=None, comparison=None)
    assert "interrupted before the search was over" in write_outcome(found)
    assert found.diff() == ""
    assert '"best": null' in write_json(found)


def test_outcome_without_time_says_so(tmp_path):
    found = outcome(tmp_path)
    only = replace(found, trials=found.trials[:1], best=found.trials[0], comparison=None)
    assert "no time to try anything; --budget-seconds" in write_outcome(only)


def test_json_has_no_infinities(tmp_path):
    found = outcome(tmp_path)
    first = replace(found.trials[0], p95_ms=float("inf"), accuracy=Accuracy(float("inf"), 0.5))
    (trial, *_) = json.loads(write_json(replace(found, trials=(first, *found.trials[1:]))))["trials"]
    assert (trial["p95_ms"], trial["accuracy"]) == (None, {"error": None, "agreement": 0.5})


@pytest.mark.parametrize(("is_approved", "changed"), [(True, True), (False, False)])
def test_apply_diff_writes_only_what_is_approved(tmp_path, capsys, is_approved, changed):
    found = outcome(tmp_path)
    apply_diff(found, is_approved=is_approved, may_ask=True)  # it can't ask: this is no terminal
    assert (found.path.read_text() == found.changed) is changed
    assert (found.path.read_text() == CONFIG) is not changed
    assert ("wrote" in capsys.readouterr().err) is changed


def test_read_setting_takes_parameters_and_fields():
    assert read_setting(CONFIG, THREADS) == "2"
    assert read_setting(CONFIG, COUNT) == "1"
    assert read_setting(CONFIG, "name") == "net"
    assert read_setting(CONFIG, DELAY) is None
    assert read_setting(CONFIG, "kindaware.precision") is None


def test_examples_of_the_project_can_be_tuned():
    for path in Path(__file__).parents[3].glob("examples/*/models/*/config.pbtxt"):
        assert read_setting(path.read_text(), "instance_group.kind") == "KIND_CPU"
