"""The kind of an instance is the configuration's, unless the test says otherwise."""

import pytest
import torch
from harness_cases import model
from harness_kit import ECHO, PLAIN, floats, write_model

from kindaware.testing import HarnessError, InferenceError, ModelHarness

WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def group(kind):
    return PLAIN + f"instance_group {{ kind: KIND_{kind} }}"


@WITHOUT_GPU
@pytest.mark.parametrize("kind", ["GPU", "MODEL"])
def test_a_model_for_gpus_is_refused_without_one(tmp_path, kind):
    folder = write_model(tmp_path, "m", ECHO, group(kind))
    with pytest.raises(
        HarnessError, match=rf"has KIND_{kind}, got none.*kind='CPU'.*accelerator='simulated'"
    ):
        ModelHarness(folder).start()


@pytest.mark.parametrize("kind", ["GPU", "MODEL"])
def test_a_model_for_gpus_runs_where_the_test_says(tmp_path, kind):
    folder = write_model(tmp_path, "m", ECHO, group(kind))
    with ModelHarness(folder, kind="CPU") as harness:
        assert harness.args["model_instance_kind"] == "CPU"
    with ModelHarness(folder, accelerator="simulated") as harness:
        assert harness.args["model_instance_kind"] == kind


@pytest.mark.parametrize("config", [PLAIN, group("CPU"), group("AUTO")])
def test_other_models_are_of_kind_cpu_without_a_word(tmp_path, config):
    with ModelHarness(write_model(tmp_path, "m", ECHO, config)) as harness:
        assert harness.args["model_instance_kind"] == "CPU"
        assert harness.infer(X=floats(2)).error is None


LOADS = model(
    "pb_utils.load_model('other')\n"
    "call = pb_utils.InferenceRequest(model_name='other', requested_output_names=['Y'],"
    " inputs=requests[0].inputs())\n"
    "return [pb_utils.InferenceResponse(call.exec().output_tensors())]"
)


@WITHOUT_GPU
@pytest.mark.parametrize("is_given", [True, False])
def test_the_kind_of_further_models_is_their_own_too(tmp_path, is_given):
    other = write_model(tmp_path, "other", ECHO, group("GPU"))
    folder = write_model(tmp_path, "m", LOADS)
    options = {"models": [other]} if is_given else {}
    with (
        pytest.raises((HarnessError, InferenceError), match="model 'other': expected a GPU"),
        ModelHarness(folder, **options) as harness,
    ):
        harness.infer(X=floats(2))
    with ModelHarness(folder, kind="CPU", **options) as harness:
        assert harness.infer(X=floats(2)).outputs["Y"].shape == (2,)
