"""The examples' models as a user would unit-test them: an args dict, no server."""

import ast
import socket

import numpy as np
import pytest
import torch
from torchvision.models import ResNet50_Weights, resnet50

import kindaware

NAMES = ["resnet50", "efficientnet_lite0"]
CATS = (281, 282, 285)


def model_file(examples, name):
    return examples / name / "models" / name / "1" / "model.py"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No cache, and no way out: every download goes to a proxy that nobody runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{bound.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
        yield


@pytest.fixture(scope="module")
def other_weights(tmp_path_factory):
    """A state_dict in a file, other than that of `random`."""
    torch.manual_seed(1)
    state = resnet50().state_dict()
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(state, path)
    return path, state


def parameters_of(model):
    return {name: value.numpy().tobytes() for name, value in model.model.state_dict().items()}


@pytest.mark.parametrize("name", NAMES)
def test_model_file_is_short_and_has_only_load_and_forward(examples, name):
    text = model_file(examples, name).read_text()
    assert len(text.splitlines()) < 40
    (model,) = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    assert [node.name for node in model.body if isinstance(node, ast.FunctionDef)] == ["load", "forward"]
    assert not [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]


def test_resnet50_with_random_weights_is_that_of_torchvision_with_seed_0(load_model):
    model = load_model("resnet50", weights="random")
    torch.manual_seed(0)
    expected = resnet50().eval()
    pictures = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        scores = model.forward(pictures)
        assert scores.shape == (2, 1000)
        assert torch.equal(scores, expected(pictures))
    assert not torch.equal(scores[0], scores[1])
    assert not model.model.training


def test_resnet50_with_a_local_file_has_its_weights(load_model, other_weights, offline):
    path, state = other_weights
    model = load_model("resnet50", weights=str(path))
    assert parameters_of(model) == {name: value.numpy().tobytes() for name, value in state.items()}


def test_resnet50_takes_the_pretrained_weights_from_torchs_cache(
    load_model, other_weights, offline, tmp_path
):
    path, state = other_weights
    cache = tmp_path / "cache" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "resnet50-11ad3fa6.pth").symlink_to(path)
    expected = {name: value.numpy().tobytes() for name, value in state.items()}
    assert parameters_of(load_model("resnet50")) == expected
    assert parameters_of(load_model("resnet50", weights="IMAGENET1K_V2")) == expected


@pytest.mark.parametrize("parameters", [{}, {"weights": "IMAGENET1K_V2"}], ids=["default", "named"])
def test_resnet50_when_the_download_fails_says_how_to_go_on(load_model, offline, parameters):
    with pytest.raises(kindaware.ConfigError) as caught:
        load_model("resnet50", **parameters)
    text = str(caught.value)
    assert "resnet50's weights 'IMAGENET1K_V2': expected a download that works, " in text
    assert "got URLError(" in text
    url = "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"
    assert text.endswith(f"; if offline, fetch {url} elsewhere and set parameter weights to its path")
    assert "\n" not in text


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_resnet50_with_a_file_that_brings_code_does_not_run_it(load_model, tmp_path):
    torch.save(Trap(tmp_path / "sprung"), tmp_path / "trap.pth")
    with pytest.raises(
        kindaware.ConfigError, match=r"resnet50's weights .*trap.pth': expected .*UnpicklingError"
    ):
        load_model("resnet50", weights=str(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()


def broken_files(folder, state):
    """Files that exist and hold no whole state_dict of ResNet50, and one that does not exist."""
    torch.save(
        {name: value for name, value in state.items() if not name.startswith("fc.")}, folder / "part.pth"
    )
    torch.save([1, 2], folder / "list.pth")
    (folder / "text.pth").write_text("no weights")
    (folder / "empty.pth").touch()
    return [folder / f"{name}.pth" for name in ("part", "list", "text", "empty", "missing")]


def test_resnet50_with_a_file_of_no_use_refuses_to_load(load_model, other_weights, tmp_path):
    for path in [*broken_files(tmp_path, other_weights[1]), tmp_path]:
        with pytest.raises(
            kindaware.ConfigError, match=f"resnet50's weights '{path}': expected .*, got "
        ) as caught:
            load_model("resnet50", weights=str(path))
        assert len(str(caught.value)) < 700


def test_resnet50_never_waits_for_ever_for_a_download(load_model, other_weights, monkeypatch):
    seen = []

    def get_state_dict(self, **options):
        seen.append((socket.getdefaulttimeout(), options))
        return other_weights[1]

    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", get_state_dict)
    socket.setdefaulttimeout(7)
    try:
        load_model("resnet50")
        after = socket.getdefaulttimeout()
    finally:
        socket.setdefaulttimeout(None)
    assert seen == [(30, {"progress": False, "check_hash": True, "weights_only": True})]
    assert after == 7


def test_efficientnet_recognises_the_cat(load_model, efficientnet, cat):
    import imagenet_client

    model = load_model("efficientnet_lite0")
    prepared = torch.from_numpy(imagenet_client.prepare(cat, efficientnet.preparation))
    with torch.inference_mode():
        scores = model.forward(prepared).numpy()
    assert scores.shape == (1, 1000)
    assert np.isfinite(scores).all()
    assert int(scores[0].argmax()) in CATS
    (_, first), *_ = imagenet_client.best(scores[0], 1)
    assert first > 0.3


def test_efficientnet_wants_the_normalisation_it_was_trained_with(load_model, efficientnet):
    # The running variance of the first batch norm tells what the stem saw in training. Photographs prepared
    # with ImageNet's mean and deviation have 3.4 times as much; prepared as here, 0.7 times.
    import imagenet_client
    from PIL import Image
    from skimage import data

    net = load_model("efficientnet_lite0").model
    photographs = [data.chelsea(), data.coffee(), data.astronaut(), data.rocket()]
    prepared = [imagenet_client.prepare(Image.fromarray(p), efficientnet.preparation) for p in photographs]
    with torch.inference_mode():
        seen = net._conv_stem(torch.from_numpy(np.concatenate(prepared))).var((0, 2, 3))
    alive = net._bn0.running_var > 1e-6
    assert 0.5 < float((seen / net._bn0.running_var)[alive].median()) < 1.5
