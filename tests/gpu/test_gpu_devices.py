"""Threads, several instances on one device, and one instance on several devices."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from gpu_kit import config_of, delay, largest_difference
from test_gpu_answers import Late, Requests, assert_own_answers

from kindaware import KindAwareModel, TensorSpec
from kindaware.testing.accelerator import SimulatedAccelerator


def send(model, seed, num_batches, **options):
    requests = Requests(seed)
    for _ in range(num_batches):
        batch = requests.batch()
        assert_own_answers(batch, model.infer_batch(batch, **options))


def test_execute_in_a_worker_thread_answers_and_leaves_the_other_threads_alone(gpu):
    with gpu.harness(Late, raise_errors=False) as model, ThreadPoolExecutor(1) as worker:
        for seed in range(3):
            worker.submit(send, model, seed, gpu.count(100, 3)).result()
            send(model, seed, gpu.count(100, 3))
        if not gpu.is_simulated:
            assert torch.cuda.current_stream() == torch.cuda.default_stream()


class Delegating(KindAwareModel):
    """Leaves the work to a thread of its own, which has to make the instance's stream current."""

    inputs = [TensorSpec("X", "FP32", [4])]
    outputs = [TensorSpec("Y", "FP32", [4])]

    def load(self):
        self.weight = torch.full((4,), 3.0).to(self.device)

    def forward(self, X):
        results = []
        thread = threading.Thread(target=self.work, args=(X, results))
        thread.start()
        thread.join()
        return results[0]

    def work(self, X, results):
        with torch.cuda.stream(self.cuda_stream):
            delay(X)
            results.append(X * self.weight)


def test_forward_in_a_thread_of_the_model_answers_on_the_instances_stream(gpu):
    with gpu.harness(Delegating) as model:
        for number in range(gpu.count(200, 5)):
            results = model.infer_batch([{"X": np.full((1, 4), number + n, np.float32)} for n in range(4)])
            assert [one.outputs["Y"][0, 0] for one in results] == [3.0 * (number + n) for n in range(4)]


def test_two_instances_on_one_device_have_streams_of_their_own(gpu):
    with gpu.harness(Late, raise_errors=False, instances=2) as model:
        assert model.instances[0].cuda_stream != model.instances[1].cuda_stream
        for seed in range(gpu.count(200, 5)):
            send(model, seed, 1, instance=seed % 2)


def test_two_instances_on_one_device_at_the_same_time_answer_their_own_requests(gpu):
    with gpu.harness(Late, raise_errors=False, instances=2) as model, ThreadPoolExecutor(2) as workers:
        futures = [workers.submit(send, model, n, gpu.count(300, 4), instance=n) for n in range(2)]
        for future in futures:
            future.result()


class Spread(KindAwareModel):
    """Four layers, one after the other, over all devices that there are."""

    inputs = [TensorSpec("X", "FP32", [8])]
    outputs = [TensorSpec("Y", "FP32", [8])]
    model_devices = "all"

    def load(self):
        torch.manual_seed(0)
        self.layers = [torch.nn.Linear(8, 8) for _ in range(4)]
        for number, layer in enumerate(self.layers):
            layer.to(self.devices[number % len(self.devices)])

    def forward(self, X):
        hidden = X
        for layer in self.layers:
            hidden = layer(hidden.to(layer.weight.device)).tanh()
            delay(hidden)
        return hidden


@torch.no_grad()
def on_one_device(model, hidden):
    """What the layers of the model give one after the other on the CPU."""
    for layer in model.instance.layers:
        hidden = (hidden @ layer.weight.cpu().T + layer.bias.cpu()).tanh()
    return hidden.numpy()


def test_kind_model_over_all_devices_answers_as_one(gpu):
    with gpu.harness(
        Spread, kind="MODEL", accelerator=SimulatedAccelerator(2), num_gpus=None, config=config_of(8)
    ) as model:
        assert len(model.instance.devices) == torch.cuda.device_count()
        for _ in range(gpu.count(100, 5)):
            batch = [torch.randn(2, 8) for _ in range(3)]
            results = model.infer_batch([{"X": x} for x in batch])
            for x, result in zip(batch, results, strict=True):
                assert largest_difference(result.outputs["Y"], on_one_device(model, x)) < 1e-3
