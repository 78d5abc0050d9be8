"""Lists, numbers, arrays and tensors for inputs: kept as they are, or refused by name."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from harness_cases import model
from harness_kit import PLAIN, write_model

from kindaware.testing import HarnessError, ModelHarness
from kindaware.testing.harness.client.input_values import to_wire


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("INT8", [300]),
        ("INT8", [-129]),
        ("UINT8", [-1]),
        ("UINT64", [-1]),
        ("INT64", [2**63]),
        ("UINT64", [2**64]),
        ("INT32", [1.7]),
        ("INT32", [float("nan")]),
        ("INT32", [1e300]),
        ("BOOL", [2]),
        ("FP16", [70000.0]),
        ("FP32", [1e40]),
        ("BF16", [1e40]),
        ("FP32", [[1.0, 2.0], [3.0]]),
        ("FP32", ["1.5"]),
        ("FP32", "abc"),
        ("FP32", [None]),
        ("FP32", [1j]),
        ("FP32", None),
        ("FP32", {"a": 1}),
        (None, [[1.0, 2.0], [3.0]]),
        ("STRING", [["a", "b"], ["c"]]),
        ("STRING", [None]),
        ("STRING", None),
        ("FP32", np.ma.masked_array([1.0], [True])),
        ("FP32", np.ones(2, np.complex64)),
        ("FP32", np.array(["2020"], "M8[Y]")),
        ("FP32", torch.ones(2).to_sparse()),
        ("FP32", torch.ones(2, dtype=torch.complex64)),
        ("FP32", torch.ones(2, device="meta")),
    ],
)
def test_input_that_would_be_sent_wrong_is_refused_by_name(datatype, value):
    with pytest.raises(HarnessError, match=r"^input 'X': expected .*, got .*; "):
        to_wire("X", value, datatype)


@pytest.mark.parametrize(
    ("datatype", "value", "kept"),
    [
        ("INT8", [-128, 127], [-128, 127]),
        ("UINT64", [2**64 - 1], [2**64 - 1]),
        ("INT64", [-(2**63)], [-(2**63)]),
        ("INT32", [2.0], [2]),
        ("INT32", [], []),
        ("INT32", 5, 5),
        ("BOOL", [1, False], [True, False]),
        ("FP32", [True, 2, 0.5], [1.0, 2.0, 0.5]),
        ("FP16", [float("inf")], [float("inf")]),
        ("BF16", [[1.5], [-2.0]], [[1.5], [-2.0]]),
        ("STRING", ["a", b"\xff", 3], [b"a", b"\xff", b"3"]),
        ("STRING", "abc", b"abc"),
    ],
)
def test_list_that_fits_takes_the_type_of_the_configuration(datatype, value, kept):
    wire = to_wire("X", value, datatype)
    assert wire.datatype == datatype.replace("STRING", "BYTES")
    assert wire.value().tolist() == kept


def test_array_keeps_its_type():
    assert to_wire("X", np.ones(2), "FP32").datatype == "FP64"
    assert to_wire("X", np.float32(1.0), "FP32").shape == ()
    assert to_wire("X", np.array([16256], np.uint16), "BF16").value().tolist() == [1.0]


def test_an_array_of_ml_dtypes_is_sent_as_bf16(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    config = PLAIN.replace("TYPE_FP32", "TYPE_BF16")
    source = model(
        "tensor = pb_utils.Tensor.from_dlpack('Y', requests[0].inputs()[0])\n"
        "return [pb_utils.InferenceResponse([tensor])]"
    )
    array = np.array([1.0, -2.5, 3e38], ml_dtypes.bfloat16)
    with ModelHarness(write_model(tmp_path, "m", source, config)) as harness:
        for sent in (array, array[::-1][::-1], array.reshape(3, 1)[:, 0]):
            assert harness.infer(X=sent).outputs["Y"].tolist() == array.astype(float).tolist()


FP8 = """
import numpy as np, torch
from kindaware._tensors import dtypes
row = dtypes.DTYPES["FP8"] = dtypes._row("FP8", "float8_e4m3fn", None, 10)
from kindaware.testing.harness.client.input_values import to_wire
values = torch.tensor([1.0, -2.5]).to(row.torch)
for value in ([1.0, -2.5], values, values.view(torch.uint8).numpy()):
    wire = to_wire("X", value, "FP8")
    assert (wire.datatype, len(wire.data), wire.value().dtype) == ("FP8", 2, row.torch)
    assert wire.value().float().tolist() == [1.0, -2.5]
"""


def test_a_type_that_numpy_lacks_needs_no_more_than_its_row():
    subprocess.run([sys.executable, "-c", FP8], check=True)
