"""Requests answered together equal those answered one at a time, on a GPU as on the CPU."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interleavings import Kept, drawn
from simulated_kit import ON_GPU, Doubler, make_config, serve, tensor

from kindaware import RequestError
from searches import examples

pytestmark = pytest.mark.usefixtures("constant_error_ids")

DTYPES = {
    "TYPE_FP32": np.float32,
    "TYPE_FP16": np.float16,
    "TYPE_INT64": np.int64,
    "TYPE_INT32": np.int32,
    "TYPE_UINT8": np.uint8,
    "TYPE_BOOL": np.bool_,
}
CONFIG = make_config(
    max_batch_size=32,
    input=[tensor(f"I{place}", [-1], dtype) for place, dtype in enumerate(DTYPES)]
    + [tensor("EXTRA", [2], "TYPE_FP32", optional=True)],
    output=[tensor(f"O{place}", [-1], dtype) for place, dtype in enumerate(DTYPES)] + [tensor("SUM", [1])],
)
BAD, REFUSED = 101, 102


class Turned(Doubler):
    """Gives every input back with its columns turned round, and a sum; some of it without a copy."""

    def preprocess(self, inputs):
        if (inputs["I3"] == REFUSED).any():
            raise RequestError("refused", code="UNSUPPORTED")
        return inputs

    def forward(self, **inputs):
        if (inputs["I3"] == BAD).any():
            raise ValueError("bad row")
        extra = inputs.get("EXTRA")
        total = inputs["I0"].sum(dim=1) + (0 if extra is None else extra.sum(dim=1))
        turned = {f"O{place}": inputs[f"I{place}"].flip(1) for place in range(len(DTYPES) - 2)}
        same = {f"O{place}": inputs[f"I{place}"] for place in (len(DTYPES) - 2, len(DTYPES) - 1)}
        return {**turned, **same, "SUM": total[:, None]}


REQUESTS = st.lists(
    st.tuples(
        st.integers(1, 4),  # rows
        st.integers(1, 3),  # columns
        st.booleans(),  # with the optional input
        st.sampled_from(["good"] * 5 + ["bad", "refused"]),
        st.sampled_from(["cpu", "cpu", ON_GPU]),
    ),
    min_size=1,
    max_size=5,
)


def make_request(place, rows, columns, has_extra, fate, input_device):
    values = 1 + 12 * place + np.arange(rows * columns).reshape(rows, columns)
    inputs = {f"I{place}": values.astype(dtype) for place, dtype in enumerate(DTYPES.values())}
    if has_extra:
        inputs["EXTRA"] = np.full((rows, 2), 1000 + place, np.float32)
    if fate != "good":
        inputs["I3"][-1, -1] = BAD if fate == "bad" else REFUSED
    return {"inputs": inputs, "input_device": input_device, "request_id": str(place)}


def told(result):
    """Something that compares equal when two results are the same."""
    if result.error is not None:
        return result.error.code().name, result.error.message()
    return {name: (one.dtype, one.tolist()) for name, one in result.outputs.items()}


@pytest.fixture(params=["cpu", "instance"])
def kept(request):
    kept = Kept(lambda: serve(Turned, config=CONFIG, takes_gpu_inputs=True, output_device=request.param))
    yield kept
    kept.close()


@given(requests=REQUESTS, data=st.data())
@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
def test_infer_batch_equals_one_request_at_a_time(request, kept, requests, data):
    sent = [make_request(place, *one) for place, one in enumerate(requests)]
    with kept.use() as harness, drawn(harness, request.node.name, [requests], data):
        together = [told(one) for one in harness.infer_batch(sent)]
        assert together == [told(harness.infer(**one)) for one in sent]
        for answer, one, entry in zip(together, requests, sent, strict=True):
            assert isinstance(answer, dict) == (one[3] == "good")
            if one[3] == "good":
                assert answer["O5"][1] == entry["inputs"]["I5"].tolist()
                assert answer["O2"][1] == entry["inputs"]["I2"][:, ::-1].tolist()


def test_infer_batch_bfloat16_comes_back_as_it_was_sent():
    config = make_config(input=[tensor("X", [4], "TYPE_BF16")], output=[tensor("Y", [4], "TYPE_BF16")])
    sent = [{"X": torch.full((rows, 4), 1.5 * rows, dtype=torch.bfloat16)} for rows in (1, 3, 2)]
    for output_device in ("cpu", "instance"):
        with serve(config=config, output_device=output_device) as harness:
            for result, entry in zip(harness.infer_batch(sent), sent, strict=True):
                assert torch.equal(result.outputs["Y"], 2 * entry["X"])
            assert harness.accelerator.violations == []


class Whole(Doubler):
    """A model that does not batch."""

    def forward(self, X):
        return X.t() * 2


@pytest.mark.parametrize("input_device", ["cpu", ON_GPU])
def test_infer_batch_of_a_model_that_does_not_batch_keeps_requests_apart(input_device):
    config = make_config(max_batch_size=0, input=[tensor("X", [2, -1])], output=[tensor("Y", [-1, 2])])
    arrays = [np.arange(2 * columns, dtype=np.float32).reshape(2, columns) + columns for columns in (3, 1, 4)]
    sent = [{"inputs": {"X": one}, "input_device": input_device} for one in arrays]
    with serve(Whole, config=config, takes_gpu_inputs=True, warmup="off") as harness:
        for result, one in zip(harness.infer_batch(sent), arrays, strict=True):
            np.testing.assert_array_equal(result.outputs["Y"], 2 * one.T)
        assert harness.accelerator.violations == []
