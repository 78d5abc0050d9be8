"""The part `serving`: the forms of each network on their servers, in turns, under the same load."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.networks import NETWORKS
from benchmarks.parts import scenarios
from benchmarks.parts.scenarios import CANDIDATE, ELSEWHERE, HAND_WRITTEN, ONE_THREAD, Scenario
from benchmarks.servers import start as servers
from benchmarks.servers.load import Load, LoadError, ask, measure
from benchmarks.servers.target import Protocol, Target, read_values
from benchmarks.stats import Spread, interleave, paired_ratio
from kindaware._errors import describe

TOLERANCE = {"resnet50": 0.2}
"""How far an answer may be from that of the official form, of its largest value: bf16 for ResNet50."""
DEFAULT_TOLERANCE = 1e-4


def run_serving(
    protocol: Protocol,
    num_rounds: int,
    speed: float,
    networks: Sequence[str],
    say: Callable[[str], None],
    keep: Callable[[dict[str, Any]], object],
) -> dict[str, Any]:
    """Measure all scenarios, network by network; where one fails, the others go on.

    Args:
        protocol: how the tritonservers are asked; LitServe only knows HTTP.
        num_rounds: of each scenario.
        speed: by how much measurements are shortened.
        networks: those that are measured.
        say: told what goes on.
        keep: gets what there is so far, after each scenario.

    Returns:
        Scenarios with their raw rounds and ratios, and what could not be measured.
    """
    measured: list[dict[str, Any]] = []
    missing: list[str] = []
    found = {"protocol": protocol, "scenarios": measured, "not_measured": missing}
    wanted = [one for one in scenarios.SCENARIOS if one.network in networks]
    for network in dict.fromkeys(one.network for one in wanted):
        ours = [one for one in wanted if one.network == network]
        with going_on(network, missing, say), open_targets(ours, protocol, missing, say) as targets:
            for scenario in ours:
                say(f"{scenario.name}: {num_rounds} rounds")
                with going_on(scenario.name, missing, say):
                    measured.append(_run(scenario, targets[scenario.name], num_rounds, speed))
                keep(found)
    return found


@contextlib.contextmanager
def going_on(subject: str, missing: list[str], say: Callable[[str], None]) -> Iterator[None]:
    """Let the run go on after an error in the block, which `missing` and `say` are told."""
    try:
        yield
    except Exception as error:
        missing.append(f"{subject}: {servers.without_folders(describe(error))}")
        say(f"NOT MEASURED: {subject}\n{traceback.format_exc()}")


@contextlib.contextmanager
def open_targets(
    ours: Sequence[Scenario], protocol: Protocol, missing: list[str], say: Callable[[str], None]
) -> Iterator[dict[str, dict[str, Target]]]:
    """Start all servers of one network's scenarios, and check that their forms give the same answers.

    Yields:
        Targets by scenario and form; without the forms that can't be had, which `missing` is told.
    """
    network = ours[0].network
    models = {served.name: served for scenario in ours for served in scenario.served().values()}
    say(f"{network}: starting a tritonserver with {len(models)} models")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(servers.triton(list(models.values()), say))
        others: dict[str, Target] = {}
        for form in ELSEWHERE:
            if any(form in scenario.forms for scenario in ours):
                try:
                    others[form] = stack.enter_context(
                        servers.pytriton(network, protocol)
                        if form == "pytriton"
                        else servers.litserve(network)
                    )
                except servers.ServerUnavailableError as error:
                    missing.append(str(error))
                    say(f"NOT MEASURED: {error}")
        targets = {}
        for scenario in ours:
            own = {f: servers.target_of(server, s, protocol) for f, s in scenario.served().items()}
            targets[scenario.name] = {**own, **{f: t for f, t in others.items() if f in scenario.forms}}
            check_answers(network, targets[scenario.name])
        yield targets


def check_answers(network: str, targets: dict[str, Target]) -> None:
    """Ask every form but the floor the same, and compare with the official one.

    Raises:
        LoadError: a form gives other answers, so its speed means nothing.
    """
    shape = NETWORKS[network].output_shape
    answers = {
        form: read_values(target, ask_awake(target), shape)
        for form, target in targets.items()
        if form != scenarios.FLOOR
    }
    reference = answers["official"]
    tolerance = TOLERANCE.get(network, DEFAULT_TOLERANCE) * float(np.abs(reference).max())
    for form, answer in answers.items():
        difference = float(np.abs(answer - reference).max())
        if not difference <= tolerance:
            raise LoadError(
                f"{network} as {form}: expected the answer of the official form within {tolerance:.3g}, "
                f"got a difference of {difference:.3g}; correct the form"
            )


def _run(scenario: Scenario, targets: dict[str, Target], num_rounds: int, speed: float) -> dict[str, Any]:
    seconds = scenario.seconds / speed

    rounds = measure_in_turns(targets, scenario.concurrency, seconds, num_rounds)
    rates = {form: [one[form].requests_per_second for one in rounds] for form in targets}
    latencies = {form: [one[form].p50_ms for one in rounds] for form in targets}
    ours, by_hand = (fastest(rates, kind) for kind in (CANDIDATE, HAND_WRITTEN))
    tuned = (CANDIDATE, HAND_WRITTEN, *ONE_THREAD)
    others = {HAND_WRITTEN: by_hand, **{form: form for form in targets if form not in tuned}}
    ratios = {
        f"{name}: {CANDIDATE} / {other}": asdict(paired_ratio(values[ours], values[form]))
        for name, values in (("rate", rates), ("p50", latencies))
        for other, form in others.items()
    }
    return {
        "name": scenario.name,
        "concurrency": scenario.concurrency,
        "instances": scenario.instances,
        "seconds": seconds,
        "fastest": {CANDIDATE: ours, HAND_WRITTEN: by_hand},
        "parameters": {form: dict(served.parameters) for form, served in scenario.served().items()},
        "rates": {form: asdict(Spread.of(values)) for form, values in rates.items()},
        "p50_ms": {form: asdict(Spread.of(values)) for form, values in latencies.items()},
        "ratios": ratios,
        "rounds": [{form: asdict(load) for form, load in one.items()} for one in rounds],
    }


def fastest(rates: Mapping[str, Sequence[float]], kind: str) -> str:
    """Choose what the ratios are taken of: a form, or the same with one thread, by the higher median."""
    variants = [form for form in rates if ONE_THREAD.get(form, form) == kind]
    return max(variants, key=lambda form: np.median(rates[form]))


def measure_in_turns(
    targets: Mapping[str, Target], concurrency: int, seconds: float, num_rounds: int
) -> list[dict[str, Load]]:
    """Measure all targets once per round, after a short round that isn't kept."""

    def measurement(target: Target, duration: float) -> Callable[[], Load]:
        def run() -> Load:
            with servers.awake(target):
                return measure(target, concurrency, duration, settle_seconds=min(0.2, duration / 3))

        return run

    interleave({name: measurement(target, min(0.5, seconds)) for name, target in targets.items()}, 1)
    return interleave({name: measurement(target, seconds) for name, target in targets.items()}, num_rounds)


def ask_awake(target: Target) -> bytes:
    """Ask once, whether or not the server sleeps."""
    with servers.awake(target):
        return ask(target)[0]
