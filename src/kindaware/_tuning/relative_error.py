"""How far values are from those expected."""

from __future__ import annotations

from typing import Any

import numpy as np


def relative_error(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Return the largest difference of two arrays of one shape, in parts of the largest value expected.

    Returns:
        Infinity if one of them has values that are not finite where the other has others; the difference
        itself if all of the values expected are zero.
    """
    known = np.isfinite(expected)
    if not np.array_equal(known, np.isfinite(found)):
        return float("inf")
    difference = np.abs(found[known].astype(np.float64) - expected[known])
    largest = np.abs(expected[known]).max(initial=0.0)
    return float(difference.max(initial=0.0) / largest) if largest else float(difference.max(initial=0.0))
