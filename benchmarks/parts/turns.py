"""The part `turns`: `execute` for one request, by hand, official and in kindaware, in turns within one stub.

At one request in flight the forms differ by microseconds, and two stubs of one machine by more than that.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.parts.scenarios import CANDIDATE, IN_STUB
from benchmarks.run import Run
from benchmarks.servers.load import measure
from benchmarks.servers.repository import Served
from benchmarks.servers.triton import target_of, tritonserver
from kindaware.cli.bench._stats import Spread, paired_ratio, spreads

NUM_PARTS = 12
"""The rounds are cut into so many parts, of which the medians are taken: one part is one round elsewhere."""

SECONDS = 12.0


def run_turns(run: Run) -> dict[str, Any]:
    """Time `execute` for one request, form by form in turns, in the real stub.

    Returns:
        By network: microseconds of `execute` per form, and kindaware's over and less those of the others.
    """
    found: dict[str, Any] = {}
    for network in [one for one in ("mlp", "transformer") if one in run.args.networks]:
        run.say(f"turns: {network}")
        with tempfile.TemporaryDirectory(prefix="kindaware-bench-") as folder:
            times = Path(folder) / "times.json"
            served = turns_model(network, times)
            with tritonserver([served], run.say) as server:
                measure(target_of(server, served, "http"), 1, run.seconds(SECONDS))
            found[network] = summarise(json.loads(times.read_text()))
    return {"networks": found}


def turns_model(network: str, times: Path, forms: Sequence[str] = IN_STUB) -> Served:
    """Return the model that lets the forms take turns, and writes `times` when it is unloaded."""
    return Served("turns", network, parameters={"times_file": str(times), "forms": ",".join(forms)})


def summarise(
    rounds: Sequence[dict[str, float]], forms: Sequence[str] = IN_STUB, candidate: str = CANDIDATE
) -> dict[str, Any]:
    """Take medians part by part, and compare one form with the others within each part."""
    parts = np.array_split(np.array([[one[form] for form in forms] for one in rounds]), NUM_PARTS)
    medians = np.array([np.median(part, axis=0) for part in parts])
    by_part: dict[str, list[float]] = dict(zip(forms, medians.T.tolist(), strict=True))
    ours = by_part[candidate]
    others = {form: values for form, values in by_part.items() if form != candidate}
    return {
        "rounds": len(rounds),
        "us": spreads(by_part),
        "ratios": {form: paired_ratio(ours, values) for form, values in others.items()},
        "further_us": {
            form: Spread.of([a - b for a, b in zip(ours, values, strict=True)])
            for form, values in others.items()
        },
    }
