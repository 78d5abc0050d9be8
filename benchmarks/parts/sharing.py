"""The part `sharing`: the memory and the load time of instances that share their weights, or don't."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.bars import LOAD_WITH_COPY, MEMORY_OF_FOUR, MEMORY_OF_FOUR_BF16
from benchmarks.networks import NETWORKS
from benchmarks.parts.memory import command_of, descendants
from benchmarks.run import Run
from benchmarks.servers.cache_folder import cache_in
from benchmarks.servers.repository import Served
from benchmarks.servers.triton import tritonserver
from kindaware.cli.bench._stats import paired_ratio, spreads

USUAL, SHARED, BF16, NOTHING = "read by each", "load_weights", "load_weights, bf16-true", "no weights"
PARAMETERS: Mapping[str, dict[str, str]] = {
    USUAL: {"way": "read"},
    SHARED: {"way": "share"},
    BF16: {"way": "share", "kindaware.precision": "bf16-true"},
    NOTHING: {"way": "none"},
}
COUNTS = (1, 4)


class _OfAnyNumber(Served):
    """A model with one name for any number of instances, since copies in the cache are a model's."""

    @property
    def name(self) -> str:
        """The model's name."""
        return f"{self.network}_{self.label}"


def run_sharing(run: Run) -> dict[str, Any]:
    """Start one and four instances with 400 MB of weights, ten times, with an empty cache.

    The memory of weights is the proportional set size (Pss) of the instances, which divides each page by the
    number of its holders, less that of as many instances without weights. Load times are those of the log;
    with four instances the longest of them counts. One instance starts first, and writes the copy of the
    converted weights; the four find it.

    Returns:
        MiB and seconds, by form and number of instances, their ratios, and raw rounds.
    """
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(run.rounds(10, 2)):
        run.say(f"sharing: round {number + 1}")
        with tempfile.TemporaryDirectory(prefix="kindaware-bench-") as folder, cache_in(folder):
            torch.save(NETWORKS["wide"].build().state_dict(), Path(folder) / "weights.pt")
            rounds.append(
                {f"{form}, {count}": one for count in COUNTS for form, one in _start(folder, count)}
            )
    mib, seconds = (
        {name: [one[name][key] for one in rounds] for name in rounds[0]} for key in ("mib", "seconds")
    )
    return {
        "scenarios": [
            {
                "name": "sharing",
                "measures": {"Weights, MiB": spreads(mib), "Load, s": spreads(seconds)},
                "ratios": {
                    "memory: 4 instances / 1, read by each": paired_ratio(
                        mib[f"{USUAL}, 4"], mib[f"{USUAL}, 1"]
                    ),
                    MEMORY_OF_FOUR: paired_ratio(mib[f"{SHARED}, 4"], mib[f"{SHARED}, 1"]),
                    MEMORY_OF_FOUR_BF16: paired_ratio(mib[f"{BF16}, 4"], mib[f"{BF16}, 1"]),
                    LOAD_WITH_COPY: paired_ratio(seconds[f"{BF16}, 4"], seconds[f"{BF16}, 1"]),
                    "load: load_weights / read by each": paired_ratio(
                        seconds[f"{SHARED}, 1"], seconds[f"{USUAL}, 1"]
                    ),
                },
                "rounds": rounds,
            }
        ],
        "not_measured": run.missing,
    }


def _start(folder: str, count: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield, by form, MiB of weights that the instances hold together, and the longest load."""
    path = Path(folder) / "weights.pt"
    held, seconds = {}, {}
    for number, (form, parameters) in enumerate(PARAMETERS.items()):
        served = _OfAnyNumber("weights", "wide", count, f"form_{number}", {"path": str(path), **parameters})
        # Alone on its server: others that load at the same time would take its cores.
        with tritonserver([served], lambda _: None) as server:
            held[form] = _held(server.pid, served.name)
            seconds[form] = max(one.load_seconds for one in server.instances())
    for form in PARAMETERS:
        if form != NOTHING:
            yield form, {"mib": held[form] - held[NOTHING], "seconds": seconds[form]}


def _held(server: int, model: str) -> float:
    """Return the proportional set size of a model's instances, in MiB."""
    return sum(_pss(pid) for pid in descendants(server) if f"/{model}/" in command_of(pid))


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
