"""The part `gains`: what each setting brings on each network, and what it costs in accuracy."""

from __future__ import annotations

from collections.abc import Mapping
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
CONCURRENCY = 8
SECONDS = {"mlp": 0.7, "transformer": 1.0, "efficientnet_lite0": 2.0, "resnet50": 4.0}

_COMPILED = {"kindaware.compile": "default", "freezing": "true"}
_CHANNELS_LAST = {"kindaware.memory_format": "channels_last"}
_BF16 = {"kindaware.precision": "bf16-true"}
_TWO = "2 instances, "

SETTINGS: Mapping[str, dict[str, str]] = {
    DEFAULT: {},
    "num_threads 1": {"kindaware.num_threads": "1"},
    "wait_policy passive": {"kindaware.wait_policy": "passive"},
    "keep_memory off": {"kindaware.keep_memory": "off"},
    f"{_TWO}default budget": {},
    f"{_TWO}PyTorch's threads each": {"kindaware.num_threads": str(torch.get_num_threads())},
    "bf16-mixed": {"kindaware.precision": "bf16-mixed"},
    "bf16-true": _BF16,
    "compile with freezing": _COMPILED,
    "bf16-true, compile with freezing": _BF16 | _COMPILED,
}
SETTINGS_OF_PICTURES: Mapping[str, dict[str, str]] = {
    "channels_last": _CHANNELS_LAST,
    "channels_last, bf16-true": _CHANNELS_LAST | _BF16,
    "channels_last, bf16-true, compile with freezing": _CHANNELS_LAST | _BF16 | _COMPILED,
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
        with run.going_on(f"gains of {network}"), tritonserver(models.values(), run.say) as server:
            targets = {name: target_of(server, served, run.args.client) for name, served in models.items()}
            rounds = measure_in_turns(
                targets, CONCURRENCY, run.seconds(SECONDS[network]), run.rounds(full=6, quick=2)
            )
            rates = values_of(rounds, "requests_per_second")
            found["networks"][network] = {
                "rates": spreads(rates),
                "ratios": {name: paired_ratio(values, rates[DEFAULT]) for name, values in rates.items()},
                "rounds": rounds,
            }
            if NETWORKS[network].is_trained:
                found["networks"][network]["agreement"] = _agreement(server, models, run.args.client)
        run.keep(found)
    return found


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
