"""Calls of other models on a real server that traces each request: which trace they belong to."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from complete_models import serve_complete
from streaming_client import pack, run, stream

pytestmark = pytest.mark.server

MODELS = Path(__file__).parent / "call_models"
PLAIN = """
from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    warmup = "off"

    def load(self):
        return None

    def stream(self, X, HOW):
        yield X
        yield self.call("echo", X=X)["Y"]
"""


def add_plain(repository):
    """Add a model whose stream is a plain generator that calls another."""
    config = (repository / "calls_stream/config.pbtxt").read_text()
    (repository / "plain/1").mkdir(parents=True)
    (repository / "plain/config.pbtxt").write_text(config.replace("calls_stream", "plain"))
    (repository / "plain/1/model.py").write_text(PLAIN)


def test_calls_of_traced_requests_belong_to_their_trace_but_from_asynchronous_streams(tmp_path):
    """A trace is Triton's to free: the server ends with signal 11 for a call with one that is gone."""
    for name in ("calls", "calls_stream", "count", "echo"):
        shutil.copytree(MODELS / name, tmp_path / "models" / name)
    add_plain(tmp_path / "models")
    traces = tmp_path / "traces.json"
    options = ["mode=triton", f"triton,file={traces}", "rate=1", "level=TIMESTAMPS"]
    inputs = {"X": np.array([[3, 0]], np.float32), "HOW": np.array([[b"plain"]], dtype=object)}
    callers = ["plain", "calls_stream"]

    with serve_complete(tmp_path / "models", args=[f"--trace-config={one}" for one in options]) as server:

        async def all_callers(client):
            await client.infer("calls", pack(inputs))
            return [await stream(client, model, **inputs) for _ in range(5) for model in callers]

        answers = run(server, all_callers)
    assert [(len(answer.items), answer.errors) for answer in answers] == [(2, []), (3, [])] * 5
    assert server.returncode == 0
    seen = [one for one in json.loads(traces.read_text()) if "model_name" in one]
    names = {one["id"]: one["model_name"] for one in seen}
    parents = [names.get(one.get("parent_id")) for one in seen if one["model_name"] == "echo"]
    assert sorted(filter(None, parents)) == ["calls"] + ["plain"] * 5
    assert not [one for one in seen if one["model_name"] == "count" and one.get("parent_id")]
