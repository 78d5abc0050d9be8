"""The Containerfile and its lock: what is in them, for which Python, and what is refused."""

import hashlib
import json

import pytest
from deploy_kit import deploy, deploy_json, write_model
from deploy_wheels import write_wheel

from kindaware._deployment.release import Release


@pytest.fixture
def index(tmp_path, monkeypatch):
    """All packages that there are."""
    folder = tmp_path / "index"
    for version in ("1.26.4", "2.1.0"):
        write_wheel(folder, "numpy", version)
    for version in ("2.4.0", "2.9.0"):
        write_wheel(folder, "torch", version, ["numpy"])
    write_wheel(folder, "of_models", "7", ["helper>=1"])
    write_wheel(folder, "helper", "1.5")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def repository(tmp_path):
    write_model(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def kindaware(tmp_path):
    return write_wheel(tmp_path / "built", "kindaware", "0.1.0", ["torch>=2.4", "numpy"])


def instructions(output):
    lines = (output / "Containerfile").read_text().splitlines()
    return [line.split(maxsplit=1) for line in lines if not line.startswith("#")]


@pytest.mark.parametrize(
    ("release", "image", "numpy"),
    [("24.10", "24.10-py3", "1.26.4"), ("25.06", "25.06-py3", "2.1.0")],
)
def test_lock_has_what_fits_the_release(repository, index, kindaware, tmp_path, release, image, numpy):
    output = tmp_path / "image"
    needed = tmp_path / "needed.txt"
    needed.write_text("of_models\n")
    document = deploy_json(
        *[
            "containerfile",
            repository,
            "-o",
            output,
            "--triton",
            release,
            "--kindaware",
            kindaware,
            "-r",
            needed,
        ]
    )
    assert document["packages"] == {
        "helper": "1.5",
        "kindaware": "0.1.0",
        "numpy": numpy,
        "of_models": "7",
        "torch": "2.9.0",
    }
    assert instructions(output)[:2] == [
        ["ARG", f"BASE=nvcr.io/nvidia/tritonserver:{image}"],
        ["FROM", "${BASE}"],
    ]


def test_lock_has_what_an_extra_needs(repository, index, tmp_path):
    kindaware = write_wheel(tmp_path / "built", "kindaware", "0.1.0", ["numpy"], extras={"cli": "helper"})
    args = ["containerfile", repository, "--kindaware", kindaware, "-o"]
    assert "helper" not in deploy_json(*args, tmp_path / "plain")["packages"]
    found = deploy_json(*args, tmp_path / "image", "--extra", "cli")
    assert found["packages"]["helper"] == "1.5"
    assert f"/{kindaware.name} --hash=sha256:" in (tmp_path / "image/requirements.lock").read_text()
    result = deploy(*args, tmp_path / "other", "--extra", "clie")
    assert result.exit_code == 2
    assert "--extra clie: expected one of cli, got another name; correct it" in result.output
    assert not (tmp_path / "other").exists()


def test_lock_names_each_file_by_its_hash(repository, index, kindaware, tmp_path):
    output = tmp_path / "image"
    deploy_json("containerfile", repository, "-o", output, "--kindaware", kindaware)
    lines = [one for one in (output / "requirements.lock").read_text().splitlines() if one[0] != "#"]
    for line in lines:
        what, _, sha256 = line.partition(" --hash=sha256:")
        if what.startswith("/"):
            assert what == f"/opt/kindaware/{kindaware.name}"
            file = output / kindaware.name
        else:
            name, _, version = what.partition("==")
            file = index / f"{name}-{version}-py3-none-any.whl"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256
    assert len(lines) == 3
    (install,) = [rest for name, rest in instructions(output) if name == "RUN"]
    assert "--require-hashes --no-deps" in install or "--no-deps --require-hashes" in install


def test_image_runs_as_a_user_without_rights_on_a_copy_of_the_models(repository, index, kindaware, tmp_path):
    output = tmp_path / "image"
    deploy_json("containerfile", repository, "-o", output, "--kindaware", kindaware)
    steps = instructions(output)
    assert ["USER", "1000:1000"] in steps
    assert ["COPY", "--from=models . /models"] in steps
    name, command = steps[-1]
    assert name == "CMD"
    assert json.loads(command) == ["tritonserver", "--model-repository=/models"]


def test_another_base_has_a_python_of_its_own(repository, index, kindaware, tmp_path):
    output = tmp_path / "image"
    args = ["containerfile", repository, "-o", output, "--kindaware", kindaware, "--base", "own:1"]
    deploy_json(*args, "--python", "3.11")
    assert instructions(output)[0] == ["ARG", "BASE=own:1"]
    assert "for Python 3.11 on x86_64" in (output / "requirements.lock").read_text()


def test_packages_that_fit_nothing_are_pips_error_in_one_line(repository, index, kindaware, tmp_path):
    needed = tmp_path / "needed.txt"
    needed.write_text("torch<2\n")
    output = tmp_path / "image"
    result = deploy("containerfile", repository, "-o", output, "--kindaware", kindaware, "-r", needed)
    assert result.exit_code == 1
    assert "pip install: expected packages that fit the image, got ERROR: " in result.output
    assert not output.exists()


@pytest.mark.parametrize(
    ("args", "code", "expected"),
    [
        (
            ("--python", "3.11"),
            2,
            "--python: expected a version such as 3.11, of the image that --base names, got no",
        ),
        (("--python", "11", "--base", "own:1"), 2, "--python: expected a version such as 3.11"),
        (("--triton", "23.04"), 2, "--triton: expected a release from 23.05 on"),
    ],
)
def test_wrong_option_of_containerfile_is_one_line(repository, tmp_path, args, code, expected):
    result = deploy("containerfile", repository, "-o", tmp_path / "image", *args)
    assert result.exit_code == code
    assert expected in result.output
    assert len(result.output.splitlines()) == 1


def test_models_directory_is_refused_for_the_repository_above_it(repository, tmp_path):
    result = deploy("containerfile", repository / "add", "-o", tmp_path / "image")
    assert result.exit_code == 1
    assert f"pass the directory above it, {repository}" in result.output


@pytest.mark.parametrize(
    ("text", "python", "numpy", "asks"),
    [
        ("23.05", "3.10", "numpy<2", False),
        ("24.10", "3.10", "numpy<2", False),
        ("24.12", "3.12", "numpy>=2", False),
        ("26.03", "3.12", "numpy>=2", False),
        ("26.04", "3.12", "numpy>=2", True),
    ],
)
def test_release_says_what_depends_on_it(text, python, numpy, asks):
    release = Release.parse(text)
    assert (release.python, release.numpy, release.asks_models) == (python, numpy, asks)
    assert release.image == f"nvcr.io/nvidia/tritonserver:{text}-py3"
