"""Memory of the device: what happens when it runs out, and that it does not grow."""

import contextlib

import numpy as np
import pytest
import torch
from gpu_kit import config_of, delay
from test_gpu_answers import Late, Requests, assert_own_answers

from kindaware import KindAwareModel, TensorSpec
from kindaware.testing.accelerator import SimulatedAccelerator

MIB = 2**20


class Hungry(KindAwareModel):
    """Takes memory for each row, and more for a row above 100."""

    inputs = [TensorSpec("X", "FP32", [1])]
    outputs = [TensorSpec("Y", "FP32", [1])]
    warmup = "off"
    row_bytes = 0

    def load(self):
        self.tried, self.sizes = [], []

    def forward(self, X):
        self.tried.append(len(X))
        row_bytes = type(self).row_bytes
        work = torch.empty(len(X), row_bytes, dtype=torch.uint8, device=X.device)
        if X.max() > 100:
            more = torch.empty(64 * row_bytes, dtype=torch.uint8, device=X.device)
            more[:1] = 0
        delay(X)
        work[:, :1] = X.to(torch.uint8)
        self.sizes.append(len(X))
        return X + 1


@contextlib.contextmanager
def little_memory(gpu, model):
    """Leave room for 16 rows beside what torch has taken by now."""
    type(model.instance).row_bytes = row_bytes = 1 * MIB if gpu.is_simulated else 64 * MIB
    if gpu.is_simulated:
        model.accelerator.devices[0].memory.limit_bytes = torch.cuda.memory_reserved() + 17 * row_bytes
        yield
        return
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 17 * row_bytes) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.fixture
def hungry(gpu):
    options = {"raise_errors": False, "parameters": {"kindaware.isolate_errors": "false"}}
    with gpu.harness(Hungry, accelerator=SimulatedAccelerator(1), **options) as model:
        model.infer(X=[[1.0]])
        with little_memory(gpu, model):
            model.instance.tried.clear()
            model.instance.sizes.clear()
            yield model


def ask(model, values):
    return model.infer_batch([{"X": np.full((1, 1), value, np.float32)} for value in values])


def test_out_of_memory_batch_is_halved_until_it_fits(hungry):
    values = np.arange(64.0)
    results = ask(hungry, values)
    assert [float(one.outputs["Y"][0, 0]) for one in results] == list(values + 1)
    assert hungry.instance.tried[0] == 64
    assert sum(hungry.instance.sizes) == 64
    assert max(hungry.instance.sizes) == 16
    assert hungry.instance.is_ready()


def test_out_of_memory_row_fails_alone_and_leaves_the_memory_free(hungry):
    before = torch.cuda.memory_allocated()
    results = ask(hungry, [1.0, 2.0, 101.0, 4.0])
    failed = [one.error for one in results]
    assert [error is None for error in failed] == [True, True, False, True]
    assert "out of memory" in failed[2].message()
    assert [float(results[n].outputs["Y"][0, 0]) for n in (0, 1, 3)] == [2.0, 3.0, 5.0]
    assert torch.cuda.memory_allocated() <= before
    assert hungry.instance.is_ready()
    assert all(one.error is None for one in ask(hungry, range(16)))


def test_memory_is_flat_over_many_batches_of_random_sizes(gpu):
    largest = [{"X": np.zeros((4, 40_000), np.float32), "NUMBER": np.ones((4, 1), np.int64)}] * 8
    with gpu.harness(Late, raise_errors=False, config=config_of(64)) as model:
        requests = Requests(5)
        parts = []
        for _ in range(6):  # the first one fills the caches
            torch.cuda.reset_peak_memory_stats()
            for _ in range(gpu.count(1000, 8)):
                batch = requests.batch()
                assert_own_answers(batch, model.infer_batch(batch))
            for _ in range(gpu.count(100, 2)):
                model.infer_batch(largest)
            parts.append(memory_of(model))
    first = parts[1]
    for part in parts[1:]:
        assert part["pinned"] == first["pinned"], parts
        assert part["allocated"] == first["allocated"], parts
        # torch counts a cached block whole, of which up to 1 MiB may not have been asked for.
        assert part["peak"] <= first["peak"] + 8 * MIB, parts
        assert part["reserved"] <= first["reserved"] + 64 * MIB, parts


def memory_of(model):
    return {
        "allocated": torch.cuda.memory_allocated(),
        "peak": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.memory_reserved(),
        "pinned": model.instance._kindaware_instance._device.staging.statistics.pinned_bytes,
    }
