"""Requests of different length in one batch on a GPU: padded, and cut back in order, there or on the host."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interleavings import Kept, drawn
from simulated_kit import ON_GPU, Doubler, assert_answers, assert_clean, entries, make_config, serve, tensor

from searches import examples

CONFIG = make_config(
    max_batch_size=16, input=[tensor("X", [-1])], output=[tensor("Y", [-1]), tensor("SUM", [1])]
)


class Padded(Doubler):
    """Doubles, and sums the row up to its own length."""

    def forward(self, X, lengths):
        places = torch.arange(X.shape[1], device=X.device)
        own = places[None, :] < lengths[:, None]
        return 2 * X, (X * own).sum(dim=1, keepdim=True)


def serve_padded(output_device):
    settings = {"pad": "X=-7", "unpad": "Y=X", "output_device": output_device}
    return serve(Padded, config=CONFIG, takes_gpu_inputs=True, **settings)


def check(harness, sent):
    results = harness.infer_batch(sent)
    assert_answers(results, sent)
    for result, entry in zip(results, sent, strict=True):
        expected = entry["inputs"]["X"].sum(axis=1, keepdims=True)
        np.testing.assert_array_equal(result.outputs["SUM"], expected)
    assert_clean(harness)


@pytest.fixture(params=["cpu", "instance"])
def kept(request):
    kept = Kept(lambda: serve_padded(request.param))
    yield kept
    kept.close()


@given(
    calls=st.lists(
        st.lists(
            st.tuples(st.integers(1, 3), st.integers(1, 5), st.sampled_from(["cpu", "cpu", ON_GPU])),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=3,
    ),
    data=st.data(),
)
@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
def test_execute_padded_batches_do_not_depend_on_when_the_device_works(request, kept, calls, data):
    with kept.use() as harness, drawn(harness, request.node.name, calls, data):
        for number, call in enumerate(calls):
            sent = []
            for place, (rows, width, input_device) in enumerate(call):
                first = 1 + 50 * number + 10 * place
                sent += entries(rows, first=first, width=width, input_device=input_device)
            check(harness, sent)


def test_execute_padding_of_outputs_that_stay_is_cut_off_before_the_wait():
    names = []
    sent = [one for width in (2, 4) for one in entries(2, width=width, first=width)]
    with serve_padded("instance") as harness:
        harness.accelerator.fault = lambda number, name: names.append(name)
        check(harness, sent)
    waits = [place for place, name in enumerate(names) if name == "wait for an event"]
    assert "aten::contiguous" in names[: waits[0]]
    assert not [name for name in names[waits[0] :] if name.startswith("aten::contiguous")]
