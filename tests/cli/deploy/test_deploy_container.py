"""The generated image and Deployment in a real container: podman runs the wheel's server with their limits.

The base is a root file system that debootstrap makes, in place of NVIDIA's image. Torch and numpy are those
of this environment, mounted into the container: an image of its own would need 5 GB more.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from deploy_kit import SIZES, build, deploy_json, write_model
from deploy_wheels import write_wheel

from kindaware._server.location import wheel_package
from kindaware.cli.deploy._quantities import parse_bytes

PROGRAMS = ("podman", "debootstrap", "runc", "catatonit")
PACKAGES = "python3,libpython3.11,python3-pip"
PACKAGES_HERE = Path(yaml.__file__).parents[1]
PROBE = ("python3", "-I", "-S", "/etc/kindaware/probe.py")
OWN_PACKAGES = "/environment"
"""Where the container sees the packages of this environment."""

ASK = """
import json, urllib.request
row = [[1.0] * 1024]
tensors = [{"name": name, "datatype": "FP32", "shape": [1, 1024], "data": row} for name in "AB"]
request = urllib.request.Request(
    "http://127.0.0.1:8000/v2/models/add/infer", json.dumps({"inputs": tensors}).encode()
)
print(json.loads(urllib.request.urlopen(request, timeout=30).read())["outputs"][0]["data"][:2])
"""

KILL = """
import glob, os, signal
for path in glob.glob("/proc/[0-9]*/cmdline"):
    if b"triton_python_backend_stub" in open(path, "rb").read().partition(b"\\0")[0]:
        os.kill(int(path.split("/")[2]), signal.SIGKILL)
        break
"""
HEALTH = """
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://127.0.0.1:8003/healthz", timeout=30).read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
"""

INDEX = """
import urllib.error, urllib.request
for headers in ({}, {"kindaware-admin": "the-pods-id"}):
    request = urllib.request.Request("http://127.0.0.1:8000/v2/repository/index", b"{}", headers)
    try:
        code = urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        code = error.code
    print(code, end="\\n" if headers else " ")
"""

RUNTIME = """\
#!{python}
import json, os, sys

args = sys.argv[1:]
for option, name in (("--bundle", "config.json"), ("--process", "")):
    if option in args:
        path = os.path.join(args[args.index(option) + 1], name).rstrip("/")
        with open(path) as file:
            config = json.load(file)
        config.get("process", config).pop("rlimits", None)
        with open(path, "w") as file:
            json.dump(config, file)
