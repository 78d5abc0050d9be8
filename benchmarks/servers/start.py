"""The servers that are compared, each for as long as a `with` block lasts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from benchmarks.networks import NETWORKS
from benchmarks.servers.repository import HERE, MAX_BATCH_SIZE, Served, write_model
from benchmarks.servers.target import Protocol, Target, plain_target, triton_target
from kindaware.testing import ServerError, TritonServer

ROOT = HERE.parent
LITSERVE_VENV = ROOT / ".bench" / "litserve"
LITSERVE = "litserve==0.2.19"
START_SECONDS = 120.0
START_TRITON_SECONDS = 1800.0
"""Long enough for networks that are compiled while they load."""

NO_AUTO_COMPLETE = "--disable-auto-complete-config"
"""The configurations are complete: no process per model that would complete them while the server starts."""

Say = Callable[[str], None]
"""Tells whoever waits what goes on."""


class ServerUnavailableError(Exception):
    """A server that is not a part of this project can't be had here.

    Args:
        text: why; the message has it without the folders of this machine, for it goes into the results.
    """

    def __init__(self, text: str) -> None:
        super().__init__(without_folders(text))


def without_folders(text: str) -> str:
    """Cut the folders of this machine out of a text, which leaves the names of files."""
    return re.sub(r"(?<![\w:/])/(?:[^\s/:]+/)+", "", text)


@contextlib.contextmanager
def triton(models: Sequence[Served], say: Say) -> Iterator[TritonServer]:
    """Serve models on a real tritonserver; waits until all are ready.

    A start that fails is repeated once, and `say` is told: tritonserver 2.51.0 now and then ends itself while
    many stubs start on a busy machine.

    Raises:
        ServerError: it does not start the second time either.
    """
    with tempfile.TemporaryDirectory(prefix="kindaware-bench-") as folder:
        for served in models:
            write_model(Path(folder), served)
        server = TritonServer(folder, args=[NO_AUTO_COMPLETE], startup_timeout_seconds=START_TRITON_SECONDS)
        try:
            server.start()
        except ServerError as error:
            say(f"RETRY: the server did not start, trying once more ({str(error).splitlines()[0]})")
            server.start()
        try:
            yield server
        finally:
            server.stop()


def target_of(server: TritonServer, served: Served, protocol: Protocol, num_rows: int = 1) -> Target:
    """Make the request that a model of a running server gets."""
    address = server.http_url if protocol == "http" else server.grpc_url
    return triton_target(protocol, address, served.name, NETWORKS[served.network].sample(num_rows))


@contextlib.contextmanager
def pytriton(network: str, protocol: Protocol) -> Iterator[Target]:
    """Serve one network with PyTriton; waits until it answers.

    Raises:
        ServerUnavailableError: it does not start.
    """
    http, grpc, metrics = _free_ports(3)
    command = [sys.executable, "-m", "benchmarks.forms.pytriton_server", network]
    command += [f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"]
    command.append(f"--max-batch-size={MAX_BATCH_SIZE}")
    # Its stub has to load the libpython of the interpreter that is used, not another that the system has.
    libraries = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
    environment = {"LD_LIBRARY_PATH": os.pathsep.join(path for path in libraries if path)}
    with _process(command, f"http://127.0.0.1:{http}/v2/models/{network}/ready", environment) as group:
        address = f"127.0.0.1:{http if protocol == 'http' else grpc}"
        target = triton_target(protocol, address, network, NETWORKS[network].sample(1))
        yield replace(target, process_group=group)


@contextlib.contextmanager
def litserve(network: str) -> Iterator[Target]:
    """Serve one network with LitServe, in an environment of its own; waits until it answers.

    Raises:
        ServerUnavailableError: it can't be installed, or does not start.
    """
    python = make_litserve_environment(LITSERVE_VENV)
    (http,) = _free_ports(1)
    command = [str(python), "-m", "benchmarks.forms.litserve_server", network]
    command += [f"--http-port={http}", f"--max-batch-size={MAX_BATCH_SIZE}"]
    with _process(command, f"http://127.0.0.1:{http}/health") as group:
        target = plain_target(f"127.0.0.1:{http}", "/predict", NETWORKS[network].sample(1))
        yield replace(target, process_group=group)


@contextlib.contextmanager
def awake(target: Target) -> Iterator[None]:
    """Let a target's server run while the block lasts.

    Servers of other projects sleep while it isn't their turn: LitServe's processes ask their queues without a
    pause, and would take the cores from the others.
    """
    if target.process_group:
        os.killpg(target.process_group, signal.SIGCONT)
    try:
        yield
    finally:
        if target.process_group:
            os.killpg(target.process_group, signal.SIGSTOP)


def make_litserve_environment(folder: Path) -> Path:
    """Install LitServe where it was not before, and return the environment's interpreter.

    The environment's own packages come first. torch and numpy are those of the environment that runs this:
    all forms compute with the same ones.

    Raises:
        ServerUnavailableError: pip can't install it.
    """
    python = folder / "bin" / "python"
    done = folder / "installed"
    if done.exists() and done.read_text() == LITSERVE:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    try:
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", "--quiet", LITSERVE],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        reason = str(getattr(error, "stderr", None) or error).strip().splitlines()[-1]
        raise ServerUnavailableError(f"{LITSERVE} can't be installed: {reason}") from error
    packages = folder / "lib" / version / "site-packages"
    (packages / "torch_of_the_benchmark.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done.write_text(LITSERVE)
    return python


@contextlib.contextmanager
def _process(
    command: list[str], ready_url: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[int]:
    """Run a server until the block is left; all its processes end with it.

    Yields:
        Its process group, asleep.
    """
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            if not _is_ready(process, ready_url):
                log.seek(0)
                last = log.read().strip().splitlines()[-5:]
                raise ServerUnavailableError(f"{command[2]} did not start: {' / '.join(last)}")
            os.killpg(process.pid, signal.SIGSTOP)
            yield process.pid
        finally:
            _end(process)


def _is_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError), opener.open(url, timeout=2) as answer:
            if answer.status == 200:
                return True
        time.sleep(0.2)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, and kill what is left of its group."""
    process.terminate()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
