"""The example of checkpoints, without a server: three formats, one network."""

import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from kindaware.testing import ModelHarness, ModelLoadError

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated:FutureWarning")
NAMES = ["from_state_dict", "from_safetensors", "from_torchscript"]
FILES = {"weights.pt", "weights.safetensors", "network.ts"}
ROWS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)


@pytest.fixture(scope="module")
def models(examples, tmp_path_factory):
    """A copy of the repository with weights made by the example's own script."""
    folder = shutil.copytree(examples / "checkpoint/models", tmp_path_factory.mktemp("checkpoint") / "models")
    script = [sys.executable, "-W", "error", str(examples / "checkpoint/make_weights.py"), str(folder)]
    subprocess.run(script, check=True, timeout=120)
    return folder


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["CPU", "GPU"])
def test_each_format_gives_the_network_that_was_saved(models, examples, name, kind):
    script = runpy.run_path(str(examples / "checkpoint/make_weights.py"))
    with torch.inference_mode():
        expected = script["make_network"]()(torch.from_numpy(ROWS)).numpy()
    accelerator = "simulated" if kind == "GPU" else None
    with ModelHarness(models / name, kind=kind, accelerator=accelerator) as model:
        np.testing.assert_array_equal(model.infer(FEATURES=ROWS).outputs["SCORES"], expected)


@pytest.mark.parametrize("name", NAMES)
def test_model_without_its_weights_says_which_file_it_missed(examples, name):
    folder = examples / "checkpoint/models" / name
    with pytest.raises(ModelLoadError) as caught:
        ModelHarness(folder).start()
    assert any(f"{folder}/1/{file}" in str(caught.value) for file in FILES)


def test_repository_holds_no_weights(examples):
    found = {path.name for path in (examples / "checkpoint").rglob("*") if path.is_file()}
    assert not found & FILES
