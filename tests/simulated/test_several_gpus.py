"""An instance of KIND_MODEL over two GPUs: a module spread by a map, or a model that moves tensors itself."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interleavings import Kept, drawn
from simulated_kit import Doubler, assert_clean, entries, make_config, serve
from torch import nn

from kindaware import place_module
from searches import examples

LAYERS = {"0": 0, "1": 1, "2": 0, "3": 1}


class Spread(Doubler):
    """Layers that lie on the two GPUs in turn; the last one on the second."""

    def load(self):
        torch.manual_seed(3)
        layers = nn.Sequential(*[nn.Linear(4, 4) for _ in LAYERS])
        for one in layers:
            nn.init.constant_(one.weight, 0.5)
            nn.init.constant_(one.bias, 1)
        return place_module(layers, LAYERS, self.devices)

    def forward(self, X):
        return self.model(X)


class ByHand(Spread):
    """The same, moved by the model; streams of both devices are its own business."""

    def load(self):
        self.weights = [torch.full((4, 4), 0.5, device=device) for device in self.devices]

    def forward(self, X):
        hidden = X
        for number in range(len(LAYERS)):
            weight = self.weights[number % 2]
            hidden = hidden.to(weight.device) @ weight + 1
        return hidden


class Reading(ByHand):
    """Looks at values on the second GPU."""

    def forward(self, X):
        answer = super().forward(X)
        return answer if answer.sum().item() > 0 else X


def expected(values):
    for _ in LAYERS:
        values = values @ np.full((4, 4), 0.5, np.float32) + 1
    return values


def serve_on_both(model, **options):
    both = {"kind": "MODEL", "device_id": 0, "num_gpus": 2, "model_devices": "cuda:0,cuda:1", **options}
    return serve(model, takes_gpu_inputs=True, **both)


def check(harness, sent):
    for result, entry in zip(harness.infer_batch(sent), sent, strict=True):
        assert result.error is None
        np.testing.assert_allclose(result.outputs["Y"], expected(entry["inputs"]["X"]), rtol=1e-6)
    assert_clean(harness)


@pytest.mark.parametrize("model", [Spread, ByHand, Reading])
@pytest.mark.parametrize("input_device", ["cpu", "cuda:0", "cuda:1"])
@pytest.mark.parametrize("output_device", ["cpu", "instance"])
def test_execute_over_two_gpus_is_right_and_in_order(model, input_device, output_device):
    with serve_on_both(model, output_device=output_device) as harness:
        assert [str(device) for device in harness.instance.devices] == ["cuda:0", "cuda:1"]
        for rows in [(3,), (1, 2, 3), (2,)]:
            check(harness, entries(*rows, input_device=input_device))


def test_execute_module_lies_where_the_map_says():
    with serve_on_both(Spread) as harness:
        devices = {name: str(one.device) for name, one in harness.instance.model.named_parameters()}
    assert devices == {
        f"{layer}.{name}": f"cuda:{device}" for layer, device in LAYERS.items() for name in ("weight", "bias")
    }


class LoadingOnBoth(ByHand):
    """Fills its weights on streams of its own, on both devices, and does not wait."""

    def load(self):
        self.weights = []
        for device in self.devices:
            with torch.cuda.device(device), torch.cuda.stream(torch.cuda.Stream(device)):
                self.weights.append(torch.full((4, 4), 0.25, device=device))
                self.weights[-1] *= 2


def test_initialize_waits_for_what_load_has_queued_on_each_of_its_gpus():
    with serve_on_both(LoadingOnBoth, warmup="off") as harness:
        check(harness, entries(2))


@pytest.fixture(params=[Spread, ByHand, Reading])
def kept(request):
    kept = Kept(lambda: serve_on_both(request.param))
    yield kept
    kept.close()


@given(
    calls=st.lists(
        st.lists(
            st.tuples(st.integers(1, 2), st.sampled_from(["cpu", "cuda:0", "cuda:1"])), min_size=1, max_size=4
        ),
        min_size=1,
        max_size=3,
    ),
    data=st.data(),
)
@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
def test_execute_over_two_gpus_does_not_depend_on_which_is_ahead(request, kept, calls, data):
    with kept.use() as harness, drawn(harness, request.node.name, calls, data):
        for number, call in enumerate(calls):
            sent = []
            for place, (rows, input_device) in enumerate(call):
                sent += entries(rows, first=1 + 40 * number + 10 * place, input_device=input_device)
            check(harness, sent)


def test_execute_two_instances_on_one_gpu_answer_their_own_requests():
    with serve(instances=2) as harness:
        for number in range(4):
            sent = entries(1, 2, first=1 + 10 * number)
            for result, entry in zip(harness.infer_batch(sent, instance=number % 2), sent, strict=True):
                np.testing.assert_array_equal(result.outputs["Y"], 2 * entry["inputs"]["X"])
        streams = {one.cuda_stream for one in harness.instances}
        assert len(streams) == 2
        assert harness.accelerator.violations == []


def test_round_robin_puts_each_instance_on_a_gpu_of_its_own():
    config = make_config(instance_group=[{"kind": "KIND_MODEL", "count": 2}])
    with serve_on_both(Doubler, config=config, model_devices="round_robin", instances=2) as harness:
        assert [str(one.device) for one in harness.instances] == ["cuda:0", "cuda:1"]
        sent = entries(1, 2)
        for number in range(2):
            for result, entry in zip(harness.infer_batch(sent, instance=number), sent, strict=True):
                np.testing.assert_array_equal(result.outputs["Y"], 2 * entry["inputs"]["X"])
        assert harness.accelerator.violations == []
