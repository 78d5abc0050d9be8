"""The rehearsal in its quick form: two real servers behind Envoy, each replaced once under load."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("envoy", reason="Envoy's wheel is for x86_64 alone")

FOLDER = Path(__file__).parents[2] / "examples" / "scale_out"


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
