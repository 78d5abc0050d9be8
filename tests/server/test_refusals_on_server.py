"""What can't be served is refused when the model loads, and the server's log says what to do."""

import textwrap

import pytest

from kindaware.testing import TritonServer

pytestmark = pytest.mark.server

MODEL = """
import torch
from kindaware import KindAwareModel

class TritonPythonModel(KindAwareModel):
    def load(self):
        return None
    def forward(self, INPUT):
        return INPUT
"""

STREAM = MODEL.replace("def forward", "def stream").replace("return INPUT", "yield INPUT")

STATE = """{ input_name: "BEFORE", output_name: "AFTER", data_type: TYPE_FP32, dims: [ 2 ] }"""

CONFIG = """
backend: "python"
max_batch_size: 4
input [{ name: "INPUT", data_type: TYPE_FP32, dims: [ 2 ] }]
output [{ name: "OUTPUT", data_type: TYPE_FP32, dims: [ 2 ] }]
"""


def parameter(key, value):
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


REFUSALS = {
    "kind_model_without_policy": (
        MODEL,
        CONFIG + "instance_group [{ kind: KIND_MODEL }]",
        "expected the setting model_devices to say which devices it uses, got no such setting",
    ),
    "gpu_that_is_not_there": (
        MODEL,
        CONFIG + "instance_group [{ kind: KIND_MODEL }]" + parameter("kindaware.model_devices", "cuda:1"),
        "expected GPU 1 to be visible to torch, got 0 visible devices (CUDA_VISIBLE_DEVICES not set, "
        "torch.version.cuda",
    ),
    "unknown_setting": (
        MODEL,
        CONFIG + parameter("kindaware.precission", "bf16-true"),
        "parameter 'kindaware.precission': expected a setting out of kindaware.precision, on_",
    ),
    "graph_too_large": (
        MODEL,
        CONFIG + parameter("kindaware.cuda_graphs", "1,8"),
        "setting 'cuda_graphs': expected batch sizes up to max_batch_size 4",
    ),
    "decoupled": (
        MODEL,
        CONFIG + "model_transaction_policy { decoupled: true }",
        "class TritonPythonModel: expected stream for a decoupled model, got forward",
    ),
    "implicit_state": (
        MODEL,
        CONFIG + "sequence_batching { state [ " + STATE + " ] }",
        "expected no state, which the Python backend does not have, got state with input_name ['BEFORE']",
    ),
    "stream_of_a_sequence": (
        STREAM,
        CONFIG + "model_transaction_policy { decoupled: true } sequence_batching { }",
        "sequence_batching: expected a model that answers with forward, got a decoupled model",
    ),
    "padded_stream": (
        STREAM,
        CONFIG.replace("[ 2 ]", "[ -1 ]")
        + "model_transaction_policy { decoupled: true }"
        + parameter("kindaware.pad", "INPUT=0"),
        "setting 'pad': expected a model that answers with forward, got a decoupled model",
    ),
    "tritons_ragged_batch": (
        MODEL,
        CONFIG.replace("dims: [ 2 ]", "dims: [ -1 ], allow_ragged_batch: true", 1)
        + """batch_input [{ kind: BATCH_ACCUMULATED_ELEMENT_COUNT, target_name: [ "ENDS" ],
            data_type: TYPE_FP32, source_input: "INPUT" }]""",
        "expected a configuration that this version of kindaware can honour, got batch_input",
    ),
    "lengths_of_nothing": (
        MODEL.replace("(self, INPUT)", "(self, INPUT, lengths)"),
        CONFIG,
        "setting 'pad': expected inputs to pad, since forward names lengths, got none",
    ),
    "asynchronous_preprocess": (
        MODEL + "    async def preprocess(self, inputs):\n        return inputs\n",
        CONFIG,
        "hook preprocess: expected a plain method, got async def",
    ),
    "misspelt_hook": (
        MODEL + "    def pre_process(self, inputs):\n        return inputs\n",
        CONFIG,
        "attribute 'pre_process': expected the name 'preprocess'",
    ),
    "misspelt_input": (
        MODEL.replace("INPUT", "IMAGE, MASK"),
        CONFIG.replace(
            'input [{ name: "INPUT"',
            'input [{ name: "MASK", data_type: TYPE_FP32, dims: [ 2 ] }, { name: "IMAGES"',
        ),
        "expected a parameter for each input ['MASK', 'IMAGES'], or for none of them, got none for",
    ),
    "wrong_output": (
        MODEL.replace("return INPUT", "return INPUT.double()"),
        CONFIG,
        "output 'OUTPUT': expected data type FP32, got FP64; convert it in forward",
    ),
}


@pytest.fixture(scope="module")
def refusing_server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("refused")
    for name, (model, config, _) in REFUSALS.items():
        version = repository / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(textwrap.dedent(model))
        (version.parent / "config.pbtxt").write_text(config)
    args = ["--disable-auto-complete-config", "--model-load-thread-count=2"]
    with TritonServer(
        repository, exit_on_error=False, args=args, env={"CUDA_VISIBLE_DEVICES": None}
    ) as running:
        yield running


@pytest.mark.parametrize("name", REFUSALS)
def test_initialize_of_a_model_that_cannot_be_served_is_refused_with_the_remedy(refusing_server, name):
    state = {model.name: model for model in refusing_server.models()}[name]
    assert state.state == "UNAVAILABLE"
    assert REFUSALS[name][2] in state.reason
    assert "ConfigError: " in state.reason
