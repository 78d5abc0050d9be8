"""What servers after 24.10 do otherwise, before a model sees a request or in what it asks of them."""

import pytest
from harness_cases import model
from harness_kit import ECHO, PLAIN, floats, write_model

from kindaware.testing import ModelHarness

SEQUENCES = """max_batch_size: 1 sequence_batching { oldest { max_candidate_sequences: 4 }
  control_input [ { name: "ID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_%s } ] } ] }
"""
ASKS = model(
    "def ask(version):\n    try:\n        return float(pb_utils.is_model_ready('other', version))\n"
    "    except pb_utils.TritonModelException as error:\n        assert 'is not found' in str(error), error\n"
    "        return -1.0\n"
    "fields = {'model_name': 'other', 'requested_output_names': [], 'inputs': []}\n"
    "call = pb_utils.InferenceRequest(model_version=7, **fields)\n"
    "text = call.exec().error().message()\n"
    "return [answer([ask(''), ask('1'), ask('7'), 'is not ready' in text, 'version 7 is not found' in text])]"
)


@pytest.mark.parametrize(
    ("version", "expected"),
    [("24.10", [1, 1, 0, 1, 0]), ("26.06", [1, 1, 0, 1, 0]), ("26.07", [1, 1, -1, 0, 1])],
)
def test_an_unknown_version_of_a_model(tmp_path, version, expected):
    write_model(tmp_path, "other", ECHO)
    folder = write_model(tmp_path, "m", ASKS)
    with ModelHarness(folder, models=[tmp_path / "other"], server_version=version) as harness:
        assert harness.infer(X=floats(1)).outputs["Y"].tolist() == expected


@pytest.mark.parametrize(("version", "code"), [("24.10", None), ("26.04", None), ("26.05", "INVALID_ARG")])
def test_an_output_that_is_requested_twice(tmp_path, version, code):
    folder = write_model(tmp_path, "m", ECHO)
    with ModelHarness(folder, server_version=version, raise_errors=False) as harness:
        result = harness.infer(X=floats(1), requested_outputs=["Y", "Y"])
    assert (result.error and result.error.code().name) == code


@pytest.mark.parametrize(
    ("version", "datatype", "identity", "code"),
    [
        ("24.10", "UINT32", "text", None),
        ("25.01", "UINT32", "text", "INVALID_ARG"),
        ("25.01", "UINT64", 5, None),
        ("25.01", "STRING", "text", None),
        ("25.01", "STRING", 5, "INVALID_ARG"),
    ],
)
def test_a_correlation_id_that_its_control_tensor_cannot_take(tmp_path, version, datatype, identity, code):
    folder = write_model(tmp_path, "m", ECHO, PLAIN + SEQUENCES % datatype)
    with ModelHarness(folder, server_version=version, raise_errors=False) as harness:
        result = harness.infer(X=floats(1, 1), correlation_id=identity, flags=1)
    assert (result.error and result.error.code().name) == code
