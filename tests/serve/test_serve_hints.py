"""What a failed load's reason leaves open, and `kindaware serve` adds."""

import pytest

from kindaware._server.diagnosis import diagnose

LINE = "E1128 21:00:00.000000 1 model_lifecycle.cc:654] failed to load 'm' version 1: Internal: {}\n"


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        (
            "AttributeError: module '1.model' has no attribute 'TritonPythonModel'",
            "Triton looks for a class with this name in model.py: rename yours.",
        ),
        (
            "ModuleNotFoundError: No module named 'tokenizers.models'",
            "Its process takes packages from the python3 first on PATH: "
            "python3 -m pip install tokenizers, or put the module beside model.py.",
        ),
    ],
)
def test_reason_with_an_obvious_remedy_is_followed_by_it(reason, hint):
    text = str(diagnose("exit status 1", LINE.format(reason)))
    assert f"model 'm': {reason}\n\n{hint}" in text


def test_reason_of_another_kind_is_left_alone():
    text = str(diagnose("exit status 1", LINE.format("RuntimeError: no")))
    assert text.rstrip().endswith("model 'm': RuntimeError: no")
