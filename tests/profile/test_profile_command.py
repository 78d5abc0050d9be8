"""`kindaware profile` as a user types it: what it prints, what is in the trace, what it refuses."""

import json
import re

import pytest
from profile_kit import CONFIG, NET

from kindaware.cli.profile._run import WarmUp

HOOKS = (
    NET
    + """
    def preprocess(self, inputs):
        return {"X": inputs["X"] + 1}

    def postprocess(self, outputs):
        return {"Y": outputs["Y"] * 2}
"""
)
FOREIGN = """
import numpy
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        rows = [numpy.zeros((1, 4), "f") for _ in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", row)]) for row in rows]
"""
STREAM = NET.replace("def forward(self, X):\n        return", "def stream(self, X):\n        yield")
DECOUPLED = CONFIG + "model_transaction_policy { decoupled: true }"
RAISES = NET.replace("return self.model(X)", "raise ValueError('an odd word')")


def within(inner, outer):
    same = (inner["pid"], inner["tid"]) == (outer["pid"], outer["tid"])
    end = outer["ts"] + outer["dur"]
    return same and outer["ts"] <= inner["ts"] and inner["ts"] + inner["dur"] <= end


def named(events, name):
    return [event for event in events if event["name"] == name]


def test_table_of_a_model_with_hooks_has_its_stages_in_order_and_they_add_up(
    write_model, profile, read_table
):
    status, out, err, _ = profile(write_model(HOOKS))

    table = read_table(out)
    assert status == 0
    shown = re.search(r"(\S+) ms per execute; 4 calls timed, then 4 traced, in about (\d+) s", err)
    milliseconds, seconds = float(shown[1]), int(shown[2])
    # 9 calls, 1 s at least; both figures are rounded.
    assert seconds == pytest.approx(max(1, 9e-3 * milliseconds), rel=0.01, abs=0.51)
    assert list(table) == [
        *("read", "preprocess", "collate", "forward", "postprocess", "copy out", "split", "respond"),
        *("between them", "execute"),
    ]
    assert sum(table.values()) - table["execute"] == pytest.approx(table["execute"], abs=0.06)
    assert all(table.values())


@pytest.mark.parametrize(
    ("count", "seconds", "total", "calls"),
    [(3, 0.1, 0.4, 20), (1, 2.0, 2.0, 4), (1, 30.0, 40.0, 3), (3, 0.0, 0.0, 20)],
    ids=["fast", "slow", "slower than the wanted time", "too fast to measure"],
)
def test_calls_that_nobody_counted_fit_in_the_wanted_time(count, seconds, total, calls):
    assert WarmUp(count, seconds, total).choose_calls() == calls


def test_head_says_model_calls_machine_and_versions(write_model, profile):
    _, out, _, _ = profile(write_model(), "--requests", 5, "--rows", 3)

    head = out.split("\n\n")[0]
    assert "net version 1, net_0_0 on cpu, " in head
    assert "4 of execute with 5 request(s) of 3 row(s), after 3 to warm up" in head
    assert " cores" in head
    assert "torch 2." in head


def test_json_is_one_line_with_what_the_table_says(write_model, profile):
    code, out, _, _ = profile(write_model(), "--requests", "2", "--json")
    found = json.loads(out)
    stages = found["milliseconds"]
    assert (code, found["executes"], found["requests"]) == (0, 4, 2)
    assert found["model"].startswith("net version 1")
    assert [name for name in stages if name != "execute"][-1] == "between them"
    assert sum(stages.values()) == pytest.approx(2 * stages["execute"], rel=0.01)
    assert {"name", "calls", "host_milliseconds", "device_milliseconds"} == set(found["operators"][0])


