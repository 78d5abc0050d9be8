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


@pytest.mark.server
@pytest.mark.alone
def test_rehearsal_passes_and_draws(tmp_path):
    figures, picture = tmp_path / "figures.json", tmp_path / "heal.svg"
    command = [sys.executable, str(SCRIPT), "--quick", "--json", str(figures), "--plot", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = json.loads(figures.read_text())["rounds"]
    assert found["victim"]["failed"] > 0
    assert all(one["failed"] == 0 for one in found["other"].values())
    assert "killed model, an error" in picture.read_text()
