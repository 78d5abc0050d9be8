"""The rehearsal on a Ray cluster of two nodes, in its quick form: an outage, a rollout and a scale-up."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray.serve", reason="no Ray Serve: pip install 'kindaware[ray]'")
SCRIPT = Path(__file__).parents[2] / "examples" / "scale_out" / "ray_cluster.py"


@pytest.mark.server
@pytest.mark.timeout(600)
def test_cluster_loses_no_request_to_an_outage_a_rollout_and_a_scale_up(tmp_path):
    command = [sys.executable, str(SCRIPT), "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    figures = json.loads((tmp_path / "ray_cluster.json").read_text())
    for phase in ("outage", "rollout", "scale-up"):
        assert figures[phase]["requests"] > 20
        assert (figures[phase]["lost"], figures[phase]["wrong"]) == (0, 0)
    assert figures["rollout"]["failed_tries"] == 0
    assert figures["scale-up"]["failed_tries"] == 0
    assert (tmp_path / "ray_cluster.png").stat().st_size > 1000
