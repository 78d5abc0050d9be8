"""One run of `kindaware config`."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import typer

from kindaware._authoring.config_merge import merge_config
from kindaware._authoring.config_tree import ConfigTree
from kindaware._authoring.config_writer import write_fields
from kindaware._errors import ConfigError
from kindaware.cli._child import run_apart
from kindaware.cli._model_dir import require_model
from kindaware.cli._reporting import FAILED
from kindaware.testing.arguments import ModelArguments

_COLOURS = {"+": typer.colors.GREEN, "-": typer.colors.RED, "@": typer.colors.CYAN}


def run_config(
    model_dir: Path, *, write: bool, check: bool, full: bool, as_json: bool, timeout: float
) -> None:
    """Print, compare or write a model's configuration; the arguments are the options of the command.

    Raises:
        ConfigError: the directory, its config.pbtxt or its model.py is wrong, or none of them names tensors.
        typer.Exit: with 1, if they differ and `check` is set.
    """
    require_model(model_dir)
    file = model_dir / "config.pbtxt"
    before = _read(file)
    tree = ConfigTree(before)
    declared = _declarations(model_dir, tree.text("default_model_filename"), timeout)
    if not declared and not (tree.values("input") and tree.values("output")):
        raise ConfigError.of(
            f"model {model_dir}",
            expected="a class that declares inputs, outputs or max_batch_size, or auto_complete_config",
            got="none of them",
            remedy="write inputs = [TensorSpec('X', 'FP32', [4])], outputs and max_batch_size into the class",
        )
    base = before if before.strip() else write_fields({"name": model_dir.resolve().name, "backend": "python"})
    after = merge_config(base, declared)
    if after != before:
        ModelArguments(after, directory=model_dir)  # it was read back, so a server can read it too
    differs = after != before
    difference = _difference(file, before, after)
    if write and differs:
        file.write_text(after, encoding="utf-8")
    if as_json:
        shown: dict[str, Any] = {
            "model": model_dir.resolve().name,
            "file": str(file),
            "same": not differs,
            "written": write and differs,
            "difference": "\n".join(difference),
            "config": after,
        }
        typer.echo(json.dumps(shown, ensure_ascii=False))
    elif full or not before.strip():
        typer.echo(after, nl=False)
    else:
        for line in difference:
            typer.secho(line, fg=_COLOURS.get(line[:1]))
    if not as_json:
        typer.echo(_summary(file, bool(before.strip()), differs, write, declares=bool(declared)), err=True)
    if check and differs and not write:
        raise typer.Exit(FAILED)


def _read(file: Path) -> str:
    """Return a config.pbtxt that protobuf can read; empty where there is none."""
    if not file.exists():
        return ""
    ModelArguments(file)
    return file.read_text(encoding="utf-8")


def _declarations(model_dir: Path, filename: str, timeout: float) -> dict[str, Any]:
    directory = model_dir.absolute()
    arguments = {"directory": str(directory), "filename": filename or "model.py"}
    ended = run_apart("kindaware.cli.config._declared:declare", arguments, seconds=timeout)
    subject = f"model {model_dir}"
    if ended.result is None:
        raise ConfigError.of(
            subject,
            expected=f"a model.py whose import returns within {timeout:g} s",
            got="none that has returned" if ended.is_late else f"a process that {ended.end}",
            remedy="move work from the module's top level into load or initialize",
        )
    if "error" in ended.result:
        raise ConfigError(ended.result["error"])
    declared: dict[str, Any] = ended.result["declared"]
    return declared


def _difference(file: Path, before: str, after: str) -> list[str]:
    old, new = before.splitlines(), after.splitlines()
    name = str(file)
    return list(difflib.unified_diff(old, new, name, f"{name} (declared)", lineterm=""))


def _summary(file: Path, is_there: bool, differs: bool, write: bool, *, declares: bool) -> str:
    if not declares:
        return f"{file} stands for itself: the class declares nothing"
    if not differs:
        return f"{file} says what the class declares"
    if write:
        return f"wrote {file}"
    return f"{file} differs; --write changes it" if is_there else f"{file} is not there; --write writes it"
