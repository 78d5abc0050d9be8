"""The pages about Docker and Kubernetes show what the commands write, and name what is easy to forget."""

import json
import shlex
import textwrap

import pytest
import yaml
from docs_pages import DOCS, blocks_of, code_in, table_with, without_blocks
from typer.testing import CliRunner

from kindaware._deployment.containerfile import Base, make_instructions, write_containerfile
from kindaware._deployment.release import Release
from kindaware.cli._app import app

DOCKER = DOCS / "how-to" / "deploy-in-docker.md"
KUBERNETES = DOCS / "how-to" / "kubernetes.md"
PORTS = {8000, 8001, 8002}
CONFIG = """\
name: "resnet50"
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { kind: KIND_CPU } ]
dynamic_batching { }
"""


def commands(page, program):
    lines = [line for block in blocks_of(page, "console") for line in block.code.splitlines()]
    return [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith(f"$ {program}")]


def test_containerfile_is_the_one_that_the_command_writes():
    (block,) = blocks_of(DOCKER, "dockerfile")
    (command, *_) = commands(DOCKER, "kindaware deploy containerfile")
    release = Release.parse(command[command.index("--triton") + 1])
    base = Base(release.image, release, release.python, "x86_64")
    steps = make_instructions(base, ["kindaware-0.1.0-py3-none-any.whl"])
    assert block.code == write_containerfile(steps, "kindaware deploy containerfile")


def test_docker_build_gets_the_models_that_the_containerfile_copies():
    (block,) = blocks_of(DOCKER, "dockerfile")
    (build,) = commands(DOCKER, "docker build")
    (command, *_) = commands(DOCKER, "kindaware deploy containerfile")
    assert "COPY --from=models . /models" in block.code.splitlines()
    assert build[build.index("--build-context") + 1] == f"models={command[3]}"
    assert build[-1] == command[command.index("--output") + 1]


def test_docker_run_publishes_the_ports_and_has_shared_memory():
    (words,) = [one for one in commands(DOCKER, "docker run") if "--rm" in one]
    published = [words[number + 1] for number, word in enumerate(words) if word == "-p"]
    assert {int(one.split(":")[0]) for one in published} == PORTS
    assert any(word.startswith("--shm-size=") for word in words)
    assert {"--rm", "--gpus"} <= set(words)
    (block,) = blocks_of(DOCKER, "dockerfile")
    (exposed,) = [line.split()[1:] for line in block.code.splitlines() if line.startswith("EXPOSE")]
    assert set(map(int, exposed)) == PORTS


@pytest.mark.parametrize("page", [DOCKER, DOCS / "how-to" / "upgrade-triton.md"])
def test_versions_that_fit_are_those_that_are_locked(page):
    title = "Image" if page == DOCKER else "Triton"
    rows = table_with(page, title)
    for releases, python, numpy in rows:
        for text in (word for word in releases.split() if "." in word):
            release = Release.parse(text)
            assert release.python == python
            assert release.has_numpy_2 == (numpy == "2")
    assert len(rows) == 2


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the command of the page writes for one instance, with the sizes that the page names."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "models/resnet50/1").mkdir(parents=True)
    (folder / "models/resnet50/1/model.py").write_text("class TritonPythonModel: ...\n")
    (folder / "models/resnet50/config.pbtxt").write_text(CONFIG)
    (command, *_) = commands(KUBERNETES, "kindaware deploy kubernetes")
    (sizes,) = [code for code in code_in(without_blocks(KUBERNETES)) if code.startswith("--memory ")]
    words = [*command[1:], *sizes.split(), "--json"]
    words[words.index("models")] = str(folder / "models")
    words[words.index("--output") + 1] = str(folder / "deployment")
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return folder / "deployment", json.loads(result.stdout)


def test_deployment_is_the_one_that_the_command_writes(written):
    folder, _ = written
    shown = [block.code for block in blocks_of(KUBERNETES, "yaml") if "kind: Deployment" in block.code]
    assert shown == [(folder / "base/deployment.yaml").read_text()]


def test_folders_are_those_that_the_command_writes(written):
    _, document = written
    named = {code_in(row[0])[0] for row in table_with(KUBERNETES, "Folder")}
    found = {file.rpartition("/")[0] for file in document["files"]} - {""}
    # The rest is for models with KIND_GPU, and for --heal.
    assert named - found == {"overlays/gpu", "overlays/gpu-mig", "overlays/gpu-mps", "components/heal"}
    assert found <= named


def test_parts_of_the_deployment_that_are_explained_are_in_it(written):
    folder, _ = written
    text = (folder / "base/deployment.yaml").read_text()
    for part, _ in table_with(KUBERNETES, "Part"):
        for code in code_in(part):
            assert code in text


def test_overlay_of_ones_own_is_of_this_base():
    (own,) = [
        yaml.safe_load(block.code)
        for block in blocks_of(KUBERNETES, "yaml")
        if "kind: Kustomization" in textwrap.dedent(block.code)
    ]
    (command, *_) = commands(KUBERNETES, "kindaware deploy kubernetes")
    assert own["resources"] == [f"../{command[command.index('--output') + 1]}/base"]
    assert command[command.index("--image") + 1].startswith(own["images"][0]["name"] + ":")


def test_watch_beside_a_server_sees_its_processes_beats_and_health():
    (block,) = blocks_of(DOCS / "reference" / "commands" / "watch.md", "yaml")
    pod = yaml.safe_load(block.code)["spec"]
    triton, watch = pod["containers"]
    assert pod["shareProcessNamespace"] is True
    assert triton["image"] == watch["image"]
    assert "--model-control-mode=explicit" in triton["args"]
    assert watch["args"][:3] == ["kindaware", "watch", "localhost:8000"]
    assert watch["args"][watch["args"].index("--host") + 1] == "0.0.0.0"
    (beats,) = [one["value"] for one in triton["env"] if one["name"] == "KINDAWARE_BEATS"]
    for container in (triton, watch):
        assert beats in [mount["mountPath"] for mount in container["volumeMounts"]]
    probes = {name: triton[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness")}
    assert probes == {
        "liveness": {"path": "/livez", "port": 8003},
        "readiness": {"path": "/readyz", "port": 8003},
    }
    assert {mount["name"] for one in pod["containers"] for mount in one["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
