"""What `serve` refuses, before it starts anything."""

import os
import threading

import pytest
import torch
from serving_kit import Importable, Undeclared
from torch import nn

import kindaware
from kindaware import ConfigError, KindAwareError, KindAwareModel, Servable, TensorSpec
from kindaware._serving.guard import refuse_in_stub
from kindaware._serving.repository import read_plan
from kindaware._serving.served_models import _end

LOCK = threading.Lock()


@pytest.fixture(autouse=True)
def no_server(monkeypatch, tmp_path):
    """A server that must not start, and an empty directory that must stay empty."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        (Undeclared, {}, r"got no inputs and outputs; .* by one call: Undeclared.from_example\(X=array\)"),
        (nn.Linear, {}, r"got class Linear; pass a module, such as Linear\(\)"),
        (nn.Linear(1, 1), {}, "expected an example of its inputs"),
        (torch.compile(nn.Linear(1, 1)), {}, r"that was compiled, with settings=\{'compile': 'default'\}"),
        ("models", {}, "for a model repository run kindaware serve"),
        (Importable(), {}, "pass the class, Importable, and no object of it"),
        (dict, {}, "got class dict; derive it from KindAwareModel, or write a function"),
        (lambda x: x, {"example": torch.rand(1, 1)}, "got '<lambda>'; pass name="),
        (Importable, {"name": "a/b"}, "got 'a/b'; pass name="),
        (Importable, {"instances": "tpu"}, "expected groups such as 'cpu"),
        (Importable, {"instances": "cpu:0"}, "expected groups such as 'cpu"),
        (Importable, {"instances": ""}, "expected groups such as 'cpu"),
        (Importable, {"settings": {"precison": "bf16-true"}}, "did you mean kindaware.precision"),
        (Importable, {"settings": {"num_threads": 0}}, "a whole number from 1 to"),
        (Importable, {"settings": "fast"}, "settings: expected a mapping"),
        (Importable, {"max_batch_size": -1}, "expected a whole number, 0 or more, got -1"),
        (
            nn.Flatten(0),
            {"example": torch.rand(2, 2), "max_batch_size": 4},
            "expected 0 for what does not batch",
        ),
        (Importable, {"outputs": ["Y"]}, "got them beside a class"),
        (Importable, {"config": {"max_batch_size": 1}}, "got 'max_batch_size'; use name, max_batch_size"),
        ({}, {}, "expected at least one model, got none"),
        ({"a": Importable}, {"name": "b"}, "expected options of a model in its Servable, got name"),
        (
            Servable(Importable),
            {"instances": "cpu"},
            "expected options of a model in its Servable, got instances",
        ),
        (Importable, {"host": "0.0.0.0"}, "got neither; pass token=..., or insecure=True"),
        (Importable, {"token": "short"}, "token: expected at least 16 letters"),
        (Importable, {"tritonserver": "/nonexistent"}, "got /nonexistent, which does not exist"),
    ],
)
def test_serve_refuses_what_it_can_not_serve(model, options, text):
    with pytest.raises(KindAwareError, match=text):
        kindaware.serve(model, **options)


def test_class_that_can_not_be_copied_is_refused_with_what_to_do():
    class Locked(KindAwareModel):
        inputs = [TensorSpec("X", "FP32", [2])]
        outputs = [TensorSpec("Y", "FP32", [2])]
        lock = LOCK

        def load(self):
            pass

        def forward(self, X):
            return X

    with pytest.raises(ConfigError, match=r"class Locked: .*cannot pickle '_thread.lock'.*; make what can't"):
        kindaware.serve(Locked)


def test_missing_cloudpickle_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "cloudpickle", None)
    with pytest.raises(ConfigError, match=r"it is not installed; pip install 'cloudpickle>=3'"):
        kindaware.serve(nn.Linear(1, 1), torch.rand(1, 1))


def test_batch_size_is_that_of_the_class_or_the_default():
    example = {"X": torch.rand(1, 2)}
    assert "max_batch_size: 8" in read_plan("m", Servable(Importable)).config
    assert "max_batch_size: 8" in read_plan("m", Servable(Importable, example)).config
    assert "max_batch_size: 3" in read_plan("m", Servable(Importable, max_batch_size=3)).config
    assert "max_batch_size: 32" in read_plan("m", Servable(Undeclared, example)).config


def test_configuration_that_a_class_completes_itself_is_left_to_it():
    class Completing(Importable):
        @classmethod
        def auto_complete_config(cls, auto_complete_model_config):
            return super().auto_complete_config(auto_complete_model_config)

    assert not read_plan("m", Servable(Completing)).is_complete
    assert read_plan("m", Servable(Importable)).is_complete
    assert read_plan("m", Servable(nn.Linear(1, 1), torch.rand(1, 1))).is_complete


def test_server_for_another_python_is_refused(tmp_path_factory):
    root = tmp_path_factory.mktemp("server")
    server, stub = root / "bin" / "tritonserver", root / "backends" / "python" / "triton_python_backend_stub"
    for path in (server, stub):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"libpython3.9.so")
        path.chmod(0o700)
    with pytest.raises(KindAwareError, match=r"got one for Python 3\.9; run this with python3\.9"):
        kindaware.serve(Importable, tritonserver=server)


def test_fork_leaves_the_server_and_its_files_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    _end(None, {}, folder, os.getpid() + 1)
    assert folder.exists()


def test_serve_in_the_process_of_a_model_is_refused(tmp_path):
    program = tmp_path.parent / "exe"
    program.unlink(missing_ok=True)
    program.symlink_to("/somewhere/triton_python_backend_stub")
    with pytest.raises(ConfigError, match=r'put the call under if __name__ == "__main__":'):
        refuse_in_stub(str(program))
    refuse_in_stub("/nonexistent")
    refuse_in_stub()
