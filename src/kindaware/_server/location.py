"""Where the tritonserver is."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from kindaware._server.failure import ServerError

CONTAINER_ROOT = Path("/opt/tritonserver")
CONTAINER_PATH = CONTAINER_ROOT / "bin" / "tritonserver"
"""Where the official containers have it."""
VARIABLE = "KINDAWARE_TRITONSERVER"
"""The environment variable that names one."""
WHEEL_REQUIREMENTS = ("nvidia-pytriton>=0.7.0,<0.8", "numpy<2")
"""What the extra `server` brings, by names that a package index knows."""


@dataclass(frozen=True)
class Location:
    """A tritonserver executable.

    Args:
        path: the executable.
        origin: how it was found, for people.
        root: the directory with `bin/` and `backends/` in it.
        is_wheel: whether it is laid out as in the `nvidia-pytriton` wheel: one stub per Python version, and
            libraries in a directory of their own.
    """

    path: Path
    origin: str
    root: Path
    is_wheel: bool

    @classmethod
    def of(cls, path: Path, origin: str) -> Location:
        """Look at what lies around an executable."""
        root = path.resolve().parent.parent
        return cls(path, origin, root, (root / "python_backend_stubs").is_dir())

    @property
    def stubs(self) -> dict[str, Path]:
        """The stub executables of the wheel by Python version, such as `3.11`."""
        stubs = self.root.glob("python_backend_stubs/*/triton_python_backend_stub")
        return {stub.parent.name: stub for stub in stubs}

    @property
    def libraries(self) -> Path:
        """The directory of the wheel's own libraries, at the place where its executable looks for it."""
        return self.root.parent.parent / "nvidia_pytriton.libs"

    @property
    def python_backend(self) -> Path:
        """The directory of the Python backend that comes with this server."""
        return self.root / "backends" / "python"


def locate_server(
    explicit: str | os.PathLike[str] | None = None, *, search_path: str | None = None
) -> Location:
    """Find the server: the path given, the variable, PATH, the containers' place, the installed wheel.

    Args:
        explicit: path of the executable, in place of `KINDAWARE_TRITONSERVER`; nothing else is looked at when
            one of the two is given.
        search_path: in place of PATH.

    Raises:
        ServerError: there is none, or `explicit` is not an executable file.
    """
    origin, remedy = "as given", "leave the option out"
    if explicit is None and os.environ.get(VARIABLE):
        explicit, origin, remedy = os.environ[VARIABLE], f"named by {VARIABLE}", f"unset {VARIABLE}"
    if explicit is not None:
        path = Path(explicit).expanduser().absolute()
        if not is_executable(path):
            raise ServerError.of(
                "tritonserver",
                expected="an executable file",
                got=f"{path}, which {'is not executable' if path.exists() else 'does not exist'}",
                remedy=f"give the path of the tritonserver executable, or {remedy}",
            )
        return Location.of(path, origin)
    on_path = shutil.which("tritonserver", path=search_path)
    if on_path is not None:
        return Location.of(Path(on_path).absolute(), "on PATH")
    if is_executable(CONTAINER_PATH):
        return Location.of(CONTAINER_PATH, "in the container")
    package = wheel_package()
    if package is not None and is_executable(package / "tritonserver/bin/tritonserver"):
        return Location.of(package / "tritonserver/bin/tritonserver", "in the nvidia-pytriton wheel")
    raise ServerError.of(
        "tritonserver",
        expected="an executable",
        got=(
            f"none: not given, no 'tritonserver' on PATH, no {CONTAINER_PATH}, "
            + ("no installed nvidia-pytriton" if package is None else f"none in {package}")
        ),
        remedy=(
            f"pip install {' '.join(map(repr, WHEEL_REQUIREMENTS))} (Linux, Python 3.10 to 3.12), run this "
            "in one of Triton's containers, or say where it is with --tritonserver PATH"
        ),
    )


def wheel_package() -> Path | None:
    """Return the directory of the installed `pytriton` package, without importing it."""
    try:
        spec = importlib.util.find_spec("pytriton")
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).absolute()


def is_executable(path: Path) -> bool:
    """Return whether there is a file that this user may run."""
    return path.is_file() and os.access(path, os.X_OK)
