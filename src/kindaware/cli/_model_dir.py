"""The argument MODEL_DIR of commands that run one model."""

from __future__ import annotations

from pathlib import Path

from kindaware._errors import ConfigError
from kindaware._server.model_folder import is_model, is_version, read_config


def require_model(model_dir: Path, *, allow_ensemble: bool = False) -> None:
    """Refuse what is not a model's directory, and name the one to pass.

    Args:
        model_dir: the argument.
        allow_ensemble: whether the model may be an ensemble, which has no code of its own.

    Raises:
        ConfigError: it is no directory, a repository, a version, or an ensemble.
    """
    wrong = _describe_wrong(model_dir)
    if wrong is None and not allow_ensemble and read_config(model_dir).is_ensemble:
        wrong = "an ensemble, which has no code", "pass one of the models of its steps"
    if wrong is not None:
        got, remedy = wrong
        raise ConfigError.of(
            f"model {model_dir}", expected="a model's directory, with code in it", got=got, remedy=remedy
        )


def _describe_wrong(model_dir: Path) -> tuple[str, str] | None:
    if not model_dir.exists():
        return "no such directory", "check the path"
    if not model_dir.is_dir():
        if model_dir.parent.name.isdecimal():
            return "a file", f"pass {model_dir.parents[1]}"
        return "a file", "pass the directory that has config.pbtxt, or the versions, in it"
    if is_version(model_dir):
        return "a version of one", f"pass {model_dir.parent}"
    if not is_model(model_dir):
        models = [str(entry) for entry in sorted(model_dir.iterdir()) if is_model(entry)]
        if models:
            return "a repository", f"pass one of its models: {' '.join(models)}"
    return None
