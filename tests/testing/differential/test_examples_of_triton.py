"""What Triton's examples show, add_sub, decoupled models and BLS, by the models of `plain_models`."""

import pytest
from differential_kit import HarnessSide, assert_same
from plain_requests import REQUESTS

from kindaware.testing import ModelHarness

pytestmark = pytest.mark.server

DECOUPLED = ("square", "repeat")
CALLED = ("add_sub", "square")


@pytest.fixture(scope="module")
def summary():
    """Printed at the end, with -s."""
    lines = []
    yield lines
    print("\nmodel                requests  responses  errors  the same on tritonserver")
    print("\n".join(lines))


@pytest.mark.parametrize("model", list(REQUESTS))
def test_example_gives_the_same_in_the_harness_and_on_the_server(repository, real, summary, model):
    others = [repository / other for other in CALLED if model.startswith("bls")]
    with ModelHarness(repository / model, models=others, raise_errors=False) as harness:
        own = answers(HarnessSide(harness), model)
    theirs = answers(real, model)
    for one, other in zip(own, theirs, strict=True):
        assert_same(one, other)
    seen = [response for responses in theirs for response in responses]
    errors = [response for response in seen if response.text]
    assert 0 < len(errors) < len(seen)
    summary.append(f"{model:20} {len(theirs):8} {len(seen):10} {len(errors):7}  yes")


def answers(side, model):
    """All responses to each request."""
    if model in DECOUPLED:
        return [side.stream(one) for one in REQUESTS[model]]
    return [[side.infer(one)] for one in REQUESTS[model]]
