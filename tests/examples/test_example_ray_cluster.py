"""The rehearsal on Ray: its figures from known answers, and its quick form on real servers."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="no Ray: pip install 'kindaware[ray]'")

FOLDER = Path(__file__).parents[2] / "examples" / "scale_out"
PHASES = ("outage", "rollout", "scale-up")


@pytest.fixture
def parts(monkeypatch):
    """What the programs of the rehearsal define."""
    monkeypatch.syspath_prepend(str(FOLDER))
    found = {name: runpy.run_path(str(FOLDER / f"{name}.py")) for name in ("ray_load", "ray_cluster")}
    for name in ("machine", "latency_plot", "ray_load", "ray_plot"):
        sys.modules.pop(name, None)
    return found["ray_load"] | found["ray_cluster"]


def make_load(parts, *sent):
    load = parts["Load"]("", 1)
    load.sent = [parts["Sent"](*one) for one in sent]
    load.marks = {parts["EVENT"]: 1.0, parts["DONE"]: 3.0}
    return load


def test_summarize_counts_what_was_lost_wrong_and_tried_again(parts):
    found = parts["summarize"](
        make_load(
            parts,
            (0.0, 0.010, 2.0),
            (0.5, 0.020, 5.0),
            (0.9, 0.200, 2.0),
            (1.0, 0.100, 2.0, [(1.1, "503 away"), (1.2, "503 away")]),
            (2.9, 0.300, 2.0),
            (3.0, 0.030, None, [(3.1, "500 broken")]),
        ),
        {2.0},
    )
    assert (found["requests"], found["lost"], found["wrong"], found["tried_again"]) == (6, 1, 1, 1)
    assert found["failed_tries"] == {"503 away": 2, "500 broken": 1}
    assert found["seconds_from_event_to_done"] == 2.0
    assert found["milliseconds"]["during"] == {"requests": 3, "p50": 200.0, "p99": 298.0, "max": 300.0}
    assert found["milliseconds"]["otherwise"]["max"] == 20.0


@pytest.mark.parametrize(
    ("phase", "changed", "faults"),
    [
        ("outage", {"failed_tries": {"503 away": 2}}, []),
        ("outage", {"lost": 1}, ["outage: 1 requests lost"]),
        ("rollout", {"wrong": 2}, ["rollout: 2 requests wrong"]),
        ("rollout", {"failed_tries": {"503 away": 2}}, ["rollout: 2 tries failed"]),
        ("scale-up", {"failed_tries": {"500 a": 1, "500 b": 1}}, ["scale-up: 2 tries failed"]),
    ],
)
def test_find_faults_names_the_promises_that_were_not_kept(parts, phase, changed, faults):
    figures = {one: {"lost": 0, "wrong": 0, "failed_tries": {}} for one in PHASES}
    figures[phase] |= changed
    assert parts["find_faults"](figures) == faults


@pytest.mark.server
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_rehearsal_on_two_nodes_loses_nothing_and_draws(tmp_path):
    command = [sys.executable, str(FOLDER / "ray_cluster.py"), "--quick", "--output", str(tmp_path)]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=580)

    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "ray_cluster.json").read_text())
    for phase in PHASES:
        assert figures[phase]["requests"] > 100
        assert (figures[phase]["lost"], figures[phase]["wrong"]) == (0, 0)
    # What was in flight on the node that was killed.
    assert figures["outage"]["failed_tries"]
    assert (tmp_path / "ray_cluster.svg").read_text().startswith("<?xml")
