"""The part `turns`: `execute` for one request, by hand, official and in kindaware, in turns within one stub.

At one request in flight the forms differ by microseconds, and two stubs of one machine by more than that.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.parts.scenarios import CANDIDATE, HAND_WRITTEN
from benchmarks.servers import start as servers
from benchmarks.servers.load import measure
from benchmarks.servers.repository import HERE, Served, write_model
from benchmarks.stats import Spread, paired_ratio
from kindaware.testing import TritonServer

FORMS = ("official", HAND_WRITTEN, CANDIDATE)
NUM_PARTS = 12
"""The rounds are cut into so many parts, of which the medians are taken: one part is one round elsewhere."""

SECONDS = 12.0


def run_turns(speed: float, networks: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """Time the forms on one server after another.

    Returns:
        By network: microseconds of `execute` per form, and kindaware's over and less those of the others.
    """
    found: dict[str, Any] = {}
    for network in [one for one in ("mlp", "transformer") if one in networks]:
        say(f"turns: {network}")
        found[network] = summarise(_measure(network, SECONDS / speed))
    return {"networks": found}


def summarise(rounds: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Take medians part by part, and compare kindaware with the others within each part."""
    parts = np.array_split(np.array([[one[form] for form in FORMS] for one in rounds]), NUM_PARTS)
    by_part = {form: [float(np.median(part[:, place])) for part in parts] for place, form in enumerate(FORMS)}
    ours = by_part[CANDIDATE]
    others = [form for form in FORMS if form != CANDIDATE]
    return {
        "rounds": len(rounds),
        "us": {form: asdict(Spread.of(values)) for form, values in by_part.items()},
        "ratios": {form: asdict(paired_ratio(ours, by_part[form])) for form in others},
        "further_us": {
            form: asdict(Spread.of([a - b for a, b in zip(ours, by_part[form], strict=True)]))
            for form in others
        },
    }


def write_turns(folder: Path, network: str, times: Path) -> Served:
    """Write the model that lets the forms take turns, and `times` when it is unloaded."""
    served = Served("turns", network, parameters={"times_file": str(times), "forms": ",".join(FORMS)})
    model = write_model(folder, served)
    for form in FORMS:
        shutil.copy(HERE / "forms" / f"{form}.py", model / "1" / f"{form}_form.py")
    return served


def _measure(network: str, seconds: float) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="kindaware-bench-") as folder:
        times, models = Path(folder) / "times.json", Path(folder) / "models"
        served = write_turns(models, network, times)
        with TritonServer(models, args=[servers.NO_AUTO_COMPLETE]) as server:
            measure(servers.target_of(server, served, "http"), 1, seconds)
        rounds: list[dict[str, float]] = json.loads(times.read_text())
    return rounds