os.execvp("runc", ["runc", *args])
"""
"""runc, without limits of the number of files and processes, which a sandbox may have no right to set."""

pytestmark = [pytest.mark.containers, pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(600)]


def why_not():
    missing = [one for one in PROGRAMS if shutil.which(one) is None]
    if missing:
        return f"no {', no '.join(missing)}: apt-get install {' '.join(PROGRAMS)}"
    if os.geteuid():
        return "debootstrap needs root"
    if sys.version_info[:2] != (3, 11) or wheel_package() is None:
        return "Debian 12 has Python 3.11, and this environment has not, or no server"
    return ""


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    """Run podman with images and containers of its own."""
    if reason := why_not():
        pytest.skip(reason)
    storage = tmp_path_factory.mktemp("podman")
    runtime = storage / "runtime"
    runtime.write_text(RUNTIME.format(python=sys.executable))
    runtime.chmod(0o755)
    command = ["podman", "--root", storage / "root", "--runroot", storage / "run", "--runtime", runtime]
    command += ["--cgroup-manager", "cgroupfs", "--events-backend", "none"]

    def run(*args, check=True, **options):
        done = subprocess.run(
            [*command, *map(str, args)], capture_output=True, text=True, check=False, timeout=300, **options
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    yield run
    run("rm", "--all", "--force", "--time", "1", check=False)
    run("pod", "rm", "--all", "--force", "--time", "1", check=False)
    run("rmi", "--all", "--force", check=False)


@pytest.fixture(scope="module")
def base(podman, tmp_path_factory):
    """An image with the wheel's server where NVIDIA's has its own."""
    root = tmp_path_factory.mktemp("base") / "root"
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root],
        check=True,
        capture_output=True,
        timeout=500,
    )
    package = wheel_package()
    server = root / "opt/tritonserver"
    for name in ("bin", "caches"):
        shutil.copytree(package / "tritonserver" / name, server / name)
    backend = server / "backends/python"
    shutil.copytree(package / "tritonserver/backends/python", backend)
    stub = "triton_python_backend_stub"
    shutil.copy2(package / "tritonserver/python_backend_stubs/3.11" / stub, backend / stub)
    shutil.copytree(package.parent / "nvidia_pytriton.libs", root / "opt/libraries")
    path = "/opt/tritonserver/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    changes = [f"--change=ENV PATH={path}", "--change=ENV LD_LIBRARY_PATH=/opt/libraries"]
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        podman("import", *changes, "-", "localhost/base:24.10", stdin=tar.stdout)
    shutil.rmtree(root)
    return "localhost/base:24.10"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "models"
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def image(podman, base, repository, tmp_path_factory):
    """The image that the generated Containerfile makes."""
    folder = tmp_path_factory.mktemp("image")
    index = folder / "index"
    write_wheel(index, "numpy", "1.26.4")
    write_wheel(index, "torch", "2.9.0", ["numpy"], files={"environment.pth": f"{OWN_PACKAGES}\n"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(index))
        patch.setenv("PIP_CONFIG_FILE", "/dev/null")
        patch.delenv("PIP_CONSTRAINT", raising=False)
        wheel = build_kindaware(folder)
        output = folder / "context"
        args = ["containerfile", repository, "-o", output, "--kindaware", wheel, "--triton", "24.10"]
        deploy_json(*args, "--base", base, "--python", "3.11")
    podman(
        "build",
        *["--isolation", "oci", "--network", "none"],
        *["--build-context", f"models={repository}", "--volume", f"{index}:/index:ro"],
        *["--env", "PIP_NO_INDEX=1", "--env", "PIP_FIND_LINKS=/index"],
        *["-t", "localhost/models:1", "-f", output / "Containerfile", output],
    )
    return "localhost/models:1"


def build_kindaware(folder):
    """Return a wheel of this library; hatchling is installed here, so that pip need not fetch it."""
    source = Path(__file__).resolve().parents[3]
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        source,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    (wheel,) = folder.glob("kindaware-*.whl")
    return wheel


@pytest.fixture(scope="module")
def deployment(image, repository, tmp_path_factory):
    """The folder with the generated manifests."""
    output = tmp_path_factory.mktemp("deployment") / "out"
    args = [
        "kubernetes",
        repository,
        "--image",
        image,
        "-o",
        output,
        "--triton",
        "24.10",
    ]
    deploy_json(*args, "--pause-seconds", "1")
    return output


def options_of(pod):
    """Return the options of `podman run` for what a pod's specification says."""
    (container,) = pod["containers"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    mounts = {one["mountPath"]: volumes[one["name"]] for one in container["volumeMounts"]}
    shm, tmp = mounts["/dev/shm"]["emptyDir"], mounts["/tmp"]["emptyDir"]
    user = pod["securityContext"]
    limits = container["resources"]["limits"]
    options = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges"]
    options += [
        f"--user={user['runAsUser']}:{user['runAsGroup']}",
        f"--shm-size={in_bytes(shm['sizeLimit'])}",
    ]
    options += [
        f"--tmpfs=/tmp:size={in_bytes(tmp['sizeLimit'])}",
        f"--memory={in_bytes(limits['memory'])}",
    ]
    options.append(f"--cpus={limits['cpu']}")
    options += [f"--env={one['name']}={one.get('value', 'the-pods-id')}" for one in container["env"]]
    return options


def in_bytes(quantity):
    return parse_bytes("", quantity)


def wait_until_ready(podman, name, probe):
    deadline = time.monotonic() + 240
    while (asked := podman("exec", name, *probe, check=False)).returncode:
        log = podman("logs", name, check=False).stderr
        assert podman("inspect", "--format", "{{.State.Status}}", name).stdout.strip() == "running", log
        assert time.monotonic() < deadline, f"{asked.stdout}{asked.stderr}{log}"
        time.sleep(0.5)


def test_image_serves_with_the_limits_of_the_deployment(podman, image, deployment):
    pod = yaml.safe_load((deployment / "base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    arguments = [one.replace("$(POD_UID)", "the-pods-id") for one in container["args"]]
    podman(
        *["run", "--detach", "--name", "served", "--network", "none", *options_of(pod)],
        *[
            "--volume",
            f"{PACKAGES_HERE}:{OWN_PACKAGES}:ro",
            "--volume",
            f"{deployment / 'probe'}:/etc/kindaware:ro",
        ],
        *[image, *container["command"], *arguments],
    )
    ready = container["readinessProbe"]["exec"]["command"]
    live = container["livenessProbe"]["exec"]["command"]
    wait_until_ready(podman, "served", ready)
    assert podman("exec", "served", *live).stdout == ""
    assert podman("exec", "served", "python3", "-c", ASK).stdout == "[2.0, 2.0]\n"
    refused = podman("exec", "served", "python3", "-c", INDEX)
    assert refused.stdout == "403 200\n"
    # Another one is missing, as if a stub had died.
    missing = [one.replace("--stubs=2", "--stubs=3") for one in live]
    found = podman("exec", "served", *missing, check=False)
    assert (found.returncode, found.stdout) == (1, "2 of 3 Python stubs run: a model's process has died\n")
    size = podman("exec", "served", "df", "--output=size", "--block-size=1M", "/dev/shm").stdout.split()[1]
    shm = next(one["emptyDir"]["sizeLimit"] for one in pod["volumes"] if one["name"] == "shm")
    assert int(size) * 2**20 == in_bytes(shm)
    assert podman("exec", "served", "id", "-u").stdout == "1000\n"
    assert podman("exec", "served", "touch", "/models/x", check=False).returncode == 1
    started = time.monotonic()
    podman("stop", "--time", str(pod["terminationGracePeriodSeconds"]), "served")
    assert time.monotonic() - started < pod["terminationGracePeriodSeconds"]
    state = json.loads(podman("inspect", "served").stdout)[0]["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)


@contextlib.contextmanager
def played(podman, objects, file):
    """Let podman play a Deployment; yields its containers' specifications, by the names that they run under.

    podman 4.3 makes no memory of `medium: Memory`, gives fsGroup no volume, and replaces no $(POD_UID).
    """
    objects = {one["kind"]: one for one in objects if one["kind"] in ("Deployment", "ConfigMap")}
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    pod["securityContext"] |= {"runAsNonRoot": False, "runAsUser": 0, "runAsGroup": 0}
    pod["volumes"].append({"name": "environment", "hostPath": {"path": str(PACKAGES_HERE)}})
    for container in pod["containers"]:
        container["imagePullPolicy"] = "Never"
        del container["ports"]  # of a network, which there is none here
        mount = {"name": "environment", "mountPath": OWN_PACKAGES, "readOnly": True}
        container["volumeMounts"].append(mount)
    file.write_text(yaml.safe_dump_all(objects.values()))
    podman("kube", "play", "--network", "none", file)
    try:
        prefix = f"{objects['Deployment']['metadata']['name']}-pod-0"
        yield {f"{prefix}-{container['name']}": container for container in pod["containers"]}
    finally:
        podman("kube", "down", file)


def test_podman_plays_the_deployment_as_far_as_it_can(podman, image, deployment, tmp_path):
    with played(podman, build(deployment / "base"), tmp_path / "pod.yaml") as containers:
        ((name, container),) = containers.items()
        wait_until_ready(podman, name, container["readinessProbe"]["exec"]["command"])
        assert podman("exec", name, "python3", "-c", ASK).stdout == "[2.0, 2.0]\n"
        assert podman("healthcheck", "run", name).returncode == 0  # the liveness probe
        host = json.loads(podman("inspect", name).stdout)[0]["HostConfig"]
        assert host["ReadonlyRootfs"] is True
        assert host["Memory"] == in_bytes(container["resources"]["limits"]["memory"])
        assert host["CpuQuota"] == 100_000 * int(container["resources"]["limits"]["cpu"])


def test_sidecar_loads_a_dead_model_again(podman, image, repository, tmp_path):
    args = ["kubernetes", repository, "--image", image, "-o", tmp_path / "out", "--triton", "24.10", *SIZES]
    deploy_json(*args, "--heal", "--hang-seconds", "60")
    objects = build(tmp_path / "out/base")
    with played(podman, objects, tmp_path / "pod.yaml") as containers:
        triton, watch = containers
        wait_until_ready(podman, triton, [*PROBE, "ready", "--stubs=2", "add"])

        def health():
            return json.loads(podman("exec", watch, "python3", "-c", HEALTH).stdout)["models"]["add"]

        wait_until(lambda: health()["state"] == "ready")
        podman("exec", triton, "python3", "-c", KILL)
        wait_until(lambda: health()["heals"] == 1)
        assert (health()["state"], health()["deaths"]) == ("ready", 1)
        assert podman("exec", triton, "python3", "-c", ASK).stdout == "[2.0, 2.0]\n"


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)
