"""Packages locked to a version and a file: what pip chooses for the Python of an image."""

from __future__ import annotations

import email
import hashlib
import importlib.metadata
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from kindaware._deployment.containerfile import FOLDER, Base
from kindaware._errors import ConfigError

_OLDEST_GLIBC = 5
_LEGACY = ("manylinux2014", "manylinux2010", "manylinux1")


@dataclass(frozen=True)
class Locked:
    """A package, locked.

    Attributes:
        name: of the package.
        version: of it.
        sha256: of its file.
        is_local: whether the file lies beside the Containerfile.
        filename: of the file.
    """

    name: str
    version: str
    sha256: str
    is_local: bool
    filename: str

    @property
    def line(self) -> str:
        """The line of a requirements file."""
        what = f"{FOLDER}/{self.filename}" if self.is_local else f"{self.name}=={self.version}"
        return f"{what} --hash=sha256:{self.sha256}"


def find_source() -> Path:
    """Return where kindaware was installed from, as pip has noted it.

    Raises:
        ConfigError: nothing says it, or it isn't there any more.
    """
    noted = importlib.metadata.distribution("kindaware").read_text("direct_url.json")
    url = urlparse(json.loads(noted)["url"]) if noted else urlparse("")
    source = Path(unquote(url.path))
    if url.scheme != "file" or not source.exists():
        raise ConfigError.of(
            "kindaware for the image",
            expected="the directory or wheel that it was installed from",
            got="none that pip has noted" if not noted else f"{source}, which isn't there",
            remedy="pass --kindaware PATH: a clone, or a wheel",
        )
    return source


def build_wheel(source: Path, folder: Path) -> Path:
    """Return a wheel of kindaware in a folder: built from a clone, or copied.

    Raises:
        ConfigError: pip can't build it.
    """
    run_pip(["wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source.absolute())])
    (wheel,) = folder.glob("*.whl")
    return wheel


def read_extras(wheel: Path) -> list[str]:
    """Return the extras that a wheel has."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name)).get_all("Provides-Extra") or []


def lock(requirements: Sequence[str], base: Base, folder: Path) -> list[Locked]:
    """Return the packages that pip chooses for an image, with all that they need.

    Args:
        requirements: arguments of `pip install`; a path of a wheel is a package beside the Containerfile.
        base: whose Python, glibc and processor the packages must fit.
        folder: an empty one, for pip.

    Raises:
        ConfigError: pip finds none that fit, or can't ask its index.
    """
    report = folder / "report.json"
    tags = [f"manylinux_2_{minor}" for minor in range(base.release.glibc, _OLDEST_GLIBC - 1, -1)] + [*_LEGACY]
    platforms = [f"--platform={tag}_{base.machine}" for tag in tags]
    run_pip(
        [
            *["install", "--quiet", "--dry-run", "--ignore-installed", f"--target={folder / 'unused'}"],
            *["--only-binary=:all:", "--implementation=cp", f"--python-version={base.python}"],
            *platforms,
            f"--report={report}",
            base.release.numpy,
            *requirements,
        ]
    )
    found = json.loads(report.read_text())["install"]
    return sorted((_read(one) for one in found), key=lambda one: (one.is_local, one.name.lower()))


def _read(entry: dict[str, Any]) -> Locked:
    """Read an entry of pip's report; of a file of this machine pip notes no hash where it was named so."""
    url = urlparse(entry["download_info"]["url"])
    path = Path(unquote(url.path))
    metadata = entry["metadata"]
    hashes = entry["download_info"].get("archive_info", {}).get("hashes", {})
    is_local = url.scheme == "file" and entry.get("is_direct", False)
    sha256 = hashes.get("sha256") or hashlib.sha256(path.read_bytes()).hexdigest()
    return Locked(metadata["name"], metadata["version"], sha256, is_local, path.name)


def run_pip(arguments: Sequence[str]) -> None:
    """Run this Python's pip.

    Raises:
        ConfigError: it failed; with the last line that says why.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
            done.stderr.strip() or "no word"
        ]
        raise ConfigError.of(
            f"pip {arguments[0]}",
            expected="packages that fit the image",
            got=said[-1],
            remedy="correct the requirements; pip's own settings, such as PIP_INDEX_URL, apply",
        )
