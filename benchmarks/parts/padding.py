"""The part `padding`: texts of different length, in one padded batch and in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.bars import DIVIDED
from benchmarks.networks import NETWORKS, NUM_WORDS
from benchmarks.run import Run
from benchmarks.servers.load import LoadError, ask, ask_each, measure_mixed
from benchmarks.servers.repository import Served
from benchmarks.servers.target import Target, read_values, triton_target
from benchmarks.servers.triton import tritonserver
from kindaware.cli.bench._stats import interleave, paired_ratio, spreads

NETWORK = "texts"
CONCURRENCY = 32
NUM_TEXTS = 256
SECONDS = 4.0
TOLERANCE = 1e-4
"""How far an answer may be from that of the text alone, of its largest value."""

ONE_BATCH, AUTO = "1 (one batch)", "auto"
MODELS = {
    name: Served("padded", NETWORK, label=label, parameters={"kindaware.max_padding": share})
    for name, label, share in (
        (ONE_BATCH, "one", "1"),
        (AUTO, "auto", "auto"),
        ("0.25", "quarter", "0.25"),
        ("0.5", "half", "0.5"),
        ("0 (equal lengths)", "equal", "0"),
    )
}


def log_normal_lengths() -> list[int]:
    """Draw lengths from 8 to 512: the logarithm is normal around that of 64, with a deviation of 1."""
    drawn = np.random.default_rng(0).lognormal(np.log(64), 1.0, NUM_TEXTS)
    return np.clip(drawn, 8, 512).astype(int).tolist()


SCENARIOS: Mapping[str, Callable[[], list[int]]] = {
    "texts of 8 to 512 tokens": log_normal_lengths,
    "texts of 64 tokens": lambda: [64] * NUM_TEXTS,
}


def run_padding(run: Run) -> dict[str, Any]:
    """Compare padding all texts of a call to the longest with batches of similar length.

    Returns:
        By scenario: requests per second with each limit on padding, over those of one batch, and raw rounds.
    """
    found: dict[str, Any] = {"concurrency": CONCURRENCY, "scenarios": [], "not_measured": run.missing}
    with tritonserver(MODELS.values(), run.say) as server:
        address = server.http_url if run.args.client == "http" else server.grpc_url
        for name, draw in SCENARIOS.items():
            texts = make_texts(draw())
            targets = {
                limit: [triton_target(run.args.client, address, served.name, text) for text in texts]
                for limit, served in MODELS.items()
            }
            run.add(found, name, partial(_measure, run, targets))
    return found


def make_texts(lengths: Sequence[int]) -> list[torch.Tensor]:
    """Return a random text of each length, INT64 [1, n]."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(NUM_WORDS, (1, length), generator=generator) for length in lengths]


def _measure(run: Run, targets: Mapping[str, Sequence[Target]]) -> dict[str, Any]:
    def measurement(own: Sequence[Target], seconds: float) -> Callable[[], float]:
        return lambda: measure_mixed(own[0], [one.message for one in own], CONCURRENCY, seconds)

    for limit, own in targets.items():
        check_answers(limit, own[:CONCURRENCY])
    # A round that isn't kept: libraries choose their kernels, and `auto` learns.
    interleave({limit: measurement(own, run.seconds(SECONDS)) for limit, own in targets.items()}, 1)
    measurements = {limit: measurement(own, run.seconds(SECONDS)) for limit, own in targets.items()}
    rounds = interleave(measurements, run.rounds(11, 2))
    rates = {limit: [one[limit] for one in rounds] for limit in targets}
    of_one = {limit: paired_ratio(values, rates[ONE_BATCH]) for limit, values in rates.items()}
    return {
        "seconds": run.seconds(SECONDS),
        "rates": spreads(rates),
        "of_one": of_one,
        "ratios": {DIVIDED: of_one[AUTO]},
        "rounds": rounds,
    }


def check_answers(limit: str, targets: Sequence[Target]) -> None:
    """Ask for texts one at a time and then together, and compare.

    Raises:
        LoadError: a text in company got another answer than alone, so the speed means nothing.
    """
    shape = NETWORKS[NETWORK].output_shape
    alone = np.stack([read_values(one, ask(one)[0], shape) for one in targets])
    answers = ask_each(targets[0], [one.message for one in targets])
    together = np.stack([read_values(targets[0], answer, shape) for answer in answers])
    difference, tolerance = float(np.abs(together - alone).max()), TOLERANCE * float(np.abs(alone).max())
    if not difference <= tolerance:
        raise LoadError(
            f"max_padding {limit}: expected the answers of texts alone within {tolerance:.3g}, got a "
            f"difference of {difference:.3g}; correct the padding"
        )
