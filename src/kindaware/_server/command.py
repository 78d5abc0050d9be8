"""The command line and environment that a server is started with."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kindaware._server.failure import ServerError, ServerOptionError
from kindaware._server.interpreter import Interpreter
from kindaware._server.location import CONTAINER_ROOT, Location
from kindaware._server.repository_links import RepositoryLinks

SHARED_MEMORY = Path("/dev/shm")
_MIB = 2**20
MOST_SHM_BYTES = 64 * _MIB
"""Of an instance's first region, however much room there is."""
_DIRECTORIES = {
    "--backend-directory": "backends",
    "--cache-directory": "caches",
    "--repoagent-directory": "repoagents",
}
_OWN_OPTIONS = {
    "--model-repository": "give the repositories by themselves",
    "--model-store": "give the repositories by themselves",
    "--http-address": "use host (--host)",
    "--grpc-address": "use host (--host)",
    "--http-port": "use http_port (--http-port, before the --)",
    "--grpc-port": "use grpc_port (--grpc-port, before the --)",
    "--metrics-port": "use metrics_port (--metrics-port, before the --)",
    "--allow-http": "leave it out: readiness is asked for over HTTP",
    "--exit-on-error": "use exit_on_error of TritonServer; kindaware serve always ends on an error",
    "--log-file": "use log_path (--log-file, before the --)",
}


@dataclass(frozen=True)
class Launch:
    """All that is needed to start one server.

    Args:
        command: the executable and its arguments.
        environment: of the process.
        shared_memory_prefix: how the names of its regions in /dev/shm begin.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    shared_memory_prefix: str


def prepare_launch(
    location: Location,
    interpreter: Interpreter,
    directory: Path,
    *,
    links: RepositoryLinks,
    options: Sequence[str],
    args: Sequence[str],
    environment: Mapping[str, str],
) -> Launch:
    """Lay out what the server needs in `directory`, and write its command line.

    Args:
        location: the server.
        interpreter: whose packages the stubs are to see.
        directory: an empty directory of the caller's own; it has to last as long as the server.
        links: to the repositories.
        options: that the library itself sets.
        args: the caller's, which win.
        environment: to start from.

    Raises:
        ServerError: the wheel's server can't work with this interpreter, or `args` holds an option that
            belongs to the library.
    """
    _check_args(args)
    prefix = f"{directory.name}-"
    defaults = {"shm-region-prefix-name": prefix, "shm-default-byte-size": str(choose_shm_bytes())}
    command = [str(location.path)]
    env = dict(environment)
    if location.is_wheel:
        interpreter.check_for(location.stubs)
        command.append(f"--backend-directory={_lay_out_backend(location, interpreter, directory)}")
        libraries = (_lay_out_library(interpreter, directory), location.libraries)
        env["LD_LIBRARY_PATH"] = _prepend(libraries, env.get("LD_LIBRARY_PATH"))
    if location.is_wheel or interpreter.version == _stub_version(location):
        env["PATH"] = _prepend((interpreter.place_on_path(directory / "bin"),), env.get("PATH"))
    command += _name_directories(location, args)
    command += [f"--model-repository={repository}" for repository in links.paths]
    command += options
    command += [f"--backend-config=python,{key}={value}" for key, value in defaults.items()]
    command += args
    return Launch(tuple(command), env, prefix)


def choose_shm_bytes(shared_memory: Path = SHARED_MEMORY) -> int:
    """Return the size of each instance's first region: a 64th of the room, within limits.

    The lower limit is 1 MiB, the server's own default. The server takes the memory at once, for every
    instance, and grows the region when a batch needs more.
    """
    try:
        room = os.statvfs(shared_memory)
    except OSError:
        return _MIB
    mebibytes = room.f_bavail * room.f_frsize // 64 // _MIB
    return min(max(mebibytes, 1) * _MIB, MOST_SHM_BYTES)


def read_option(args: Sequence[str], name: str) -> str | None:
    """Return the last value of `--name=value` or `--name value` in a command line, or None."""
    value = None
    for position, arg in enumerate(args):
        if arg == name:
            value = args[position + 1] if position + 1 < len(args) else ""
        elif arg.startswith(name + "="):
            value = arg[len(name) + 1 :]
    return value


def _check_args(args: Sequence[str]) -> None:
    """Refuse options whose values the library has to know."""
    for option, remedy in _OWN_OPTIONS.items():
        if read_option(args, option) is not None:
            raise ServerOptionError.of(
                f"server option {option}", expected="an option not set here", got="it in args", remedy=remedy
            )


def _name_directories(location: Location, args: Sequence[str]) -> list[str]:
    """Return options for what lies beside a server that would look for it in the containers' place."""
    if location.root == CONTAINER_ROOT:
        return []
    laid_out = {"--backend-directory"} if location.is_wheel else set()
    return [
        f"{option}={location.root / name}"
        for option, name in _DIRECTORIES.items()
        if option not in laid_out and read_option(args, option) is None and (location.root / name).is_dir()
    ]


def _lay_out_backend(location: Location, interpreter: Interpreter, directory: Path) -> Path:
    """Build a backend directory of links, with only the stub that fits, and return its path."""
    backend = directory / "backends" / "python"
    backend.mkdir(parents=True)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        (backend / name).symlink_to(location.python_backend / name)
    (backend / "triton_python_backend_stub").symlink_to(location.stubs[interpreter.version])
    return backend.parent


def _lay_out_library(interpreter: Interpreter, directory: Path) -> Path:
    """Build a directory with nothing but the interpreter's libpython, so that no other library is found."""
    assert interpreter.library is not None, "check_for has seen it"
    library = directory / "lib"
    library.mkdir()
    (library / interpreter.library_name).symlink_to(interpreter.library)
    return library


def _stub_version(location: Location) -> str | None:
    """Return the Python version that a server's own stub is linked with, or None when that can't be told."""
    try:
        stub = (location.python_backend / "triton_python_backend_stub").read_bytes()
    except OSError:
        return None
    match = re.search(rb"libpython(\d+\.\d+)\.so", stub)
    return None if match is None else match[1].decode()


def check_version(location: Location) -> None:
    """Refuse a server whose stub is of another Python than this process, which pickles code for it.

    Raises:
        ServerError: with the version that it has.
    """
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    theirs = None if location.is_wheel else _stub_version(location)
    if theirs is not None and theirs != ours:
        raise ServerError.of(
            f"tritonserver {location.path}",
            expected=f"one for this Python, {ours}",
            got=f"one for Python {theirs}",
            remedy=f"run this with python{theirs}, or name another server",
        )


def _prepend(first: Sequence[Path], rest: str | None) -> str:
    """Return a search path with `first` in front."""
    return os.pathsep.join([*map(str, first), *([rest] if rest else [])])
