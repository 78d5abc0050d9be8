"""The parts `forwards` and `compiled`: one call of `execute` with 1 to 128 requests, host to host."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.candidates import BareForward, Candidate, HostCopy, PerRequestLoop, Served, threaded
from benchmarks.gpu.clock import Deadline, Timing, choose_num_calls, time_calls
from benchmarks.gpu.requests import Batch
from benchmarks.networks import NETWORKS, Network
from benchmarks.stats import Spread, interleave, paired_ratio

NUM_BATCHES = 4
"""How many batches take turns, so that none is in a cache because it was the last."""

TOLERANCE = {"32-true": 0.01, "bf16-true": 0.03}
"""How far answers may differ from the CPU's, of its largest; convolutions in FP32 run in TF32."""

BARE, BARE_BF16, LOOP = "bare forward", "bare forward, bf16", "per-request loop"
EAGER, BF16, GRAPHS = "kindaware", "kindaware, bf16", "kindaware, bf16, graphs"
COMPILED, COMPILED_GRAPHS = "kindaware, bf16, compiled", "kindaware, bf16, compiled, graphs"
HOST_COPY = "host copy"

FLOOR_SHARE = "(host copy + bare forward, bf16) / kindaware, bf16"
LOOP_GAIN = "per-request loop / kindaware"


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: in which the candidates take turns.
        seconds: of one measurement.
        sizes: requests per call of `execute`.
    """

    rounds: int
    seconds: float
    sizes: Sequence[int]


@dataclass
class Forms:
    """The candidates of one network, each made when it is first needed.

    Attributes:
        network: its name.
        names: the candidates that are wanted, in the order of a round.
        sizes: the sizes that are served.
        missing: why a candidate can't be had, by name.
    """

    network: str
    names: Sequence[str]
    sizes: Sequence[int]
    missing: dict[str, str] = field(default_factory=dict)
    _served: dict[str, Candidate] = field(default_factory=dict)

    def at(self, size: int, batches: Sequence[Batch]) -> dict[str, Candidate]:
        """Give the candidates for batches of one size; without those that can't be had."""
        network = NETWORKS[self.network]
        made: dict[str, Candidate] = {}
        for name in self.names:
            if name in self.missing:
                continue
            try:
                made[name] = self._make(name, network, batches)
                _check(name, network, made[name], batches[0])
            except AssertionError:
                raise
            except Exception as error:  # whatever torch, or the library, has against it
                made.pop(name, None)
                self.missing[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"
        return made

    def _make(self, name: str, network: Network, batches: Sequence[Batch]) -> Candidate:
        if name in (BARE, BARE_BF16):
            is_bf16 = name == BARE_BF16
            dtype = torch.bfloat16 if is_bf16 else torch.float32
            is_channels_last = is_bf16 and len(network.input_shape) == 3
            return BareForward(network, batches, dtype=dtype, is_channels_last=is_channels_last)
        if name.startswith(HOST_COPY):
            return HostCopy(batches, int(name.split()[-2]))
        if name not in self._served:
            is_loop = name == LOOP
            settings = settings_of(name, network, self.sizes)
            self._served[name] = (
                PerRequestLoop(network) if is_loop else Served(network, settings, max(self.sizes))
            )
        return self._served[name]


def settings_of(name: str, network: Network, sizes: Sequence[int]) -> dict[str, str]:
    """The settings of one of the instances that are compared."""
    wanted = ",".join(map(str, sizes))
    settings = {"warmup": wanted}
    if "bf16" in name:
        settings["precision"] = "bf16-true"
        if len(network.input_shape) == 3:
            settings["memory_format"] = "channels_last"
    if "graphs" in name:
        settings["cuda_graphs"] = wanted
    if "compiled" in name:
        settings["compile"] = "default"
    return settings


def names_of(*, is_compiled: bool) -> list[str]:
    """The candidates of a part; what is compiled has a part of its own, since compiling is slow."""
    if is_compiled:
        return [BARE_BF16, BF16, COMPILED, COMPILED_GRAPHS]
    copies = [threaded(HOST_COPY, number) for number in dict.fromkeys((1, torch.get_num_threads()))]
    return [BARE, BARE_BF16, *copies, LOOP, EAGER, BF16, GRAPHS]


def run_forwards(
    forms: Forms,
    effort: Effort,
    deadline: Deadline,
    say: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """Measure a network at each size; gives what was found so far after each.

    Raises:
        AssertionError: a candidate's answers are not the CPU's.
    """
    found: dict[str, Any] = {"network": forms.network, "sizes": {}, "not_measured": forms.missing}
    for size in effort.sizes:
        if deadline.left < 20:
            forms.missing[f"{size} requests"] = "there was no time left"
            continue
        say(f"{forms.network}, {size} requests: {effort.rounds} rounds")
        batches = [Batch.of(NETWORKS[forms.network], size, seed) for seed in range(NUM_BATCHES)]
        candidates = forms.at(size, batches)
        found["sizes"][str(size)] = _measure(candidates, batches, effort)
        yield found


def _measure(candidates: Mapping[str, Candidate], batches: Sequence[Batch], effort: Effort) -> dict[str, Any]:
    def calls(candidate: Candidate) -> Callable[[int], Any]:
        return lambda number: candidate(batches[number % len(batches)])

    counts = {name: choose_num_calls(calls(one), effort.seconds) for name, one in candidates.items()}
    gc.collect()
    gc.disable()
    try:
        rounds = interleave(
            {
                name: lambda name=name: time_calls(calls(candidates[name]), counts[name])  # type: ignore[misc]
                for name in candidates
            },
            effort.rounds,
        )
    finally:
        gc.enable()
    num_rows = len(batches[0].requests)
    seconds = {name: [one[name].seconds for one in rounds] for name in candidates}
    return {
        "rows_per_second": {
            name: asdict(Spread.of([num_rows / one for one in values])) for name, values in seconds.items()
        },
        "milliseconds": {
            name: asdict(Spread.of([one * 1e3 for one in values])) for name, values in seconds.items()
        },
        "device_milliseconds": {
            name: asdict(Spread.of([one[name].device_seconds * 1e3 for one in rounds])) for name in candidates
        },
        "ratios": {name: asdict(spread) for name, spread in _ratios(rounds)},
        "num_calls": counts,
        "rounds": [{name: asdict(timing) for name, timing in one.items()} for one in rounds],
    }


def _ratios(rounds: Sequence[Mapping[str, Timing]]) -> Iterator[tuple[str, Spread]]:
    """Compare what was measured in the same round; the host copy is the faster one of the round."""
    names = list(rounds[0])
    seconds = {name: [one[name].seconds for one in rounds] for name in names}
    copies = [values for name, values in seconds.items() if name.startswith(HOST_COPY)]
    if copies and {BARE_BF16, BF16} <= set(names):
        copy = [min(values) for values in zip(*copies, strict=True)]
        floor = [one + other for one, other in zip(copy, seconds[BARE_BF16], strict=True)]
        yield FLOOR_SHARE, paired_ratio(floor, seconds[BF16])
    served = [name for name in names if name.startswith(EAGER)]
    for name in served:
        if LOOP in seconds:
            yield f"{LOOP} / {name}", paired_ratio(seconds[LOOP], seconds[name])
        bare = BARE if name == EAGER else BARE_BF16
        if bare in seconds:
            yield f"{bare} / {name}", paired_ratio(seconds[bare], seconds[name])


def _check(name: str, network: Network, candidate: Candidate, batch: Batch) -> None:
    """Compare the first answers with the CPU's: within the tolerance, and nearer to no other request's.

    Raises:
        AssertionError: they aren't.
    """
    answers = getattr(candidate, "answers", None)
    if answers is None:
        return
    rows = torch.from_numpy(np.concatenate(batch.arrays[:7]))
    with torch.inference_mode():
        expected = network.build()(rows).numpy()
    got = answers(batch)[: len(rows)]
    difference = float(np.abs(got - expected).max() / np.abs(expected).max())
    tolerance = TOLERANCE["bf16-true" if "bf16" in name else "32-true"]
    assert difference <= tolerance, f"{name}: expected answers within {tolerance}, got {difference:.3g}"
    distances = np.linalg.norm(got[:, None] - expected[None], axis=-1)
    assert (distances.argmin(axis=1) == np.arange(len(rows))).all(), f"{name}: answers of other requests"
