"""The part `gains`: what each setting brings on each network, and what it costs in accuracy."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.networks import NETWORKS
from benchmarks.parts.pictures import make_crops
from benchmarks.run import Run
from benchmarks.servers.load import ask, measure_in_turns
from benchmarks.servers.repository import Served
from benchmarks.servers.target import Protocol, read_values, triton_target
from benchmarks.servers.triton import target_of, tritonserver
from kindaware.cli.bench._stats import paired_ratio, spreads, values_of
from kindaware.testing import TritonServer

DEFAULT = "defaults"
OPTIMIZED = "optimize auto"
CONCURRENCY = 8
SECONDS = {"mlp": 0.7, "transformer": 1.0, "efficientnet_lite0": 2.0, "resnet50": 4.0}

_COMPILED = {"kindaware.compile": "frozen"}
_CHANNELS_LAST = {"kindaware.memory_format": "channels_last"}
_BF16 = {"kindaware.precision": "bf16-true"}
_TWO = "2 instances, "
_FREE_WITHOUT_TOLERANCE = {"kindaware.num_threads", *_COMPILED, *_CHANNELS_LAST}
"""The settings that `optimize` changes where the model states no tolerance."""

SETTINGS: Mapping[str, dict[str, str]] = {
    DEFAULT: {},
    "num_threads 1": {"kindaware.num_threads": "1"},
    "wait_policy passive": {"kindaware.wait_policy": "passive"},
    "keep_memory off": {"kindaware.keep_memory": "off"},
    f"{_TWO}default budget": {},
    f"{_TWO}PyTorch's threads each": {"kindaware.num_threads": str(torch.get_num_threads())},
    "bf16-mixed": {"kindaware.precision": "bf16-mixed"},
    "bf16-true": _BF16,
    "compile frozen": _COMPILED,
    OPTIMIZED: {"kindaware.optimize": "auto"},
    "bf16-true, compile frozen": _BF16 | _COMPILED,
}
SETTINGS_OF_PICTURES: Mapping[str, dict[str, str]] = {
    "channels_last": _CHANNELS_LAST,
    "channels_last, compile frozen": _CHANNELS_LAST | _COMPILED,
    "channels_last, bf16-true": _CHANNELS_LAST | _BF16,
    "channels_last, bf16-true, compile frozen": _CHANNELS_LAST | _BF16 | _COMPILED,
}


def variants(network: str) -> dict[str, Served]:
    """Return the models of a network, one for each of the settings, by what the table calls them."""
    settings = {**SETTINGS, **(SETTINGS_OF_PICTURES if NETWORKS[network].is_picture else {})}
    return {
        name: Served("kindaware", network, 2 if name.startswith(_TWO) else 1, f"setting_{number}", parameters)
        for number, (name, parameters) in enumerate(settings.items())
    }


def run_gains(run: Run) -> dict[str, Any]:
    """Measure what each setting brings on each network, against the defaults; compiling takes minutes.

    Returns:
        By network: requests per second of each variant over those of the defaults, and raw rounds; for
        trained weights the share of pictures whose best class is that of the defaults.
    """
    found: dict[str, Any] = {"concurrency": CONCURRENCY, "networks": {}, "not_measured": run.missing}
    for network in run.args.networks:
        models = variants(network)
        run.say(f"gains: {network}, {len(models)} variants; compiling takes minutes")
        others = {name: served for name, served in models.items() if name != OPTIMIZED}
        with (
            run.going_on(f"gains of {network}"),
            # Alone while it starts: the others would need the cores on which it measures.
            tritonserver([models[OPTIMIZED]], run.say) as optimized,
            tritonserver(others.values(), run.say) as server,
        ):
            targets = {name: target_of(server, served, run.args.client) for name, served in others.items()}
            targets[OPTIMIZED] = target_of(optimized, models[OPTIMIZED], run.args.client)
            rounds = measure_in_turns(
                targets, CONCURRENCY, run.seconds(SECONDS[network]), run.rounds(full=6, quick=2)
            )
            rates = values_of(rounds, "requests_per_second")
            found["networks"][network] = {
                "rates": spreads(rates),
                "ratios": {name: paired_ratio(values, rates[DEFAULT]) for name, values in rates.items()},
                "optimized": _optimized(rates),
                "rounds": rounds,
            }
            if NETWORKS[network].is_trained:
                found["networks"][network]["agreement"] = _agreement(server, others, run.args.client)
        run.keep(found)
    return found


def _optimized(rates: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Compare what `optimize` chose with the defaults, and with the best that it may choose in FP32."""
    settings = {**SETTINGS, **SETTINGS_OF_PICTURES}
    free = [name for name in rates if settings[name].keys() <= _FREE_WITHOUT_TOLERANCE]
    grid = [name for name in free if not name.startswith(_TWO)]
    best = max(grid, key=lambda name: statistics.median(rates[name]))
    return {
        kind: {"name": name, "ratio": paired_ratio(rates[OPTIMIZED], rates[name])}
        for kind, name in {"best": best, "defaults": DEFAULT}.items()
    }


def _agreement(server: TritonServer, models: Mapping[str, Served], protocol: Protocol) -> dict[str, Any]:
    """Compare the best class of every picture with that of the defaults, FP32."""
    crops = make_crops()
    address = server.http_url if protocol == "http" else server.grpc_url
    best: dict[str, list[int]] = {}
    for name, served in models.items():
        shape = NETWORKS[served.network].output_shape
        targets = [triton_target(protocol, address, served.name, crop) for crop in crops]
        best[name] = [int(read_values(target, ask(target)[0], shape).argmax()) for target in targets]
    shares = {
        name: sum(a == b for a, b in zip(classes, best[DEFAULT], strict=True)) / len(crops)
        for name, classes in best.items()
    }
    return {"pictures": len(crops), "same_best_class": shares}
