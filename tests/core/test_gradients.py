"""Gradients in hooks: none by default, allowed with `inference_mode` off; errors name the setting."""

import threading

import pytest
import torch
from core_kit import pipeline_of, start
from host_kit import failure_of, outputs_of
from torch import nn

from kindaware import ConfigError, KindAwareModel
from kindaware._batch.request import Request
from kindaware.testing.accelerator import SimulatedAccelerator

OFF = {"kindaware.inference_mode": "false"}
DECOUPLED = {"model_transaction_policy": {"decoupled": True}}
NAMED = "set kindaware.inference_mode to 'false' and enter torch.enable_grad()"


def slope(X):
    """The derivative of X squared."""
    with torch.enable_grad():
        leaf = X.detach().requires_grad_()
        return torch.autograd.grad((leaf**2).sum(), leaf)[0]


class Forward(KindAwareModel):
    def load(self):
        """Make nothing."""

    def forward(self, X):
        return slope(X)


class Asynchronous(Forward):
    async def forward(self, X):
        return slope(X)


class Postprocess(Forward):
    def forward(self, X):
        return X

    def postprocess(self, outputs):
        return {"Y": slope(outputs["Y"])}


class Stream(KindAwareModel):
    def load(self):
        """Make nothing."""

    def stream(self, X):
        yield slope(X)


class AsynchronousStream(Stream):
    async def stream(self, X):
        yield slope(X)


KINDS = {
    Forward: {},
    Asynchronous: {},
    Postprocess: {},
    Stream: DECOUPLED,
    AsynchronousStream: DECOUPLED,
}


@pytest.mark.parametrize(("model_class", "changes"), KINDS.items())
def test_gradients_in_a_hook_need_the_setting_and_the_error_names_it(model_class, changes):
    start(model_class, parameters=OFF, **changes)
    with pytest.raises(ConfigError) as caught:
        start(model_class, **changes)
    assert NAMED in str(caught.value).partition("\n")[0]


@pytest.mark.parametrize("model_class", [Forward, Asynchronous, Postprocess])
def test_gradients_are_computed(model_class):
    model = start(model_class, parameters=OFF)
    [outcome] = pipeline_of(model).run([Request("r", {"X": torch.full((2, 4), 3.0)}, 2)])
    assert outcome["Y"].tolist() == [[6] * 4] * 2


@pytest.mark.parametrize(("parameters", "is_inference"), [({}, True), (OFF, False)])
def test_gpu_instance_computes_in_the_mode_of_the_setting(parameters, is_inference):
    modes = []

    class Model(Forward):
        def forward(self, X):
            modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
            return X

    simulated = SimulatedAccelerator(1)
    with simulated.installed(lambda *_: None), simulated.entered():
        start(Model, kind="GPU", parameters=parameters)
    assert modes == [(is_inference, False)]


class Weighted(Forward):
    """Weights, and an output, that require gradients: only the latter gets one."""

    def load(self):
        return nn.Linear(4, 4)

    def forward(self, X):
        with torch.enable_grad():
            self.kept = self.model(X)
        assert not self.model(X).requires_grad
        return self.kept


def test_execute_detaches_an_output_with_a_gradient(pb_utils, host):
    model = start(Weighted, parameters=OFF)
    [response] = model.execute([host.request(X=torch.ones(2, 4).numpy())])
    assert model.kept.requires_grad
    assert outputs_of(response)[0].tolist() == model.kept.tolist()


class Threaded(Forward):
    """A thread writes into what the hook made."""

    warmup = "off"

    def forward(self, X):
        doubled = 2 * X
        errors = []

        def work():
            try:
                doubled.add_(1)
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return doubled


def test_execute_inplace_update_on_a_thread_names_the_setting(pb_utils, host):
    requests = [host.request(X=torch.ones(2, 4).numpy())]
    [response] = start(Threaded).execute(requests)
    assert NAMED in failure_of(response)[1]
    assert [text for level, text in host.lines if level == "ERROR" and NAMED in text]
    [response] = start(Threaded, parameters=OFF).execute(requests)
    assert outputs_of(response)[0].tolist() == [[3] * 4] * 2


def test_errors_about_other_things_do_not_name_it(pb_utils, host):
    class Model(Forward):
        warmup = "off"

        def forward(self, X):
            raise RuntimeError("no such shape")

    [response] = start(Model).execute([host.request(X=torch.ones(2, 4).numpy())])
    assert "inference_mode" not in failure_of(response)[1]
