"""What `serving` and `curve` measure: data only."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import torch

from benchmarks.servers.others import OTHER_SERVERS
from benchmarks.servers.repository import Served


@dataclass(frozen=True)
class Scenario:
    """Forms of one network, driven in the same way, in turns.

    Attributes:
        name: by which bars refer to it.
        network: what is served.
        instances: of each model on the tritonserver.
        concurrency: requests in flight.
        seconds: of one measurement.
        forms: in the order of a round.
    """

    name: str
    network: str
    instances: int
    concurrency: int
    seconds: float
    forms: tuple[str, ...]

    def served(self) -> dict[str, Served]:
        """Return the models of its forms on the tritonserver, by form."""
        found = {}
        for form in self.forms:
            if form in ONE_THREAD:
                parameters = {"kindaware.num_threads": "1"}
                found[form] = Served(ONE_THREAD[form], self.network, self.instances, "one_thread", parameters)
            elif form not in OTHER_SERVERS:
                parameters = parameters_of(self.network, form)
                found[form] = Served(form, self.network, self.instances, parameters=parameters)
        return found


OFFICIAL, HAND_WRITTEN, CANDIDATE, FLOOR = "official", "hand_written", "kindaware", "floor"
ONE_THREAD = {f"{form}, 1 thread": form for form in (HAND_WRITTEN, CANDIDATE)}
"""The same file with one thread: who tunes tries both, and keeps what is faster."""

IN_STUB = (OFFICIAL, HAND_WRITTEN, CANDIDATE)
_TUNED = (*IN_STUB, *ONE_THREAD)
_ALL = (*_TUNED, FLOOR, *OTHER_SERVERS)

SCENARIOS = (
    Scenario("mlp, 1 instance", "mlp", 1, 32, 1.5, _ALL),
    Scenario("mlp, 2 instances", "mlp", 2, 32, 1.5, IN_STUB),
    Scenario("mlp, concurrency 1", "mlp", 1, 1, 1.0, _TUNED),
    Scenario("transformer, 1 instance", "transformer", 1, 32, 1.5, _ALL),
    Scenario("transformer, 2 instances", "transformer", 2, 32, 1.5, IN_STUB),
    Scenario("transformer, concurrency 1", "transformer", 1, 1, 1.0, _TUNED),
    Scenario("resnet50", "resnet50", 1, 8, 4.0, IN_STUB),
)

CURVE_CONCURRENCY = (1, 2, 4, 8, 16, 32, 64)
CURVE_FORMS = (*_TUNED, "pytriton")
CURVES = tuple(
    Scenario(f"{network}, curve", network, 1, max(CURVE_CONCURRENCY), 0.6, CURVE_FORMS)
    for network in ("mlp", "transformer")
)


def parameters_of(network: str, form: str) -> dict[str, str]:
    """Return the settings with which a form serves a network: the same ones where batches are computed.

    A ResNet50 is served in channels_last, in bf16 where the processor has instructions for it, and compiled
    with its weights frozen where there is a C++ compiler.
    """
    if network != "resnet50" or form not in (HAND_WRITTEN, CANDIDATE):
        return {}
    parameters = {"kindaware.memory_format": "channels_last"}
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        parameters["kindaware.precision"] = "bf16-true"
    if shutil.which("g++"):
        parameters |= {"kindaware.compile": "frozen"}
    return parameters
