"""Servers of other projects: PyTriton and LitServe, each in a process that sleeps until it is its turn."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.networks import NETWORKS
from benchmarks.run import UnavailableError
from benchmarks.servers.repository import GPT_FOLDER
from benchmarks.servers.target import Protocol, Target, plain_target, post_text_target, triton_target

LITSERVE_VENV = ROOT / ".bench" / "litserve"
LITSERVE = "litserve==0.2.19"
START_SECONDS = 120.0


@contextlib.contextmanager
def pytriton(network: str, protocol: Protocol) -> Iterator[Target]:
    """Serve one network with PyTriton; waits until it answers.

    Raises:
        UnavailableError: it does not start.
    """
    http, grpc, metrics = _free_ports(3)
    # Its stub has to load the libpython of the interpreter that is used, not another that the system has.
    libraries = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
    environment = {"LD_LIBRARY_PATH": os.pathsep.join(path for path in libraries if path)}
    with _process(
        [sys.executable, "-m", "benchmarks.forms.pytriton_server", network, http, grpc, metrics],
        f"http://127.0.0.1:{http}/v2/models/{network}/ready",
        environment,
    ) as group:
        address = f"127.0.0.1:{http if protocol == 'http' else grpc}"
        yield triton_target(protocol, address, network, NETWORKS[network].sample(1), group)


@contextlib.contextmanager
def litserve(network: str, protocol: Protocol) -> Iterator[Target]:
    """Serve one network with LitServe, over HTTP whatever the protocol; waits until it answers.

    Raises:
        UnavailableError: it can't be installed, or does not start.
    """
    python = make_litserve_environment(LITSERVE_VENV)
    (http,) = _free_ports(1)
    with _process(
        [str(python), "-m", "benchmarks.forms.litserve_server", network, http],
        f"http://127.0.0.1:{http}/health",
    ) as group:
        yield plain_target(f"127.0.0.1:{http}", "/predict", NETWORKS[network].sample(1), group)


@contextlib.contextmanager
def litserve_texts(size: str) -> Iterator[Callable[[int], Target]]:
    """Serve texts with LitServe's continuous batching; waits until it answers.

    Yields:
        What returns the request for a text of so many tokens.

    Raises:
        UnavailableError: it can't be installed, or does not start.
    """
    python = make_litserve_environment(LITSERVE_VENV)
    (http,) = _free_ports(1)
    with _process(
        [str(python), "-m", "benchmarks.forms.litserve_stepper", size, http],
        f"http://127.0.0.1:{http}/health",
        {"PYTHONPATH": str(GPT_FOLDER)},
    ) as group:
        yield lambda wanted: post_text_target(f"127.0.0.1:{http}", "/predict", wanted, group)


OTHER_SERVERS = {"pytriton": pytriton, "litserve": litserve}


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
        UnavailableError: pip can't install it.
    """
    python, installed = folder / "bin" / "python", folder / "installed"
    if installed.exists() and installed.read_text() == LITSERVE:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, symlinks=True, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", LITSERVE]
    pip = subprocess.run(install, check=False, stderr=subprocess.PIPE, text=True, timeout=600)
    if pip.returncode:
        raise UnavailableError(f"{LITSERVE} can't be installed: {pip.stderr.strip().splitlines()[-1]}")
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "torch_of_the_benchmark.pth").write_text(sysconfig.get_path("purelib") + "\n")
    installed.write_text(LITSERVE)
    return python


@contextlib.contextmanager
def _process(
    command: list[str], ready_url: str, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a server until the block is left; all its processes end with it.

    Yields:
        Its process group, asleep.
    """
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            if not _is_ready(process, ready_url):
                log.seek(0)
                last = log.read().strip().splitlines()[-5:]
                raise UnavailableError(f"{command[2]} did not start: {' / '.join(last)}")
            os.killpg(process.pid, signal.SIGSTOP)
            yield process.pid
        finally:
            _end(process)


def _is_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), opener.open(url, timeout=2) as answer:
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


def _free_ports(number: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [str(one.getsockname()[1]) for one in sockets]
