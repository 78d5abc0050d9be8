"""The names of the classes."""

import pytest
from torchvision.models import ResNet50_Weights


@pytest.fixture(scope="module")
def labels(examples):
    import imagenet_client

    return imagenet_client.read_labels(examples / "resnet50" / "resnet50_labels.txt")


def test_labels_are_those_of_the_weights_in_upper_case(labels):
    assert labels == [name.upper() for name in ResNet50_Weights.IMAGENET1K_V2.meta["categories"]]


def test_labels_of_the_cats_are_where_every_imagenet_model_has_them(labels):
    assert [labels[i] for i in (281, 282, 285)] == ["TABBY", "TIGER CAT", "EGYPTIAN CAT"]


def test_default_labels_exist_in_any_folder(resnet50, efficientnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert any(path.is_file() for path in resnet50.default_labels)
    assert any(path.is_file() for path in efficientnet.default_labels)


def test_labels_in_the_current_folder_come_first(run_resnet50_client, cat_file, tmp_path):
    (tmp_path / "resnet50_labels.txt").write_text("TOO SHORT\n")
    result = run_resnet50_client("--image", cat_file)
    assert result.stderr.startswith("label file 'resnet50_labels.txt': expected 1000 names")
