"""The argument MODEL_DIR of commands that load models themselves."""

from __future__ import annotations

from pathlib import Path

from kindaware._errors import ConfigError
from kindaware._server.model_folder import describe_wrong_path, is_model, read_config


def require_model(model_dir: Path, *, allow_ensemble: bool = False) -> None:
    """Refuse what is not a model's directory, and name the one to pass.

    Args:
        model_dir: the argument.
        allow_ensemble: whether the model may be an ensemble, which has no code of its own.

    Raises:
        ConfigError: it is no directory, a repository, a version, or an ensemble.
    """
    wrong = describe_wrong_path(model_dir) or _describe_repository(model_dir)
    if wrong is None and not allow_ensemble and read_config(model_dir).is_ensemble:
        wrong = "an ensemble, which has no code", "pass one of the models of its steps"
    if wrong is not None:
        got, remedy = wrong
        raise ConfigError.of(
            f"model {model_dir}", expected="a model's directory, with code in it", got=got, remedy=remedy
        )


def _describe_repository(path: Path) -> tuple[str, str] | None:
    models = [] if is_model(path) else [str(entry) for entry in sorted(path.iterdir()) if is_model(entry)]
    return ("a repository", f"pass one of its models: {' '.join(models)}") if models else None