def test_trace_has_stages_within_execute_and_operators_within_forward(write_model, profile):
    _, _, _, events = profile(write_model(HOOKS), "--requests", 3)

    executes = named(events, "kindaware.execute")
    spans = [event for event in events if event["name"].startswith("kindaware.")]
    forwards = named(events, "kindaware.forward")
    linears = named(events, "aten::linear")
    assert len(executes) == len(forwards) == len(linears) == 4
    assert len(named(events, "kindaware.preprocess")) == 4 * 3
    for event in [*spans, *linears]:
        assert sum(within(event, one) for one in executes) == 1
    assert all(any(within(one, forward) for forward in forwards) for one in linears)
    assert not [one for one in named(events, "aten::cat") if any(within(one, each) for each in forwards)]


def test_operators_are_those_of_forward_alone(write_model, profile):
    _, out, _, _ = profile(write_model(HOOKS))

    operators = out.partition("operators of forward")[2]
    assert "aten::addmm" in operators
    assert "aten::cat" not in operators  # of the rows, in gather
    assert "aten::mul" not in operators  # of postprocess


def test_asynchronous_forward_is_timed_and_its_operators_are_said_to_be_missing(
    write_model, profile, read_table
):
    _, out, _, _ = profile(write_model(NET.replace("def forward", "async def forward")))

    assert read_table(out)["forward"] > 0
    assert "no operators of forward there: they ran on another thread" in out


def test_model_without_kindaware_has_its_execute_alone(write_model, profile, read_table):
    status, out, _, events = profile(write_model(FOREIGN))

    assert status == 0
    assert "not a KindAwareModel" in out
    assert list(read_table(out)) == ["execute"]
    assert len(named(events, "kindaware.execute")) == 4


def test_parameter_wins_over_the_configuration(write_model, profile):
    _, out, _, _ = profile(write_model(), "--parameter", "kindaware.precision=bf16-true")

    assert "precision bf16-true" in out


def test_another_configuration_is_taken_with_config(write_model, profile, tmp_path):
    other = tmp_path / "other.pbtxt"
    other.write_text(CONFIG.replace("64", "2"))

    _, out, _, _ = profile(write_model(), "--config", other)

    assert "2 request(s) of 1 row(s)" in out


@pytest.mark.parametrize(
    ("source", "config", "options", "text"),
    [
        (
            STREAM,
            DECOUPLED,
            (),
            "model 'net': expected a model that answers when execute returns, got a decoupled one, whose "
            "streams go on after that; profile its forward in a model that is not decoupled",
        ),
        (RAISES, CONFIG, (), "an odd word"),
        (NET, CONFIG, ("--output", "/no/such/trace.json"), "expected a file in a directory that is there"),
        (NET, CONFIG, ("--requests", 65), "expected at most 64 rows, its max_batch_size, in one execute"),
        (NET, CONFIG.replace("[ 8 ]", "[ -1 ]"), (), "got none; say them, like --shape X:8"),
    ],
    ids=["decoupled", "raises", "output", "requests", "shape"],
)
def test_profile_that_cannot_be_made_says_why_with_status_1(
    write_model, profile, source, config, options, text
):
    status, out, err, events = profile(write_model(source, config), *options)

    assert (status, out, events) == (1, "", [])
    assert "kindaware profile: " in err
    assert text in err.splitlines()[-1] if source is not RAISES else text in err


def test_failing_forward_shows_its_traceback_once(write_model, profile):
    _, _, err, _ = profile(write_model(RAISES), "--parameter", "kindaware.warmup=off")

    assert err.count('model.py", line 10, in forward') == 1


def test_directory_without_code_of_its_own_names_the_one_to_pass(write_model, profile, tmp_path):
    model = write_model(name="net")
    ensemble = tmp_path / "chain"
    (ensemble / "1").mkdir(parents=True)
    (ensemble / "config.pbtxt").write_text('platform: "ensemble" ensemble_scheduling { step [ ] }')

    for path, text in (
        (ensemble, "got an ensemble, which has no code; pass one of the models of its steps"),
        (model / "1", f"got a version of a model; pass {model}\n"),
        (tmp_path, f"got a repository; pass one of its models: {ensemble} {model}\n"),
    ):
        status, out, err, _ = profile(path)
        assert (status, out) == (1, "")
        assert text in err
