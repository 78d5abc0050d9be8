"""One directory of a model repository: whether it is a model, and whether the server could load it."""

from __future__ import annotations

from pathlib import Path

from kindaware._server.config_text import ConfigText
from kindaware._server.failure import ServerError


def read_config(folder: Path) -> ConfigText:
    """Return a model's config.pbtxt; an empty one where it has none."""
    try:
        return ConfigText((folder / "config.pbtxt").read_text(errors="replace"))
    except OSError:
        return ConfigText("")


def list_versions(folder: Path) -> list[Path]:
    """Return the directories of a model's versions, the oldest first."""
    versions = [entry for entry in folder.iterdir() if entry.name.isdecimal() and entry.is_dir()]
    return sorted(versions, key=lambda entry: int(entry.name))


def is_version(folder: Path) -> bool:
    """Return whether a directory is a version of a model, with its code in it."""
    return folder.name.isdecimal() and (folder / "model.py").is_file()


def is_model(folder: Path) -> bool:
    """Return whether a directory has a configuration, or a version."""
    if not folder.is_dir():
        return False
    return (folder / "config.pbtxt").is_file() or (folder / "configs").is_dir() or bool(list_versions(folder))


def describe_wrong_path(path: Path) -> tuple[str, str] | None:
    """Return what a path is that is neither a model's directory nor above one, and what to pass instead.

    None for one that may be either.
    """
    if not path.exists():
        return "no such directory", "check the path"
    if not path.is_dir():
        model = next((one for one in list(path.parents)[:2] if is_model(one)), None)
        return "a file", "check the path" if model is None else f"pass {model}"
    is_inside = is_version(path) and not is_model(path)
    return ("a version of a model", f"pass {path.parent}") if is_inside else None


def is_clutter(folder: Path) -> bool:
    """Return whether a directory is what a tool has left; the server would take it for a model."""
    left = folder.name.startswith((".", "__")) or folder.name == "lost+found"
    return left and folder.is_dir() and not is_model(folder)


def list_folders(repository: Path) -> list[Path]:
    """Return the directories in a repository that the server would take for models, without a tool's."""
    return [entry for entry in sorted(repository.iterdir()) if entry.is_dir() and not is_clutter(entry)]


def check_is_model(folder: Path) -> None:
    """Refuse a directory that the server would take for a model, and is none.

    Raises:
        ServerError: with what to do with it.
    """
    if not is_model(folder):
        has_code = (folder / "model.py").exists()
        raise ServerError.of(
            f"directory {folder}",
            expected="a model, with a config.pbtxt or a version in it",
            got="a model.py outside of a version" if has_code else "neither",
            remedy=_move(folder, "model.py") if has_code else "move it out of the repository",
        )


def check_code(folder: Path) -> None:
    """Refuse a model of the Python backend without its code: server 2.51 waits for ever for its stub.

    Raises:
        ServerError: with the path where the code is expected.
    """
    config = read_config(folder)
    if config.value("backend") != "python":
        return
    file = config.value("default_model_filename") or "model.py"
    versions = list_versions(folder)
    served = versions if config.has("version_policy") else versions[-1:]
    if any((version / file).exists() for version in served):
        return
    wanted = (served[-1] if served else folder / "1") / file
    raise ServerError.of(
        f"model {folder.name!r}",
        expected=f"its code in {wanted}",
        got="no such file" if served else "no version",
        remedy=_move(folder, file) if (folder / file).exists() else f"write it, or move {folder} away",
    )


def _move(folder: Path, file: str) -> str:
    version = folder / "1"
    return f"mkdir -p {version} && mv {folder / file} {version}"
