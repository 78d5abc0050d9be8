"""Generated requests to an echo: data types, shapes, numbers of requests, requested outputs, errors."""

from collections import Counter

import pytest
from differential_kit import assert_same
from differential_models import DATATYPES
from generated_requests import FEWEST_COMPARED, GENERATED_MODELS, bursts
from hypothesis import HealthCheck, Phase, given, settings

pytestmark = pytest.mark.server

BURSTS = 250
GENERATION = settings(
    max_examples=BURSTS,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
EVERY_DATATYPE = [one.replace("STRING", "BYTES") for one in DATATYPES]
EXPECTED = [
    *("no elements", "error", "error among others", "several outputs", "pruned", "no outputs"),
    *(f"{count} requests" for count in range(1, 5)),
    *(f"{rank} dimensions" for rank in range(2, 6)),
    *EVERY_DATATYPE,
]


def test_generated_requests_get_the_same_answers(real, ours):
    counted = Counter()

    @GENERATION
    @given(bursts(GENERATED_MODELS[0], has_rows=False))
    def compare(asked):
        theirs = real.burst(asked)
        assert_same([ours.infer(one) for one in asked], theirs)
        count(counted, asked, theirs)

    compare()
    check(counted, [*EXPECTED, "0 dimensions", "1 dimensions", "zero rows"])


def test_generated_batches_get_the_same_answers(real, ours, server):
    counted = Counter()

    @GENERATION
    @given(bursts(GENERATED_MODELS[1], has_rows=True))
    def compare(asked):
        # The server makes one batch of them, or several; no answer depends on that.
        theirs = real.burst(asked)
        assert_same(ours.batch(asked), theirs)
        count(counted, asked, theirs)

    compare()
    check(counted, EXPECTED)
    numbers = real.statistics(GENERATED_MODELS[1])
    assert numbers.execution_count < counted["requests"] * 0.8, "the server has made hardly any batches"


def check(counted, expected):
    """Enough was compared, and everything was among it."""
    print(f"{counted['requests']} generated requests compared: {dict(sorted(counted.items()))}")
    assert counted["requests"] >= FEWEST_COMPARED
    assert not [name for name in expected if not counted[name]]


def count(counted, asked, theirs):
    """What the server's answers had in them."""
    failed = sum(bool(seen.text) for seen in theirs)
    counted[f"{len(asked)} requests"] += 1
    counted["error among others"] += 0 < failed < len(asked)
    for one, seen in zip(asked, theirs, strict=True):
        wanted = one.options["requested_outputs"]
        counted["requests"] += 1
        counted["error"] += bool(seen.text)
        counted["several outputs"] += len(seen.outputs) > 1
        counted["no outputs"] += not seen.outputs and not seen.text
        counted["pruned"] += bool(wanted) and 0 < len(seen.outputs) < len(one.inputs)
        for _, datatype, shape, _ in seen.outputs:
            counted[datatype] += 1
            counted[f"{len(shape)} dimensions"] += 1
            counted["no elements"] += 0 in shape
            counted["zero rows"] += bool(shape) and shape[0] == 0
