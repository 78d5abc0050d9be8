"""Models without torch, a server that many tests share, and a look at processes and shared memory."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from kindaware.testing import TritonServer

CONFIG = """
backend: "python"
max_batch_size: 0
input [ { name: "X", data_type: TYPE_FP32, dims: [ -1 ] } ]
output [ { name: "Y", data_type: TYPE_FP32, dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU, count: COUNT } ]
"""

ECHO = """
import json, os, sys
import numpy
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        with open("/proc/self/maps") as maps:
            libraries = sorted({line.split()[-1] for line in maps if "libpython" in line})
        found = {
            "version": sys.version, "prefix": sys.prefix, "libraries": libraries, "numpy": numpy.__version__,
            "numpy_file": numpy.__file__, "ld": os.environ.get("LD_LIBRARY_PATH", ""),
        }
        print("PROBE " + json.dumps(found), flush=True)

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("Y", pb_utils.get_input_tensor_by_name(request, "X").as_numpy())]
            )
            for request in requests
        ]
"""

READY_LINE = (
    "kindaware instance {name} ready: kind CPU, device cpu, threads 1 (2 cores / 2 instances), "
    "precision 32-true, load 0.10 s, warm-up 0.01 s (batch sizes 1)"
)


@pytest.fixture(scope="session")
def write_model():
    """Writes a model into a repository, which is made."""

    def write(repository, name, source=ECHO, count=1, config=CONFIG):
        version = Path(repository, name, "1")
        version.mkdir(parents=True)
        if source is not None:
            (version / "model.py").write_text(textwrap.dedent(source))
        if config is not None:
            (version.parent / "config.pbtxt").write_text(config.replace("COUNT", str(count)))
        return version.parent

    return write


@pytest.fixture(scope="session")
def reporting_source():
    """An echo model that logs what a kindaware instance logs."""
    line = READY_LINE.format(name="{args['model_instance_name']}")
    return ECHO.replace('print("PROBE', f'pb_utils.Logger.log_info(f"{line}")\n        print("PROBE')


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory, write_model, reporting_source):
    """A server on two repositories, one of them with a blank in its path; tests leave it as they find it."""
    plain, blank = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("with blank") / "a b"
    write_model(plain, "echo", reporting_source, count=2)
    write_model(blank, "other")
    with TritonServer([plain, blank]) as server:
        yield server


@pytest.fixture(scope="session")
def find_processes():
    """Finds the processes that have a text in their command line, but for this one."""

    def find(text):
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    command = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if text.encode() in command:
                    found.append(int(entry.name))
        return found

    return find


@pytest.fixture(scope="session")
def find_remains(find_processes):
    """Everything on this machine that bears the name of a server's directory."""

    def find(directory):
        name = Path(directory).name
        remains = [f"process {pid}" for pid in find_processes(name)]
        remains += [str(path) for path in Path("/dev/shm").glob(f"{name}*")]
        return remains + ([str(directory)] if Path(directory).exists() else [])

    return find


@pytest.fixture(scope="session")
def wait_for():
    """Waits until a condition holds, and says whether it did."""

    def wait(condition, seconds=15.0):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    return wait


@pytest.fixture
def start():
    """Starts the command in a session of its own; kills it in the end if it is still there."""
    started = []

    def start(*args):
        process = subprocess.Popen(
            [sys.executable, "-m", "kindaware.cli", "serve", *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
