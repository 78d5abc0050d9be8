"""The directory that `serve` writes, loaded as a server loads it, but in this process."""

import functools
import json

import numpy as np
import pytest
import torch
from serving_kit import Importable, Undeclared, count, later, shout
from torch import nn

from kindaware import KindAwareModel, TensorSpec
from kindaware.testing import InferenceError, ModelLoadError

ROWS = np.array([[1, 2], [3, 4]], np.float32)


def outputs_of(harness, **inputs):
    with harness as model:
        return model.infer(**inputs).outputs


def state_of(tmp_path):
    return json.loads((tmp_path / "m" / "1" / "served.json").read_text())


def test_importable_class_travels_by_its_name(written, tmp_path):
    assert (outputs_of(written(Importable), X=ROWS)["Y"] == ROWS * 2).all()
    assert (state_of(tmp_path)["module"], state_of(tmp_path)["qualname"]) == ("serving_kit", "Importable")


def test_class_of_a_function_travels_by_value_with_what_it_uses(written, tmp_path):
    factor = 5

    class Local(KindAwareModel):
        inputs = [TensorSpec("X", "FP32", [2])]
        outputs = [TensorSpec("Y", "FP32", [2])]
        max_batch_size = 4

        def load(self):
            return nn.Identity()

        def forward(self, X):
            return self.model(X) * factor

    assert (outputs_of(written(Local), X=ROWS)["Y"] == ROWS * 5).all()
    assert "module" not in state_of(tmp_path)


def test_error_in_a_class_that_travels_by_value_names_the_users_line(written):
    class Broken(KindAwareModel):
        inputs = [TensorSpec("X", "FP32", [2])]
        outputs = [TensorSpec("Y", "FP32", [2])]

        def load(self):
            raise ValueError("no weights")

        def forward(self, X):
            return X

    line = Broken.load.__code__.co_firstlineno + 1
    with pytest.raises(ModelLoadError) as caught, written(Broken):
        pass
    assert f"test_written_models.py({line}): load" in str(caught.value)


def test_class_without_declarations_is_served_by_its_example(written, tmp_path):
    assert (outputs_of(written(Undeclared, {"X": ROWS}), X=ROWS)["Y"] == ROWS + 1).all()
    assert "max_batch_size: 32" in (tmp_path / "m" / "config.pbtxt").read_text()


def test_module_computes_what_it_does_here(written):
    network = nn.Sequential(nn.Dropout(), nn.Linear(2, 3), nn.Softmax(1)).train()
    found = outputs_of(written(network, torch.from_numpy(ROWS)), input=ROWS)["OUTPUT"]
    with torch.no_grad():
        np.testing.assert_allclose(found, network.eval()(torch.from_numpy(ROWS)).numpy(), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_module_in_torchscript_is_served(written):
    network = torch.jit.trace(nn.Linear(2, 3), torch.from_numpy(ROWS))
    found = outputs_of(written(network, torch.from_numpy(ROWS)), input=ROWS)["OUTPUT"]
    np.testing.assert_allclose(found, network(torch.from_numpy(ROWS)).detach().numpy(), rtol=1e-5)


def test_program_of_torch_export_is_served(written):
    linear = nn.Linear(2, 3)
    rows = {0: torch.export.Dim("rows")}
    program = torch.export.export(linear, (torch.from_numpy(ROWS),), dynamic_shapes=(rows,))
    found = outputs_of(written(program, torch.from_numpy(ROWS)), input=ROWS)["OUTPUT"]
    np.testing.assert_allclose(found, linear(torch.from_numpy(ROWS)).detach().numpy(), rtol=1e-5)


def test_function_gets_and_returns_text_as_in_its_example(written):
    found = outputs_of(written(shout, ["a", "bb"]), text=np.array([[b"abc"], ["é".encode()]], object))
    assert found["OUTPUT0"].tolist() == [[b"ABC"], ["É".encode()]]
    assert found["OUTPUT1"].tolist() == [[3.0], [1.0]]


def test_text_that_is_no_utf8_fails_its_own_request(written):
    with written(shout, ["a"], raise_errors=False) as model:
        bad, good = (np.array([[text]], object) for text in (b"\xff", b"ok"))
        results = model.infer_batch([{"text": bad}, {"text": good}])
    assert "input 'text' is not UTF-8" in repr(results[0])
    assert results[1].outputs["OUTPUT0"].tolist() == [[b"OK"]]


def test_one_text_is_one_request(written):
    found = outputs_of(written(lambda text: text[::-1], "abc"), text=np.array([b"xyz"], object))
    assert found["OUTPUT"].tolist() == [b"zyx"]


def test_function_of_arrays_gets_arrays(written):
    found = outputs_of(written(lambda x: {"top": np.sort(x, axis=1)[:, ::-1]}, ROWS), x=ROWS)
    assert found["top"].tolist() == [[2, 1], [4, 3]]


def test_coroutine_function_is_awaited(written):
    assert (outputs_of(written(later, torch.from_numpy(ROWS)), x=ROWS)["OUTPUT"] == ROWS * 3).all()


def test_generator_streams(written):
    with written(count, torch.tensor([[2]])) as model:
        assert [one.outputs["OUTPUT"].item() for one in model.stream(n=np.array([[3]]))] == [0, 1, 2]


def test_modules_that_a_function_uses_are_placed_and_in_eval_mode(written):
    dropout, linear = nn.Dropout(0.9).train(), nn.Linear(2, 2).train()

    def both(x, layer):
        return dropout(layer(x))

    found = outputs_of(written(functools.partial(both, layer=linear), {"x": torch.from_numpy(ROWS)}), x=ROWS)
    np.testing.assert_allclose(found["OUTPUT"], linear(torch.from_numpy(ROWS)).detach().numpy(), rtol=1e-5)


def test_function_that_returns_something_else_later_is_told_so(written):
    def fickle(x):
        return x if x.sum() >= 0 else {"other": x}

    with written(fickle, torch.from_numpy(ROWS)) as model, pytest.raises(InferenceError, match="none of"):
        model.infer(x=-ROWS)


def test_settings_and_instances_are_in_the_configuration(written, tmp_path):
    written(Importable, instances="cpu*2 gpu:0,1", settings={"num_threads": 1, "kindaware.warmup": [1, 4]})
    text = (tmp_path / "m" / "config.pbtxt").read_text()
    assert "kind: KIND_CPU count: 2" in text
    assert "gpus: [ 0, 1 ]" in text
    assert '"kindaware.num_threads"' in text
    assert '"1,4"' in text
