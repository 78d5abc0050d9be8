"""What the models of a repository need of a replica, read from their configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kindaware._errors import ConfigError
from kindaware._server.config_edit import read_setting
from kindaware._server.model_folder import read_config
from kindaware._server.repository import find_models
from kindaware.ray._plan import Plan


def needs_gpu(repositories: Sequence[str]) -> bool:
    """Return whether a configuration names GPUs."""
    return any("KIND_GPU" in kinds for kinds in _kinds(repositories).values())


def check_fits(repositories: Sequence[str], plan: Plan, *, is_on_cpu: bool) -> None:
    """Refuse models that replicas of this plan can't serve, or would serve wrongly.

    Args:
        repositories: checked paths; addresses are not looked at.
        plan: of the deployment.
        is_on_cpu: whether every instance is put on the CPU, whatever the configurations say.

    Raises:
        ConfigError: about the first model.
    """
    for model, path in find_models(repositories).items():
        if is_sequence(path) and plan.most_replicas > 1:
            raise sequence_error(model, plan.most_replicas)
        if is_on_cpu:
            continue
        config = read_config(path)
        if "KIND_GPU" in config.kinds() and plan.gpus == 0:
            raise ConfigError.of(
                f"model {model!r}",
                expected="replicas with a GPU, for its KIND_GPU",
                got="gpus 0",
                remedy="give each replica GPUs (--gpus 1), or put all instances on the CPU (--kind CPU)",
            )
        far = [gpu for gpu in config.gpus() if gpu >= plan.gpus]
        if far and "KIND_GPU" in config.kinds():
            raise ConfigError.of(
                f"model {model!r} gpus {far}",
                expected=f"ids among the {plan.gpus:g} GPUs of a replica, counted from 0",
                got=f"{far[0]}",
                remedy="leave gpus out of its instance_group: Ray chooses the GPUs of a replica",
            )


def is_sequence(path: Path) -> bool:
    """Return whether a model's configuration wants the requests of a sequence at one server."""
    try:
        text = (path / "config.pbtxt").read_text(errors="replace")
    except OSError:
        return False
    is_iterative = read_setting(text, "sequence_batching.iterative_sequence") == "true"
    return read_config(path).has("sequence_batching") and not is_iterative


def sequence_error(model: str, num_replicas: int) -> ConfigError:
    """Return the error about a model whose sequences several replicas would tear apart."""
    return ConfigError.of(
        f"model {model!r} with sequence_batching",
        expected="one replica, since Ray sends each request to any of them",
        got=f"{num_replicas}",
        remedy="serve it from a repository of its own, as an application with one replica",
    )


def _kinds(repositories: Sequence[str]) -> Mapping[str, list[str]]:
    return {model: read_config(path).kinds() for model, path in find_models(repositories).items()}
