"""Both examples on a real Triton server."""

import json
import shutil

import numpy as np
import pytest
import torch

import kindaware
from kindaware.testing import TritonServer

pytestmark = pytest.mark.server
CATS = (281, 282, 285)


def copy_resnet50(examples, folder, weights):
    repository = shutil.copytree(examples / "resnet50" / "models", folder / "models")
    config = repository / "resnet50" / "config.pbtxt"
    text = config.read_text()
    assert text.count('"IMAGENET1K_V2"') == 1
    config.write_text(text.replace('"IMAGENET1K_V2"', f'"{weights}"'))
    return repository


@pytest.fixture(scope="module")
def server(examples, tmp_path_factory):
    random = copy_resnet50(examples, tmp_path_factory.mktemp("repository"), "random")
    # Bits depend on the number of threads, which an instance on a server would otherwise measure.
    settings = [f"{model}.kindaware.num_threads=share" for model in ("resnet50", "efficientnet_lite0")]
    repositories = [random, examples / "efficientnet_lite0" / "models"]
    args = ["--disable-auto-complete-config"]
    with TritonServer(repositories, settings=settings, args=args) as server:
        yield server


@pytest.fixture
def imagenet():
    import imagenet_client

    return imagenet_client


def ask_and_compare(imagenet, server, example, model, picture):
    """The server's scores, after they were found equal to the local ones to the bit."""
    prepared = imagenet.prepare(picture, example.preparation)
    with imagenet.connect(server.http_url) as client:
        scores = imagenet.classify(client, example.model_name, prepared)
    with torch.inference_mode():
        local = model.forward(torch.from_numpy(prepared)).numpy()[0]
    np.testing.assert_array_equal(scores, local)
    assert imagenet.best(scores, 5) == imagenet.best(local, 5)
    return scores


def test_efficientnet_on_the_server_sees_a_cat_as_the_model_itself_does(
    imagenet, server, efficientnet, load_model, cat
):
    scores = ask_and_compare(imagenet, server, efficientnet, load_model("efficientnet_lite0"), cat)
    assert int(scores.argmax()) in CATS


def test_resnet50_on_the_server_with_random_weights_equals_the_model_itself(
    imagenet, server, resnet50, load_model, cat
):
    model = load_model("resnet50", weights="random")
    scores = ask_and_compare(imagenet, server, resnet50, model, cat)
    mirrored = ask_and_compare(imagenet, server, resnet50, model, cat.transpose(0))
    assert np.abs(scores - mirrored).max() > 0.1  # equal above is not equal whatever is sent


def test_instances_run_where_instance_group_says(server):
    reports = {instance.name: instance for instance in server.instances()}
    assert set(reports) == {"resnet50_0_0", "efficientnet_lite0_0_0"}
    assert {report.device for report in reports.values()} == {"cpu"}


def test_client_prints_class_and_pass(run_client, server, cat_file, load_model):
    result = run_client("--image", cat_file, "--url", server.http_url)
    assert (result.returncode, result.stderr) == (0, "")
    first, last = result.stdout.splitlines()
    assert first.startswith("Results is class: ")
    assert last in ("PASS: ResNet50 instance kind", "PASS: EfficientNet-Lite0 instance kind")
    if "EfficientNet" in last:
        assert first.removeprefix("Results is class: ") in ("TABBY", "TIGER CAT", "EGYPTIAN CAT")


def test_client_verbose_prints_the_configuration_first(run_resnet50_client, server, cat_file):
    result = run_resnet50_client("--image", cat_file, "--url", server.http_url, "-v")
    assert (result.returncode, result.stderr) == (0, "")
    text, _, rest = result.stdout.partition("\nResults is class: ")
    config = json.loads(text)
    assert text == json.dumps(config, indent=4)  # as NVIDIA's client prints it
    assert config["name"] == "resnet50"
    assert config["max_batch_size"] == 128
    assert [group["kind"] for group in config["instance_group"]] == ["KIND_CPU"]
    assert "dynamic_batching" in config
    assert config["input"][0]["format"] == "FORMAT_NCHW"
    assert rest.endswith("\nPASS: ResNet50 instance kind\n")


def test_client_takes_a_path_as_image_url_as_nvidias_does(run_resnet50_client, server, cat_file):
    paths = [("--image_url", cat_file), ("--image", cat_file)]
    outputs = [run_resnet50_client(*path, "--url", server.http_url).stdout for path in paths]
    assert outputs[0] == outputs[1]
    assert outputs[0].endswith("\nPASS: ResNet50 instance kind\n")


def test_client_top_prints_the_best_with_probabilities(run_resnet50_client, server, cat_file):
    result = run_resnet50_client("--image", cat_file, "--url", server.http_url, "--top", 3)
    *best, first, last = result.stdout.splitlines()
    assert len(best) == 3
    probabilities = [float(line.split("%")[0]) for line in best]
    assert probabilities == sorted(probabilities, reverse=True)
    assert first == "Results is class: " + best[0].split("%")[1].strip()
    assert last == "PASS: ResNet50 instance kind"


def test_client_unknown_model_fails(run_client, server, cat_file):
    result = run_client("--image", cat_file, "--url", server.http_url, "--model_name", "resnet51")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("model 'resnet51': expected an answer, got 'Request for unknown model")
    assert result.stderr.endswith("; check --model_name and the server's log\n")


def test_resnet50_without_its_weights_does_not_load_and_the_server_says_why(examples, tmp_path):
    repository = copy_resnet50(examples, tmp_path, "/no/such/file.pth")
    with pytest.raises(kindaware.KindAwareError) as caught, TritonServer(repository):
        pass
    text = str(caught.value)
    assert "resnet50's weights '/no/such/file.pth': expected a download that works" in text
    assert "elsewhere and set parameter weights to its path" in text
