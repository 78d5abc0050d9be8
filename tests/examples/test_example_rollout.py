"""The rehearsal in its quick form: two real servers behind Envoy, each replaced once under load."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("envoy", reason="Envoy's wheel is for x86_64 alone")

FOLDER = Path(__file__).parents[2] / "examples" / "scale_out"


def test_check_names_the_bars_that_were_missed(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    check = runpy.run_path(str(FOLDER / "rollout.py"))["check"]
    part = json.loads((FOLDER / "results" / "rollout-2.json").read_text())
    part["replaced"] = [{"seconds_to_end": 12.0}]
    assert check(part) == []
    part["grpc"]["lost"] = part["http"]["wrong"] = part["long_streams"]["without_end"] = 1
    part["replaced"].append({"seconds_to_end": 15.6})
    assert check(part) == [
        "2 servers: no request is lost",
        "2 servers: no answer is that of another request",
        "2 servers: no stream ends early without an error",
        "2 servers: a server ends within 15.5 s, and not in 15.6 s",
    ]


@pytest.mark.server
def test_rollout_loses_no_request_and_no_server_outstays_its_limit(tmp_path):
    command = [sys.executable, str(FOLDER / "rollout.py"), "--quick", "--output", str(tmp_path)]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)

    assert done.returncode == 0, done.stdout + done.stderr
    part = json.loads((tmp_path / "rollout-2.json").read_text())
    for kind in ("grpc", "http"):
        assert (part[kind]["lost"], part[kind]["wrong"]) == (0, 0)
    assert part["grpc"]["answered"] + part["http"]["answered"] == part["requests"] >= 3000
    assert len(part["replaced"]) == 2
    for one in part["replaced"]:
        assert one["seconds_to_end"] < part["drain_seconds"] + 10
        assert one["sticky_client"]["failed_tries"]
    for streams in (part["short_streams"], part["long_streams"]):
        assert (streams["without_end"], streams["wrong"]) == (0, 0)
    assert part["short_streams"]["complete"] > 0
    # None of them fits into the time that a server has to end.
    assert part["long_streams"]["errors"]
    assert (tmp_path / "rollout-2.svg").read_text().startswith("<?xml")
