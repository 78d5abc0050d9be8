"""The part `step`: streams that are stepped together, beside other ways to serve them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.bars import FIRST_ITEM
from benchmarks.machine import ROOT
from benchmarks.run import Run
from benchmarks.servers.others import litserve_texts
from benchmarks.servers.repository import ServedText, repository
from benchmarks.servers.streams import MakeTarget, Wave, measure_first_items, measure_wave
from benchmarks.servers.triton import text_target_of, tritonserver
from benchmarks.text import MAX_STREAMS
from kindaware.cli.bench._stats import Spread, interleave, paired_ratio, spreads, values_of

STEP, STREAM, LITSERVE, BARE_LOOP = "step", "stream", "litserve", "bare loop"
SIDE_BY_SIDE, BESIDE_THE_LOOP = "gpt, 32 streams", "wide gpt, 32 streams"
FIRST_ITEMS, NO_WORK = "first item, 31 streams", "steps that compute nothing"
NUM_STREAMS, NUM_TOKENS = 32, 64
CURVE = (1, 2, 4, 8, 16, 32, 64)
RUNNING, LONG, PROBES = 31, 200, 20
TICKS = 400
MEASURES = {
    "tokens per second": "items_per_second",
    "first one, ms": "first_item_ms",
    "between two, ms": "gap_ms",
    "client, us per token": "client_us",
}

_PARAMETERS = {"kindaware.max_streams": str(MAX_STREAMS)}
MODELS = {form: ServedText(form, "gpt", _PARAMETERS) for form in (STEP, STREAM)}
WIDE = ServedText(STEP, "wide_gpt", _PARAMETERS)
TICKER = ServedText("ticker", "gpt", _PARAMETERS)
SHARED = 16
SHARING_TICKER = ServedText(
    "ticker", "gpt", {**_PARAMETERS, "kindaware.items_per_response": str(SHARED)}, label="shared"
)


def run_step(run: Run) -> dict[str, Any]:
    """Compare `begin` and `step` with a generator per stream, a loop without a server, and LitServe.

    Returns:
        Scenarios with their rounds and ratios, tokens per second and time to the first item over the number
        of streams, and what could not be measured.
    """
    found: dict[str, Any] = {"protocol": run.args.client, "scenarios": [], "not_measured": run.missing}
    served = [*MODELS.values(), WIDE, TICKER, SHARING_TICKER]
    with tritonserver(served, run.say) as server, contextlib.ExitStack() as stack:
        targets = {form: text_target_of(server, served, run.args.client) for form, served in MODELS.items()}
        with run.going_on(LITSERVE):
            targets[LITSERVE] = stack.enter_context(litserve_texts("gpt"))
        wide, ticker, sharing = (
            text_target_of(server, one, run.args.client) for one in (WIDE, TICKER, SHARING_TICKER)
        )
        run.say(f"step: {', '.join(targets)}")
        run.add(found, SIDE_BY_SIDE, lambda: _side_by_side(run, targets))
        run.add(found, BESIDE_THE_LOOP, lambda: _beside_the_loop(run, wide))
        run.add(found, FIRST_ITEMS, lambda: _first_items(run, targets[STEP]))
        run.add(found, NO_WORK, lambda: _ticks(run, ticker, sharing))
        found["curve"] = _curve(run, targets)
    return found


def _side_by_side(run: Run, targets: Mapping[str, MakeTarget]) -> dict[str, Any]:
    """The same streams from each form."""
    waves = {form: _wave_of(make, NUM_STREAMS, NUM_TOKENS) for form, make in targets.items()}
    return _compare(_in_turns(waves, run.rounds(11, 2)))


def _beside_the_loop(run: Run, make: MakeTarget) -> dict[str, Any]:
    """Long steps, beside those of a loop that knows no server."""
    with repository([WIDE]) as folder:
        waves = {
            STEP: _wave_of(make, NUM_STREAMS, NUM_TOKENS),
            BARE_LOOP: lambda: run_bare_loop(folder / WIDE.name, NUM_STREAMS, NUM_TOKENS),
        }
        return _compare(_in_turns(waves, run.rounds(11, 2)))


def run_bare_loop(model: Path, num_streams: int, num_items: int) -> Wave:
    """Step the states of a model's directory in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.forms.bare_loop", str(model)]
    command += [str(num_streams), str(num_items)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=600)
    times = json.loads(done.stdout.splitlines()[-1])
    gap_ms = float(np.median(np.diff(times))) * 1e3
    return Wave(num_streams * num_items / times[-1], times[0] * 1e3, gap_ms, client_us=0.0)


def _first_items(run: Run, make: MakeTarget) -> dict[str, Any]:
    """How long a further stream waits for its first item, while others run; a median per round."""
    rounds = [measure_first_items(make, RUNNING, LONG, PROBES) for _ in range(run.rounds(11, 2))]
    medians, longest = (Spread.of([one(steps) for steps in rounds]) for one in (median, max))
    return {
        "measures": {"median wait, in steps": {STEP: medians}, "longest wait, in steps": {STEP: longest}},
        "ratios": {FIRST_ITEM: medians},
        "rounds": rounds,
    }


def _ticks(run: Run, make: MakeTarget, make_sharing: MakeTarget) -> dict[str, Any]:
    """Items per second of one instance whose steps take no time; also where items share a response.

    Over gRPC the clients count responses, so that is measured over HTTP only.
    """
    waves = {f"{number} streams": _wave_of(make, number, TICKS) for number in (1, 8, NUM_STREAMS)}
    if run.args.client == "http":
        name = f"{NUM_STREAMS} streams, up to {SHARED} items per response"
        waves = {name: _wave_of(make_sharing, NUM_STREAMS, TICKS), **waves}
    return _compare(_in_turns(waves, run.rounds(5, 2)))


def _curve(run: Run, targets: Mapping[str, MakeTarget]) -> list[dict[str, Any]]:
    """Tokens per second and the time to the first one, over the number of streams."""
    points = []
    for number in CURVE[:: run.choose(1, 3)]:
        run.say(f"curve: {number} streams")
        waves = {form: _wave_of(make, number, NUM_TOKENS) for form, make in targets.items()}
        measures = _compare(_in_turns(waves, run.rounds(3, 1)))["measures"]
        points.append({"streams": number, "measures": measures})
    return points


def _wave_of(make: MakeTarget, num_streams: int, num_items: int) -> Callable[[], Wave]:
    return partial(measure_wave, make, num_streams, num_items)


def _in_turns(waves: Mapping[str, Callable[[], Wave]], num_rounds: int) -> list[dict[str, Wave]]:
    """A round that isn't kept, and those that are."""
    return interleave(waves, num_rounds + 1)[1:]


def _compare(rounds: list[dict[str, Wave]]) -> dict[str, Any]:
    """Summarise rounds, and divide the rate of the first of the forms by those of the others."""
    rates = values_of(rounds, "items_per_second")
    first, *others = rates
    return {
        "measures": {name: spreads(values_of(rounds, measure)) for name, measure in MEASURES.items()},
        "ratios": {f"rate: {first} / {other}": paired_ratio(rates[first], rates[other]) for other in others},
        "rounds": rounds,
    }
