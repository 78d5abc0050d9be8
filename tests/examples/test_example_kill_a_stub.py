"""The rehearsal of a dead process: its figures from known answers, and one short round on a real server."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "scale_out" / "kill_a_stub.py"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))
        return runpy.run_path(str(SCRIPT))


def test_describe_counts_errors_apart_from_latencies(script):
    answer = script["Answer"]
    found = script["describe"]([answer(0, 0.001, ""), answer(1, 0.003, ""), answer(2, 9.0, "dead")])
    assert found == {"requests": 3, "failed": 1, "p50_ms": 2.0, "p99_ms": 2.98, "max_ms": 3.0}


def test_load_seconds_are_those_of_the_last_load(script, tmp_path):
    log = tmp_path / "log"
    line = 'I1129 15:00:{} 7 model_lifecycle.cc:472] "{}"\n'
    log.write_text(
        line.format("01.000000", "loading: victim:1")
        + line.format("02.000000", "successfully loaded 'victim'")
        + line.format("10.500000", "loading: victim:1")
        + line.format("11.000000", "loading: other:1")
        + line.format("14.750000", "successfully loaded 'victim'")
    )
    assert script["read_load_seconds"](log, "victim") == 4.25


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, []),
        ({"not_ready_after_seconds": 1.1}, ["not ready within 1 s"]),
        ({"served_again_after_seconds": 5.1}, ["served again within 5.00 s"]),
        ({"other": {"after": {"failed": 1}}}, ["no request of the other model fails"]),
    ],
)
def test_check_names_the_bars_that_were_missed(script, changed, text):
    found = {
        "not_ready_after_seconds": 0.1,
        "served_again_after_seconds": 4.9,
        "load_seconds": 3.0,
        "other": {"after": {"failed": 0}},
    }
    assert script["check"]({**found, **changed}) == text


def test_summary_has_median_and_spread_over_the_rounds(script):
    def round_of(served, p99):
        phases = {"before": {"failed": 0, "p99_ms": p99}, "after": {"failed": 1, "p99_ms": 2.0}}
        return {
            "not_ready_after_seconds": 0.1,
            "served_again_after_seconds": served,
            "load_seconds": 3.0,
            "victim": {"failed": 7, "longest_error_seconds": 1.0},
            "other": phases,
        }

    summary = script["summarize"]([round_of(4.0, 9.0), round_of(6.0, 3.0), round_of(5.0, 4.0)])
    assert summary["served again after, s"] == {"median": 5.0, "least": 4.0, "most": 6.0}
    assert summary["p99 of the other model before, ms"] == {"median": 4.0, "least": 3.0, "most": 9.0}
    assert summary["requests to the other model that failed"]["median"] == 1


@pytest.mark.server
@pytest.mark.alone
def test_rehearsal_passes_and_draws(tmp_path):
    command = [sys.executable, str(SCRIPT), "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "kill.json").read_text())
    [found] = figures["rounds"]
    assert found["victim"]["failed"] > 0
    assert all(one["failed"] == 0 for one in found["other"].values())
    longest = figures["summary"]["served again after, s"]["most"]
    assert longest == pytest.approx(found["served_again_after_seconds"], abs=0.01)
    assert "killed model, an error" in (tmp_path / "kill.svg").read_text()
