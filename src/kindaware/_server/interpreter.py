"""The Python interpreter that the stubs run in, and whether they can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kindaware._server.failure import ServerError

_PROBE = """
import importlib.metadata as metadata, importlib.util, json, sys, sysconfig
try:
    numpy = metadata.version("numpy")
except metadata.PackageNotFoundError:
    numpy = None
shadow = importlib.util.find_spec("triton_python_backend_utils")
owners = metadata.packages_distributions().get("triton_python_backend_utils", []) if shadow else []
get = sysconfig.get_config_var
print(json.dumps({
    "executable": sys.executable,
    "version": "%d.%d" % sys.version_info[:2],
    "prefix": sys.prefix,
    "base_prefix": sys.base_prefix,
    "library_dirs": [d for d in (get("LIBDIR"), sys.base_prefix + "/lib", sys.base_prefix + "/lib64") if d],
    "multiarch": get("MULTIARCH") or "",
    "library": get("INSTSONAME") or "",
    "numpy": numpy,
    "shadow": shadow and shadow.origin or "",
    "shadow_owners": owners,
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """What has to be known about an interpreter so that a stub can use its packages.

    Args:
        executable: its path, not resolved: that of a virtual environment stays in the environment.
        version: such as `3.11`.
        prefix: `sys.prefix`.
        base_prefix: `sys.base_prefix`; differs from `prefix` in a virtual environment.
        library: its libpython, or None when it has none that can be shared.
        numpy: version of its numpy, or None.
        shadow: a module among its packages that the stub would import in place of the server's own; empty
            when there is none.
        shadow_owners: the distributions that brought it.
    """

    executable: Path
    version: str
    prefix: Path
    base_prefix: Path
    library: Path | None
    numpy: str | None
    shadow: str = ""
    shadow_owners: tuple[str, ...] = ()

    @property
    def library_name(self) -> str:
        """The name under which a stub of this Python version asks the loader for libpython."""
        return f"libpython{self.version}.so.1.0"

    @classmethod
    def probe(cls, python: str | os.PathLike[str] | None = None) -> Interpreter:
        """Ask an interpreter about itself; waits for it to answer.

        Args:
            python: its path; by default the running one.

        Raises:
            ServerError: it does not run.
        """
        executable = Path(python if python is not None else sys.executable).expanduser()
        command = [str(executable), "-I", "-c", _PROBE]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            found = json.loads(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            raise ServerError.of(
                f"Python {executable}",
                expected="an interpreter that runs",
                got=reason.strip(),
                remedy="give the path of a Python 3.10 to 3.12",
            ) from error
        return cls(
            executable=Path(found["executable"]),
            version=found["version"],
            prefix=Path(found["prefix"]),
            base_prefix=Path(found["base_prefix"]),
            library=_find_library(found),
            numpy=found["numpy"],
            shadow=found["shadow"],
            shadow_owners=tuple(found["shadow_owners"]),
        )

    def check_for(self, stubs: dict[str, Path]) -> None:
        """Raise unless one of the wheel's stubs can run with this interpreter and its packages.

        Raises:
            ServerError: no stub for its version, no libpython, no numpy that the stub can use, or a package
                that takes the place of a module of the server.
        """
        subject = f"Python {self.version} ({self.executable})"
        if self.version not in stubs or self.version == "3.13":
            supported = [version for version in stubs if (3, 10) <= _version_key(version) < (3, 13)]
            usable = sorted(supported, key=_version_key)
            why = "there is no numpy below 2 for it" if self.version == "3.13" else "it has no stub"
            raise ServerError.of(
                subject,
                expected=f"a Python that this server has a stub for: {', '.join(usable) or 'none found'}",
                got=f"{self.version}: {why}",
                remedy="use one of those, or a tritonserver of your own with --tritonserver PATH",
            )
        if self.library is None:
            raise ServerError.of(
                subject,
                expected=f"its shared library {self.library_name}, which the stub loads",
                got="none beside it (a Python built without --enable-shared)",
                remedy=(
                    "use a Python that has it: the system's, conda's, uv's, or "
                    "PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install"
                ),
            )
        if self.numpy is None or int(self.numpy.split(".")[0]) >= 2:
            raise ServerError.of(
                f"numpy in {self.prefix}",
                expected="a version below 2: with numpy 2 this server's stub reads and sends wrong data",
                got=self.numpy or "none installed",
                remedy=f"{self.executable} -m pip install 'numpy<2'",
            )
        if self.shadow:
            named = " ".join(self.shadow_owners)
            raise ServerError.of(
                f"packages in {self.prefix}",
                expected="no triton_python_backend_utils: the stub would take it for the server's own",
                got=self.shadow,
                remedy=f"{self.executable} -m pip uninstall {named}" if named else "delete or rename it",
            )

    def place_on_path(self, directory: Path) -> Path:
        """Return the directory to put first on PATH, so that `python3` there is this interpreter.

        Args:
            directory: a directory of the caller's own, in which a link is made when the interpreter has no
                `python3` beside it, or another one.

        Raises:
            ServerError: the interpreter belongs to a virtual environment, whose packages are found by the
                place of its `python3` only, and has none.
        """
        beside = self.executable.parent / "python3"
        if beside.exists() and (beside.samefile(self.executable)):
            return beside.parent
        if self.prefix != self.base_prefix:
            raise ServerError.of(
                f"virtual environment {self.prefix}",
                expected=f"{beside}, by which the stub finds the environment's packages",
                got="another interpreter" if beside.exists() else "no such file",
                remedy=f"ln -s {self.executable.name} {beside}, or make the environment again",
            )
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "python3").symlink_to(self.executable)
        return directory


def _find_library(found: dict[str, object]) -> Path | None:
    """Find the libpython of a probed interpreter: where it says, and where the usual builds have it."""
    name = f"libpython{found['version']}.so.1.0"
    directories = found["library_dirs"]
    if not isinstance(directories, list):
        return None
    for directory in directories:
        for candidate in (Path(directory, name), Path(directory, str(found["multiarch"]), name)):
            if candidate.is_file():
                return candidate
    return None


def _version_key(version: str) -> tuple[int, ...]:
    """Return a sort key that puts `3.9` before `3.10`."""
    return tuple(int(part) for part in version.split("."))
