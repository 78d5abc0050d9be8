"""The part `gains`: what each setting brings on each network, and what it costs in accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import torch

from benchmarks.networks import NETWORKS
from benchmarks.parts.pictures import make_crops
from benchmarks.parts.serving import going_on, measure_in_turns
from benchmarks.servers import start as servers
from benchmarks.servers.load import ask
from benchmarks.servers.repository import Served
from benchmarks.servers.target import Protocol, read_values, triton_target
from benchmarks.stats import Spread, paired_ratio
from kindaware.testing import TritonServer

DEFAULT = "defaults"
CONCURRENCY = 8
SECONDS = {"mlp": 0.7, "transformer": 1.0, "efficientnet_lite0": 2.0, "resnet50": 4.0}
IMAGES = ("resnet50", "efficientnet_lite0")

_COMPILED = MappingProxyType({"kindaware.compile": "default", "freezing": "true"})
_CHANNELS_LAST = MappingProxyType({"kindaware.memory_format": "channels_last"})
_BF16 = MappingProxyType({"kindaware.precision": "bf16-true"})
_MIXED = MappingProxyType({"kindaware.precision": "bf16-mixed"})
_ALL_THREADS = MappingProxyType({"kindaware.num_threads": str(torch.get_num_threads())})
_ONE_THREAD = MappingProxyType({"kindaware.num_threads": "1"})


def variants(network: str) -> dict[str, Served]:
    """The settings that are tried on a network, by what the table calls them."""

    def model(label: str, parameters: Mapping[str, str], instances: int = 1) -> Served:
        return Served("kindaware", network, instances, label, dict(parameters))

    found = {
        DEFAULT: model("defaults", {}),
        "num_threads 1": model("thread", _ONE_THREAD),
        "wait_policy passive": model("passive", {"kindaware.wait_policy": "passive"}),
        "keep_memory off": model("pages", {"kindaware.keep_memory": "off"}),
        "2 instances, default budget": model("budget", {}, 2),
        "2 instances, PyTorch's threads each": model("threads", _ALL_THREADS, 2),
        "bf16-mixed": model("mixed", _MIXED),
        "bf16-true": model("bf16", _BF16),
        "compile with freezing": model("compiled", _COMPILED),
        "bf16-true, compile with freezing": model("bf16_compiled", {**_BF16, **_COMPILED}),
    }
    if network in IMAGES:
        found["channels_last"] = model("last", _CHANNELS_LAST)
        found["channels_last, bf16-true"] = model("bf16_last", {**_BF16, **_CHANNELS_LAST})
        found["channels_last, bf16-true, compile with freezing"] = model(
            "all", {**_BF16, **_CHANNELS_LAST, **_COMPILED}
        )
    return found


def run_gains(
    protocol: Protocol,
    num_rounds: int,
    speed: float,
    networks: Sequence[str],
    say: Callable[[str], None],
    keep: Callable[[dict[str, Any]], object],
) -> dict[str, Any]:
    """Measure each variant of each network beside the defaults, all on one server, in turns.

    Returns:
        By network: requests per second of each variant over those of the defaults, and raw rounds; for
        trained weights the share of pictures whose best class is that of the defaults.
    """
    missing: list[str] = []
    found: dict[str, Any] = {"concurrency": CONCURRENCY, "networks": {}, "not_measured": missing}
    for network in networks:
        models = variants(network)
        say(f"gains: {network}, {len(models)} variants; compiling takes minutes")
        with (
            going_on(f"gains of {network}", missing, say),
            servers.triton(list(models.values()), say) as server,
        ):
            found["networks"][network] = _measure(
                server, models, protocol, num_rounds, SECONDS[network] / speed
            )
            if NETWORKS[network].is_trained:
                found["networks"][network]["agreement"] = _agreement(server, models, protocol)
        keep(found)
    return found


def _measure(
    server: TritonServer, models: Mapping[str, Served], protocol: Protocol, num_rounds: int, seconds: float
) -> dict[str, Any]:
    targets = {name: servers.target_of(server, served, protocol) for name, served in models.items()}

    rounds = measure_in_turns(targets, CONCURRENCY, seconds, num_rounds)
    rates = {name: [one[name].requests_per_second for one in rounds] for name in models}
    return {
        "rates": {name: asdict(Spread.of(values)) for name, values in rates.items()},
        "ratios": {name: asdict(paired_ratio(values, rates[DEFAULT])) for name, values in rates.items()},
        "rounds": [{name: asdict(load) for name, load in one.items()} for one in rounds],
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
    return {"pictures": len(crops), "classes": len(set(best[DEFAULT])), "same_best_class": shares}
