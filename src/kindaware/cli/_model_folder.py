"""A model's directory as commands that run it in this process take it."""

from __future__ import annotations

from pathlib import Path

from kindaware._errors import ConfigError
from kindaware._server.model_folder import is_model


def check_model_folder(model_dir: Path) -> None:
    """Refuse what is no model's directory, and name the one to pass.

    Raises:
        ConfigError: it is a repository, a part of a model, or nothing of these.
    """
    got, remedy = "", ""
    if model_dir.is_file() and model_dir.parent.name.isdecimal():
        got, remedy = "a file", f"pass {model_dir.parents[1]}"
    elif model_dir.name.isdecimal() and (model_dir / "model.py").is_file():
        got, remedy = "a version of one", f"pass {model_dir.parent}"
    elif model_dir.is_dir() and not is_model(model_dir):
        models = [str(entry) for entry in sorted(model_dir.iterdir()) if is_model(entry)]
        got, remedy = ("a repository", f"pass one of its models: {' '.join(models)}") if models else ("", "")
    if got:
        raise ConfigError.of(
            f"model {model_dir}", expected="a model's directory, with code in it", got=got, remedy=remedy
        )
