"""The kustomize base and its overlays: what is in them, that Kubernetes takes them, and what is refused."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from deploy_kit import CONFIG, SIZES, build, deploy, deploy_json, write_model
from typer.testing import CliRunner

from kindaware._deployment.autoscaling import ADAPTER_RULE, METRIC
from kindaware._deployment.pod import RESTRICTED
from kindaware.cli._app import app

OWN_KINDS = {"ServiceMonitor", "ScaledObject", "ServingRuntime", "InferenceService"}
"""Of other projects than Kubernetes, whose schemas kubernetes-validate doesn't have."""


@pytest.fixture
def repository(tmp_path):
    write_model(tmp_path / "models")
    return tmp_path / "models"


def write(repository, *args, sizes=SIZES):
    output = repository.parent / "out"
    result = deploy(
        "kubernetes",
        repository,
        "--image",
        "registry.example.com/team/my_models:1",
        "-o",
        output,
        *sizes,
        *args,
    )
    assert result.exit_code == 0, result.output
    return output


def read(path):
    return yaml.safe_load(path.read_text())


def pod_of(output):
    return read(output / "base/deployment.yaml")["spec"]["template"]["spec"]


def container_of(output):
    (container,) = pod_of(output)["containers"]
    return container


def test_pod_has_what_is_easy_to_forget(repository):
    output = write(repository)
    pod, container = pod_of(output), container_of(output)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "256Mi"}
    assert volumes[mounts["/tmp"]]["emptyDir"] == {"sizeLimit": "1Gi"}
    assert (
        container["resources"]["requests"]
        == container["resources"]["limits"]
        == {"cpu": "3", "memory": "2Gi"}
    )


def test_grace_is_longer_than_the_pause_and_the_drain(repository):
    output = write(repository, "--drain-seconds", "100", "--pause-seconds", "20")
    container = container_of(output)
    assert "--exit-timeout-secs=100" in container["args"]
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "20"]
    assert pod_of(output)["terminationGracePeriodSeconds"] > 120


def test_rollout_takes_no_pod_away_before_another_is_ready(repository):
    strategy = read(write(repository) / "base/deployment.yaml")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


@pytest.mark.parametrize(
    ("release", "is_asked_by_http"), [("24.10", False), ("26.01", False), ("26.03", False), ("26.04", True)]
)
def test_readiness_asks_by_http_only_from_the_release_whose_server_asks_its_models(
    repository, release, is_asked_by_http
):
    container = container_of(write(repository, "--triton", release))
    probe = container["readinessProbe"]
    if is_asked_by_http:
        assert probe["httpGet"]["path"] == "/v2/health/ready"
    else:
        assert probe["exec"]["command"][-3:] == ["ready", "--stubs=2", "add"]
    assert container["livenessProbe"]["exec"]["command"][-2:] == ["live", "--stubs=2"]


