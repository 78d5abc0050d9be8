"""The part `serving`: the forms of each network on their servers, in turns, under the same load."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.networks import NETWORKS
from benchmarks.parts.scenarios import (
    CANDIDATE,
    FLOOR,
    HAND_WRITTEN,
    OFFICIAL,
    ONE_THREAD,
    SCENARIOS,
    Scenario,
)
from benchmarks.run import Run
from benchmarks.servers.load import LoadError, ask, measure_in_turns
from benchmarks.servers.others import OTHER_SERVERS, awake
from benchmarks.servers.target import Target, read_values
from benchmarks.servers.triton import target_of, tritonserver
from kindaware.cli.bench._stats import paired_ratio, spreads, values_of

TOLERANCE = {"resnet50": 0.2}
"""How far an answer may be from that of the official form, of its largest value: bf16 for ResNet50."""
DEFAULT_TOLERANCE = 1e-4


def run_serving(run: Run) -> dict[str, Any]:
    """Compare the forms, network by network, at 32, 8 and 1 requests in flight.

    Returns:
        Scenarios with their raw rounds and ratios, and what could not be measured.
    """
    found: dict[str, Any] = {"protocol": run.args.client, "scenarios": [], "not_measured": run.missing}
    wanted = [one for one in SCENARIOS if one.network in run.args.networks]
    for network in dict.fromkeys(one.network for one in wanted):
        ours = [one for one in wanted if one.network == network]
        with run.going_on(network), open_targets(run, ours) as targets:
            for scenario in ours:
                run.add(found, scenario.name, partial(_measure, run, scenario, targets[scenario.name]))
    return found


@contextlib.contextmanager
def open_targets(run: Run, ours: Sequence[Scenario]) -> Iterator[dict[str, dict[str, Target]]]:
    """Start all servers of one network's scenarios, and check that their forms give the same answers.

    Yields:
        Targets by scenario and form; without the forms that can't be had.
    """
    network, protocol = ours[0].network, run.args.client
    models = {served.name: served for scenario in ours for served in scenario.served().values()}
    run.say(f"{network}: starting a tritonserver with {len(models)} models")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(tritonserver(models.values(), run.say))
        others: dict[str, Target] = {}
        for form, serve in OTHER_SERVERS.items():
            if any(form in scenario.forms for scenario in ours):
                with run.going_on(f"{network} as {form}"):
                    others[form] = stack.enter_context(serve(network, protocol))
        targets = {}
        for scenario in ours:
            own = {form: target_of(server, served, protocol) for form, served in scenario.served().items()}
            own |= {form: target for form, target in others.items() if form in scenario.forms}
            check_answers(network, own)
            targets[scenario.name] = own
        yield targets


def check_answers(network: str, targets: dict[str, Target]) -> None:
    """Ask every form but the floor the same, and compare with the official one.

    Raises:
        LoadError: a form gives other answers, so its speed means nothing.
    """
    shape = NETWORKS[network].output_shape
    answers = {}
    for form, target in targets.items():
        if form != FLOOR:
            with awake(target):
                answers[form] = read_values(target, ask(target)[0], shape)
    reference = answers[OFFICIAL]
    tolerance = TOLERANCE.get(network, DEFAULT_TOLERANCE) * float(np.abs(reference).max())
    for form, answer in answers.items():
        difference = float(np.abs(answer - reference).max())
        if not difference <= tolerance:
            raise LoadError(
                f"{network} as {form}: expected the answer of the official form within {tolerance:.3g}, "
                f"got a difference of {difference:.3g}; correct the form"
            )


def _measure(run: Run, scenario: Scenario, targets: dict[str, Target]) -> dict[str, Any]:
    seconds = run.seconds(scenario.seconds)
    rounds = measure_in_turns(targets, scenario.concurrency, seconds, run.rounds(11, 2))
    rates, latencies = (values_of(rounds, name) for name in ("requests_per_second", "p50_ms"))
    ours, by_hand = (fastest(rates, kind) for kind in (CANDIDATE, HAND_WRITTEN))
    tuned = (CANDIDATE, HAND_WRITTEN, *ONE_THREAD)
    others = {HAND_WRITTEN: by_hand, **{form: form for form in targets if form not in tuned}}
    return {
        "concurrency": scenario.concurrency,
        "instances": scenario.instances,
        "seconds": seconds,
        "fastest": {CANDIDATE: ours, HAND_WRITTEN: by_hand},
        "parameters": {form: dict(served.parameters) for form, served in scenario.served().items()},
        "rates": spreads(rates),
        "p50_ms": spreads(latencies),
        "ratios": {
            f"{name}: {CANDIDATE} / {other}": paired_ratio(values[ours], values[form])
            for name, values in (("rate", rates), ("p50", latencies))
            for other, form in others.items()
        },
        "rounds": rounds,
    }


def fastest(rates: Mapping[str, Sequence[float]], kind: str) -> str:
    """Choose what the ratios are taken of: a form, or the same with one thread, by the higher median."""
    variants = [form for form in rates if ONE_THREAD.get(form, form) == kind]
    return max(variants, key=lambda form: np.median(rates[form]))
