"""One run of `kindaware deploy containerfile`, from its options to the files."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from kindaware._authoring.scaffold import check_free, write_directories
from kindaware._deployment.containerfile import CONTEXT, LOCK, Base, make_instructions, write_containerfile
from kindaware._deployment.release import Release
from kindaware._errors import ConfigError, OptionError
from kindaware._server.repository import check_models, is_single_model, list_repositories
from kindaware.cli.deploy._lock import build_wheel, find_source, lock, read_extras

_COMMAND = "kindaware deploy containerfile"


def parse_base(release: Release, image: str | None, python: str | None, machine: str) -> Base:
    """Return the image to build on: NVIDIA's of a release, or another one.

    Raises:
        OptionError: `--python` is no version, or is given for NVIDIA's image.
    """
    if python is not None and (image is None or not re.fullmatch(r"3\.\d{1,2}", python)):
        raise OptionError.of(
            "--python",
            expected="a version such as 3.11, of the image that --base names",
            got=repr(python) if image is not None else "no --base",
            remedy="write it like that" if image is not None else "leave it out: the release says it",
        )
    return Base(image or release.image, release, python or release.python, machine)


def write_image(
    repository: Path,
    output: Path,
    base: Base,
    *,
    requirements: Sequence[Path],
    source: Path | None,
    extras: Sequence[str],
    is_forced: bool,
    is_json: bool,
) -> None:
    """Write Containerfile, lock and wheel, and print how to build the image.

    Raises:
        KindAwareError: the repository can't be served, the folder isn't free, or pip finds no packages.
    """
    check_free(output, force=is_forced)
    if is_single_model(repository):
        raise ConfigError.of(
            str(repository),
            expected="a repository, which becomes /models in the image",
            got="a model's directory",
            remedy=f"pass the directory above it, {repository.absolute().parent}",
        )
    check_models(list_repositories(repository))
    with tempfile.TemporaryDirectory(prefix="kindaware-") as name:
        folder = Path(name)
        wheel = build_wheel(source or find_source(), folder)
        _check_extras(extras, wheel)
        typer.echo(f"locking packages for Python {base.python}, Triton {base.release}", err=True)
        wanted = [
            f"{wheel}[{','.join(extras)}]" if extras else str(wheel),
            *(f"--requirement={path}" for path in requirements),
        ]
        packages = lock(wanted, base, folder)
        lines = [f"# Written by `{_COMMAND}` for Python {base.python} on {base.machine}."]
        files: dict[str, str | Path] = {
            "Containerfile": write_containerfile(make_instructions(base, [wheel.name]), _COMMAND),
            LOCK: "\n".join([*lines, *(package.line for package in packages), ""]),
            wheel.name: wheel,
        }
        write_directories({output: files}, force=is_forced)
    if is_json:
        versions = {package.name: package.version for package in packages}
        typer.echo(json.dumps({"folder": str(output), "files": sorted(files), "packages": versions}))
        return
    typer.echo(f"{base.image}, Python {base.python}: {len(packages)} packages locked")
    typer.echo("")
    typer.echo(
        f"  docker build --build-context {CONTEXT}={repository} -t NAME -f {output}/Containerfile {output}"
    )


def _check_extras(extras: Sequence[str], wheel: Path) -> None:
    """Refuse an extra that the wheel doesn't have, which pip would leave out with a warning."""
    known = read_extras(wheel)
    for one in extras:
        if one not in known:
            raise OptionError.of(
                f"--extra {one}",
                expected=f"one of {', '.join(known)}" if known else "none: this kindaware has no extras",
                got="another name",
                remedy="correct it",
            )
