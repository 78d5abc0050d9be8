"""A client's options: their defaults, and label files that don't fit."""

import pytest
from client_kit import assert_fails


@pytest.mark.parametrize("option", ["./resnet50_labels.txt", "elsewhere.txt"])
def test_client_named_label_file_missing_fails(run_client, cat_file, option):
    # Even where the name is that of the default: the file beside client.py is not what was asked for.
    result = run_client("--image", cat_file, "--label_file", option)
    assert_fails(result, subject="label file '", got="FileNotFoundError")


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("TABBY\n" * 999, "999 lines, 0 of them empty"),
        ("TABBY\n" * 1001, "1001 lines"),
        ("TABBY\n\n" * 499 + "TABBY\n" * 2, "1000 lines, 499 of them empty"),
        ("", "0 lines"),
        ("\nTABBY" * 1000, "1001 lines, 1 of them empty"),
    ],
    ids=["too few", "too many", "gaps", "empty", "shifted"],
)
def test_client_label_file_of_another_length_fails(run_resnet50_client, cat_file, tmp_path, text, got):
    file = tmp_path / "labels.txt"
    file.write_text(text)
    result = run_resnet50_client("--image", cat_file, "--label_file", file)
    assert_fails(result, subject=f"label file '{file}'", got=got)


def test_client_label_file_that_is_no_text_fails(run_resnet50_client, cat_file):
    result = run_resnet50_client("--image", cat_file, "--label_file", cat_file)
    assert_fails(result, subject=f"label file '{cat_file}'", got="UnicodeDecodeError")


def test_client_unknown_option_fails_without_traceback(run_resnet50_client):
    result = run_resnet50_client("--modle_name", "resnet50")
    assert result.returncode == 2
    assert "unrecognized arguments" in result.stderr
    assert "Traceback" not in result.stderr


def test_client_options_and_defaults_are_those_users_know(resnet50):
    import imagenet_client

    args = imagenet_client.parse_args(resnet50, [])
    assert (args.model_name, args.url, args.verbose) == ("resnet50", "localhost:8000", False)
    assert args.image_url == "http://images.cocodataset.org/test2017/000000557146.jpg"
    assert (args.image, args.label_file) == (None, None)
    assert str(resnet50.default_labels[0]) == "resnet50_labels.txt"
    assert imagenet_client.parse_args(resnet50, ["-v"]).verbose
    assert imagenet_client.parse_args(resnet50, ["--verbose"]).verbose
