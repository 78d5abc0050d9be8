"""A few hundred requests of the fuzz, on the real server."""

import pytest
from stress.fuzz.run import fuzz

pytestmark = pytest.mark.server

NUM_INPUTS = 480


def test_nothing_that_a_client_sends_ends_the_server_hangs_it_or_gets_the_answer_of_another():
    report = fuzz(NUM_INPUTS, seed_number=20261129, say=print)
    assert report.findings == []
    assert report.num_sent >= NUM_INPUTS
    assert report.num_right > report.num_refused
    assert len(report.outcomes) > 8
