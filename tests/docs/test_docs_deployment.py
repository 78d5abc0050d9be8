"""The Dockerfile and the Kubernetes manifest of the how-to guides: form, and what is easy to forget."""

import shlex

import yaml
from docs_pages import DOCS, blocks_of

DOCKER = DOCS / "how-to" / "deploy-in-docker.md"
KUBERNETES = DOCS / "how-to" / "kubernetes.md"
PORTS = {8000, 8001, 8002}


def dockerfile():
    (block,) = blocks_of(DOCKER, "dockerfile")
    lines = [line for line in block.code.splitlines() if line and not line.startswith("#")]
    return [line.split(maxsplit=1) for line in lines]


def test_dockerfile_has_instructions_that_docker_knows():
    assert {instruction for instruction, _ in dockerfile()} == {"FROM", "RUN", "COPY", "EXPOSE", "CMD"}


def test_dockerfile_installs_torch_before_kindaware_and_starts_the_server_on_its_models():
    steps = [rest for _, rest in dockerfile()]
    installed = next(one for one in steps if "pip install" in one)
    assert installed.startswith("pip install --no-cache-dir torch==")
    assert "pip install --no-cache-dir /opt/kindaware" in steps
    copied = next(rest for instruction, rest in dockerfile() if instruction == "COPY" and "models" in rest)
    command = yaml.safe_load(steps[-1])
    assert command == ["tritonserver", f"--model-repository={copied.split()[1]}"]
    assert {int(port) for rest in steps if rest.startswith("8000") for port in rest.split()} == PORTS


def test_docker_run_publishes_the_ports_and_has_shared_memory():
    lines = [line for block in blocks_of(DOCKER, "console") for line in block.code.splitlines()]
    words = shlex.split(next(line for line in lines if line.startswith("$ docker run")))
    published = [words[number + 1] for number, word in enumerate(words) if word == "-p"]
    assert {int(one.split(":")[0]) for one in published} == PORTS
    assert any(word.startswith("--shm-size=") for word in words)
    assert {"--rm", "--gpus"} <= set(words)


def manifest():
    (block,) = blocks_of(KUBERNETES, "yaml")
    return {one["kind"]: one for one in yaml.safe_load_all(block.code)}


def test_pod_has_shared_memory_probes_and_time_to_end():
    pod = manifest()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    (volume,) = pod["volumes"]
    assert mount == {"name": volume["name"], "mountPath": "/dev/shm"}
    assert volume["emptyDir"]["medium"] == "Memory"
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/v2/health/ready", "port": "http"}
    assert container["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    (timeout,) = [one for one in container["args"] if one.startswith("--exit-timeout-secs=")]
    _, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] > int(timeout.split("=")[1]) + int(pause)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_service_and_deployment_belong_together():
    deployment, service = manifest()["Deployment"]["spec"], manifest()["Service"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == service["selector"] == labels
    (container,) = deployment["template"]["spec"]["containers"]
    named = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert named == {one["name"]: one["port"] for one in service["ports"]}
    assert set(named.values()) == PORTS
