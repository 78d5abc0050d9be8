"""Inputs without their names: refused with what to write."""

import numpy as np
import pytest
from harness_kit import ECHO, PLAIN, write_model

from kindaware.testing import ModelHarness
from kindaware.testing.harness.failures import HarnessError

ARRAY = np.zeros((1,), np.float32)


@pytest.mark.parametrize("ask", ["infer", "stream"])
@pytest.mark.parametrize("given", [ARRAY, [ARRAY], 5, "X"])
def test_inputs_without_names_are_refused_with_the_call_to_write(tmp_path, ask, given):
    text = rf"infer: expected values by the names of the model's inputs \['X'\], got {type(given).__name__} "
    with (
        ModelHarness(write_model(tmp_path, "m", ECHO, PLAIN)) as model,
        pytest.raises(HarnessError, match=text + r"without a name; write infer\(X=\.\.\.\)"),
    ):
        getattr(model, ask)(given)


def test_inputs_whose_name_is_no_identifier_are_to_be_given_in_a_dict(tmp_path):
    config = PLAIN.replace('"X"', '"X-1"')
    with (
        ModelHarness(write_model(tmp_path, "m", ECHO, config)) as model,
        pytest.raises(HarnessError, match=r"write infer\(\{'X-1': \.\.\.\}\)"),
    ):
        model.infer(ARRAY)
