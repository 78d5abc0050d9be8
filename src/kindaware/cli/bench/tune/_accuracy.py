"""How far outputs are from those in FP32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kindaware._tuning.relative_error import relative_error

Arrays = Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Accuracy:
    """The worst of all outputs.

    Attributes:
        error: largest difference of a floating-point output, in parts of the output's largest value.
        agreement: share of rows whose best class is the same, and of values that are not floating-point.
    """

    error: float
    agreement: float

    def find_problem(self, max_error: float, min_agreement: float) -> str:
        """Return why this is not accurate enough; empty if it is."""
        if not self.error <= max_error:
            return f"error {self.error:.2g} above {max_error:g}"
        if self.agreement < min_agreement:
            return f"best class agrees in {self.agreement:.1%}, below {min_agreement:.1%}"
        return ""


def compare_outputs(found: Sequence[Arrays], reference: Sequence[Arrays]) -> Accuracy:
    """Compare the answers to the same requests, output by output."""
    error, agreement = 0.0, 1.0
    for name in reference[0]:
        agrees: list[np.ndarray[Any, Any]] = [np.ones(0, dtype=bool)]
        for ours, theirs in (
            (_rows(one[name]), _rows(other[name])) for one, other in zip(found, reference, strict=True)
        ):
            if ours.shape != theirs.shape:
                return Accuracy(float("inf"), 0.0)
            if theirs.dtype.kind != "f":
                agrees.append((ours == theirs).ravel())
                continue
            error = max(error, relative_error(ours, theirs))
            if theirs.shape[1] > 1:
                agrees.append(ours.argmax(1) == theirs.argmax(1))
        all_of_it = np.concatenate(agrees)
        agreement = min(agreement, float(all_of_it.mean()) if all_of_it.size else 1.0)
    return Accuracy(error, agreement)


def _rows(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an output as rows of classes."""
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
