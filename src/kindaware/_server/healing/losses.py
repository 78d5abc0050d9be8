"""Which ready models have fewer stubs than instances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kindaware._server.endpoint import ModelStatus
from kindaware._server.healing.stubs import Stub
from kindaware._server.instances import count_instances


@dataclass(frozen=True)
class Loss:
    """A model that is ready, and has lost stubs.

    Attributes:
        model: its name.
        num_alive: stubs that are left.
        num_instances: stubs that it ought to have.
    """

    model: str
    num_alive: int
    num_instances: int


class LossFinder:
    """Compares the stubs of ready models with the instances that their configurations ask for.

    A stub that a server has ended as it should leaves no trace: its model isn't ready then, or has others.

    Args:
        read_config: returns the completed configuration of a ready model.
    """

    def __init__(self, read_config: Callable[[str], Mapping[str, Any]]) -> None:
        self._read_config = read_config
        self._num_instances: dict[str, int] = {}
        self._has_stubs: set[str] = set()

    def find(self, stubs: Iterable[Stub], index: Sequence[ModelStatus], *, anew: bool = False) -> list[Loss]:
        """Return the losses.

        Args:
            stubs: that lived before the index was read.
            index: of the server.
            anew: read the configurations again, which a reload may have changed.
        """
        ready = Counter(status.name for status in index if status.state == "READY")
        names = {status.name for status in index}
        alive = Counter(owner for stub in stubs if (owner := stub.owner(names)) is not None)
        self._has_stubs |= alive.keys()
        for model in self._num_instances.keys() - ready.keys():
            del self._num_instances[model]
        losses = []
        for model, num_versions in ready.items():
            wanted = num_versions * self._count(model, anew=anew)
            if alive[model] < wanted:
                losses.append(Loss(model, alive[model], wanted))
        return losses

    def _count(self, model: str, *, anew: bool) -> int:
        """Return how many stubs a version of a model has; 0 for one without any, as of another backend."""
        if anew or model not in self._num_instances:
            config = self._read_config(model)
            runs_python = config.get("backend") == "python" or model in self._has_stubs
            self._num_instances[model] = count_instances(config) if runs_python else 0
        return self._num_instances[model]