@pytest.mark.parametrize("probe", ["readinessProbe", "livenessProbe"])
def test_command_of_a_probe_is_one_that_the_probe_takes(repository, probe):
    output = write(repository, "--triton", "24.10")
    command = container_of(output)[probe]["exec"]["command"]
    assert command[:4] == ["python3", "-I", "-S", "/etc/kindaware/probe.py"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", output / "probe/probe.py", *command[4:], "--port=1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("/v2/health/live has no answer: ConnectionRefusedError")


def test_startup_probe_waits_as_long_as_models_may_load(repository):
    probe = container_of(write(repository, "--startup-seconds", "901"))["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= 901
    deployment = read(repository.parent / "out/base/deployment.yaml")
    assert deployment["spec"]["progressDeadlineSeconds"] > 901


def test_arguments_restrict_what_harms_others_to_the_pods_own_id(repository):
    container = container_of(write(repository))
    assert f"--http-restricted-api={RESTRICTED}:kindaware-admin=$(POD_UID)" in container["args"]
    assert f"--grpc-restricted-protocol={RESTRICTED}:kindaware-admin=$(POD_UID)" in container["args"]
    (uid,) = [one for one in container["env"] if one["name"] == "POD_UID"]
    assert uid["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"


def test_services_select_the_pods_and_the_one_of_grpc_is_headless(repository):
    output = write(repository)
    labels = read(output / "base/deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    http, grpc = read(output / "base/service.yaml"), read(output / "base/service-grpc.yaml")
    assert http["spec"]["selector"] == grpc["spec"]["selector"] == labels
    assert grpc["spec"]["clusterIP"] == "None"
    assert [one["port"] for one in grpc["spec"]["ports"]] == [8001]
    monitor = read(output / "base/service-monitor.yaml")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= http["metadata"]["labels"].items()
    assert (
        not monitor["selector"]["matchLabels"].items() <= grpc["metadata"]["labels"].items()
    )  # scraped once
    assert monitor["endpoints"][0]["port"] in [one["name"] for one in http["spec"]["ports"]]


def test_sequences_keep_a_client_with_its_pod(repository):
    sequences = CONFIG.replace("dynamic_batching { }", "sequence_batching { }")
    write_model(repository, "counter", sequences)
    assert read(write(repository) / "base/service.yaml")["spec"]["sessionAffinity"] == "ClientIP"


def test_models_without_sequences_are_balanced_by_connection(repository):
    assert "sessionAffinity" not in read(write(repository) / "base/service.yaml")["spec"]


@pytest.mark.parametrize("kind", ["hpa", "keda"])
def test_autoscaler_targets_the_deployment_and_its_replicas_are_nobody_elses(repository, kind):
    output = write(repository, "--autoscaler", kind, "--replicas", "3", "--pending", "5")
    autoscaler = read(output / "base/autoscaler.yaml")["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == "my-models"
    assert "replicas" not in read(output / "base/deployment.yaml")["spec"]
    if kind == "hpa":
        assert (autoscaler["minReplicas"], autoscaler["maxReplicas"]) == (3, 12)
        (metric,) = autoscaler["metrics"]
        assert metric["pods"]["metric"]["name"] == METRIC
        assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "5"}
        assert read(output / "prometheus-adapter.yaml")["rules"]["custom"] == [ADAPTER_RULE]
    else:
        assert (autoscaler["minReplicaCount"], autoscaler["maxReplicaCount"]) == (3, 12)
        assert autoscaler["triggers"][0]["metadata"]["threshold"] == "5"
        assert not (output / "prometheus-adapter.yaml").exists()


def test_without_an_autoscaler_the_deployment_has_its_replicas(repository):
    output = write(repository, "--autoscaler", "none", "--replicas", "3")
    assert read(output / "base/deployment.yaml")["spec"]["replicas"] == 3
    assert not (output / "base/autoscaler.yaml").exists()
    assert "autoscaler.yaml" not in read(output / "base/kustomization.yaml")["resources"]


def test_pending_requests_are_a_batch_for_each_instance(repository):
    write_model(repository, "small", CONFIG.replace("max_batch_size: 8", "max_batch_size: 4"))
    args = ["kubernetes", repository, "--image", "m:1", "-o", repository.parent / "out", *SIZES]
    assert deploy_json(*args)["pending_requests"] == 2 * 8


def test_models_on_gpus_get_overlays_whose_patches_fit(repository):
    write_model(repository, "on_gpu", CONFIG.replace("KIND_CPU count: 2", "KIND_GPU count: 1"))
    output = write(repository)
    assert sorted(one.name for one in (output / "overlays").iterdir()) == [
        "gpu",
        "gpu-mig",
        "gpu-mps",
        "kserve",
    ]
    resources = {"gpu": "nvidia.com/gpu", "gpu-mig": "nvidia.com/mig-1g.10gb", "gpu-mps": "nvidia.com/gpu"}
    for name, resource in resources.items():
        (deployment,) = [one for one in build(output / "overlays" / name) if one["kind"] == "Deployment"]
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["resources"]["limits"] == {"cpu": "4", "memory": "2Gi", resource: "1"}
        assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
        has_own_shm = "/dev/shm" in [one["mountPath"] for one in container["volumeMounts"]]
        assert has_own_shm == ("shm" in [one["name"] for one in pod["volumes"]]) == (name != "gpu-mps")
    runtime = read(output / "overlays/kserve/runtime.yaml")
    assert runtime["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_models_on_the_cpu_get_no_overlays_for_gpus(repository):
    assert [one.name for one in (write(repository) / "overlays").iterdir()] == ["kserve"]


def test_instances_count_on_each_gpu_of_a_pod(repository):
    write_model(repository, "on_gpu", CONFIG.replace("KIND_CPU count: 2", "KIND_GPU count: 3"))
    probe = container_of(write(repository, "--gpus", "2"))["livenessProbe"]
    assert probe["exec"]["command"][-1] == f"--stubs={2 + 2 * 3}"


def test_kserve_runs_the_same_container_in_standard_mode(repository):
    output = write(repository, "--triton", "24.10")
    runtime = read(output / "overlays/kserve/runtime.yaml")
    service = read(output / "overlays/kserve/inference-service.yaml")
    (container,) = runtime["spec"]["containers"]
    assert {**container, "name": "triton"} == container_of(output)
    assert runtime["spec"]["volumes"] == pod_of(output)["volumes"]
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"
    predictor = service["spec"]["predictor"]
    assert predictor["model"]["runtime"] == runtime["metadata"]["name"]
    formats = [one["name"] for one in runtime["spec"]["supportedModelFormats"]]
    assert predictor["model"]["modelFormat"]["name"] in formats
    pod = pod_of(output)
    for field in ("terminationGracePeriodSeconds", "securityContext", "automountServiceAccountToken"):
        assert predictor[field] == pod[field]


@pytest.mark.parametrize("options", [(), ("--heal", "--hang-seconds", "30")])
@pytest.mark.parametrize("folder", ["base", "overlays/gpu", "overlays/gpu-mig", "overlays/gpu-mps"])
def test_kubernetes_takes_every_object_without_a_warning(repository, folder, options):
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    write_model(repository, "on_gpu", CONFIG.replace("KIND_CPU", "KIND_GPU"))
    objects = build(write(repository, "--triton", "24.10", "--namespace", "models", *options) / folder)
    checked = [one for one in objects if one["kind"] not in OWN_KINDS]
    assert len(checked) == 6
    for one in checked:
        assert one["metadata"]["namespace"] == "models"
        for version in ("1.30", validate.latest_version()):
            validate.validate(one, version, strict=True)


def healed(repository, *args, folder="base", release="24.10"):
    """Return the pod with the sidecar, as kustomize makes it, and the server and the sidecar out of it."""
    objects = build(write(repository, "--triton", release, "--heal", *args) / folder)
    (pod,) = [one["spec"]["template"]["spec"] for one in objects if one["kind"] == "Deployment"]
    server, watch = pod["containers"]
    assert (server["name"], watch["name"]) == ("triton", "watch")
    return pod, server, watch


@pytest.mark.parametrize("release", ["24.10", "26.07"])
def test_sidecar_may_load_models_and_answers_the_probes_of_the_server(repository, release):
    pod, server, watch = healed(repository, release=release)
    plain = container_of(repository.parent / "out")
    assert pod["shareProcessNamespace"] is True
    assert server["args"] == [*plain["args"], "--model-control-mode=explicit", "--load-model=*"]
    assert server["startupProbe"] == plain["startupProbe"]
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        assert "exec" not in server[probe]
        assert server[probe]["httpGet"] == {"path": path, "port": 8003}
    assert watch["ports"][0]["containerPort"] == 8003
    (header,) = [one.partition("=")[2] for one in watch["args"] if one.startswith("--header=")]
    assert f"--http-restricted-api={RESTRICTED}:{header}" in server["args"]
    assert watch["env"] == plain["env"]
    for field in ("image", "securityContext"):
        assert watch[field] == server[field]
    assert watch["resources"]["requests"] == watch["resources"]["limits"]
    assert "volumes" not in pod or "beats" not in [one["name"] for one in pod["volumes"]]


def test_command_of_the_sidecar_is_one_that_watch_takes(repository, monkeypatch):
    given = []
    monkeypatch.setattr("kindaware.cli.watch._command.watch_server", given.append)
    _, _, watch = healed(repository, "--hang-seconds", "30")
    assert watch["command"] == ["kindaware"]
    result = CliRunner().invoke(app, watch["args"])
    assert result.exit_code == 0, result.output
    (options,) = given
    assert (options.url, options.host, options.port) == ("localhost:8000", "0.0.0.0", 8003)
    assert (options.headers, options.hang_seconds) == (("kindaware-admin=$(POD_UID)",), 30.0)
    assert (options.grpc_url, options.metrics_url) == ("localhost:8001", "localhost:8002")


def test_instances_tell_the_sidecar_since_when_their_code_runs(repository):
    pod, server, watch = healed(repository, "--hang-seconds", "30")
    (beats,) = [one["value"] for one in server["env"] if one["name"] == "KINDAWARE_BEATS"]
    for container in (server, watch):
        assert {"name": "beats", "mountPath": beats} in container["volumeMounts"]
    assert "beats" in [one["name"] for one in pod["volumes"]]
    assert "/dev/shm" in [one["mountPath"] for one in server["volumeMounts"]]


def test_deaths_and_heals_are_scraped(repository):
    objects = build(write(repository, "--heal") / "base")
    (monitor,) = [one for one in objects if one["kind"] == "ServiceMonitor"]
    assert [one.get("targetPort", one.get("port")) for one in monitor["spec"]["endpoints"]] == [
        "metrics",
        8003,
    ]


def test_overlays_for_gpus_have_the_sidecar_too(repository):
    write_model(repository, "on_gpu", CONFIG.replace("KIND_CPU count: 2", "KIND_GPU count: 1"))
    _, server, watch = healed(repository, folder="overlays/gpu")
    assert server["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in watch["resources"]["limits"]


def test_without_heal_there_is_no_component(repository):
    output = write(repository)
    assert not (output / "components").exists()
    assert "components" not in read(output / "base/kustomization.yaml")


def test_kserve_overlay_builds_with_the_probe_that_it_mounts(repository):
    objects = build(write(repository) / "overlays/kserve")
    (config,) = [one for one in objects if one["kind"] == "ConfigMap"]
    ast.parse(config["data"]["probe.py"])
    (runtime,) = [one for one in objects if one["kind"] == "ServingRuntime"]
    named = [one["configMap"]["name"] for one in runtime["spec"]["volumes"] if "configMap" in one]
    assert named == [config["metadata"]["name"]]


def test_queries_are_ones_that_prometheus_can_read(repository, tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: apt-get install prometheus")
    output = write(repository, "--autoscaler", "keda", "--namespace", "models")
    scaled = read(output / "base/autoscaler.yaml")["spec"]["triggers"][0]["metadata"]["query"]
    predictor = read(output / "overlays/kserve/inference-service.yaml")["spec"]["predictor"]
    kserve = predictor["autoScaling"]["metrics"][0]["external"]["metric"]["query"]
    adapter = ADAPTER_RULE["metricsQuery"]
    for template, value in (
        ("<<.Series>>", METRIC),
        ("<<.LabelMatchers>>", 'namespace="models",pod=~"a|b"'),
        ("<<.GroupBy>>", "pod"),
    ):
        assert template in adapter
        adapter = adapter.replace(template, value)
    rules = [{"record": f"q{n}", "expr": query} for n, query in enumerate((scaled, kserve, adapter))]
    rules.append({"record": "series", "expr": ADAPTER_RULE["seriesQuery"]})
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 rules found" in done.stdout


def test_name_is_the_images_without_its_registry_and_tag(repository):
    assert read(write(repository) / "base/deployment.yaml")["metadata"]["name"] == "my-models"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--name", "My_Models"), "--name: expected at most 53 lower-case letters"),
        (("--namespace", "-"), "--namespace: expected at most 53 lower-case letters"),
        (("--max-replicas", "1"), "--max-replicas: expected 2 or more, as --replicas says, got 1"),
        (("--triton", "24.11"), "--triton: expected a release from 23.05 on whose Python is known"),
        (("--triton", "2.51.0"), "--triton: expected a release from 23.05 on whose Python is known"),
        (("--hang-seconds", "9"), "--hang-seconds: expected --heal with it, got none; add it, or leave this"),
        (("--memory", "2 GB"), "--memory: expected a size, such as 512Mi or 2Gi, got '2 GB'"),
        (("--memory", "128Mi"), "--memory: expected more than the 256 MiB of /dev/shm, which it includes"),
    ],
)
def test_wrong_option_is_one_line_and_writes_nothing(repository, args, expected):
    output = repository.parent / "out"
    result = deploy("kubernetes", repository, "--image", "m:1", "-o", output, *SIZES, *args)
    assert result.exit_code == 2
    assert expected in result.output
    assert len(result.output.splitlines()) == 1
    assert not output.exists()


def test_files_that_are_there_are_kept_unless_forced(repository):
    output = write(repository)
    result = deploy("kubernetes", repository, "--image", "m:2", "-o", output, *SIZES)
    assert result.exit_code == 1
    assert "--force" in result.output
    assert "my_models:1" in container_of(output)["image"]
    write(repository, "--force", "--replicas", "4")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "TYPE_FP32 dims: [ 1024 ] }, {",
            "TYPE_FP32 dims: [ -1 ] }, {",
            "model 'add' input 'A': expected the largest sizes of a row, for the size of /dev/shm, "
            "got dims [-1]; pass --shape A:512, or the size itself: --shm-size 1Gi",
        ),
        (
            'output [ { name: "SUM" data_type: TYPE_FP32',
            'output [ { name: "SUM" data_type: TYPE_STRING',
            "model 'add' output 'SUM': expected the length of its longest text, for the size of /dev/shm, "
            "got a text of any length; pass --text-bytes 4096, or the size itself: --shm-size 1Gi",
        ),
    ],
)
def test_size_that_nobody_knows_is_asked_for(repository, monkeypatch, old, new, expected):
    monkeypatch.setattr("kindaware.cli.deploy._needs._try", lambda *_: None)
    assert old in CONFIG
    (repository / "add/config.pbtxt").write_text(CONFIG.replace(old, new))
    result = deploy("kubernetes", repository, "--image", "m:1", "-o", repository.parent / "out")
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].endswith(expected)


def test_needs_are_measured_and_counted(repository):
    args = ["kubernetes", repository, "--image", "m:1", "-o", repository.parent / "out"]
    document = deploy_json(*args)
    (model,) = document["models"]
    assert (model["name"], model["processes"], model["rows"]) == ("add", 2, 8)
    assert model["batch_bytes"] == 8 * 3 * 1024 * 4
    assert 50e6 < model["peak_bytes"] < 4e9  # a process with torch in it
    assert document["shm_bytes"] == 64 * 2**20
    assert document["memory_bytes"] > 2 * model["peak_bytes"] + document["shm_bytes"]
    assert document["cores"] == 3
    assert Path(document["folder"], "base/kustomization.yaml").is_file()


def test_large_batches_make_a_large_shm(repository, monkeypatch):
    monkeypatch.setattr("kindaware.cli.deploy._needs._try", lambda *_: None)
    (repository / "add/config.pbtxt").write_text(CONFIG.replace("1024", "1048576"))
    args = ["kubernetes", repository, "--image", "m:1", "-o", repository.parent / "out"]
    batch = 8 * 3 * 4 * 2**20
    assert 2 * 2 * batch < deploy_json(*args)["shm_bytes"] <= 2 * 2 * batch + 64 * 2**20


def test_model_that_does_not_load_is_reported_with_its_error(repository):
    (repository / "add/1/model.py").write_text("raise ValueError('no weights here')")
    result = deploy("kubernetes", repository, "--image", "m:1", "-o", repository.parent / "out")
    assert result.exit_code == 1
    assert (
        "model 'add': expected one that loads and answers, to see what it needs, got ValueError"
        in result.output
    )
    assert "no weights here" in result.output
