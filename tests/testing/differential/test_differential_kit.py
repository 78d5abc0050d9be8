"""The comparison notices what it is there for."""

import numpy as np
import pytest
from differential_kit import Seen, assert_same, clean, seen_in_result, to_raw

from kindaware.testing import ModelHarness

OUTPUT = ("Y", "FP32", (1,), b"\0\0\0\0")
REPORT = b'{"a": 1}'
REPORTED = ("TEXT", "BYTES", (1,), len(REPORT).to_bytes(4, "little") + REPORT)


@pytest.mark.parametrize(
    "other",
    [
        Seen((("Z", *OUTPUT[1:]),)),
        Seen((("Y", "INT32", *OUTPUT[2:]),)),
        Seen((("Y", "FP32", (), OUTPUT[3]),)),
        Seen((("Y", "FP32", (1,), b"\0\0\0\x80"),)),
        Seen((OUTPUT, OUTPUT)),
        Seen(),
        Seen(code="INTERNAL"),
        Seen((REPORTED,)),
    ],
)
def test_assert_same_notices_every_part(other):
    with pytest.raises(AssertionError, match="1 responses here, 1 of the server"):
        assert_same([Seen((OUTPUT,))], [other])
    assert_same([other], [other])


def test_assert_same_notices_codes_texts_and_numbers():
    failed = Seen(code="INTERNAL", text="a")
    for other in ([], [failed, failed], [Seen(code="INTERNAL", text="b")], [Seen(code="UNKNOWN", text="a")]):
        with pytest.raises(AssertionError, match="responses here"):
            assert_same([failed], other)


def test_assert_same_shows_the_observation_that_differs():
    data = REPORTED[3].replace(b"1", b"2")
    with pytest.raises(AssertionError, match=r"response 0: a\n  here   1\n  server 2"):
        assert_same([Seen((REPORTED,))], [Seen(((*REPORTED[:3], data),))])


def test_assert_same_refuses_a_report_of_a_mistyped_behaviour():
    wrong = Seen((("TEXT", "BYTES", (1,), b"\x20\0\0\0NameError: name 'q' is not defined"),))
    with pytest.raises(AssertionError, match="the behaviour itself is wrong"):
        assert_same([wrong], [wrong])


def test_clean_leaves_the_models_own_frames():
    text = "E: x\n\nAt:\n  /m/1/model.py(3): execute\n"
    frames = "  /b/triton_python_backend_utils.py(7): add_input\n  <frozen importlib._bootstrap>(9): _load\n"
    assert clean(text + frames) == text
    assert clean("<object at 0x7f01>") == "<object at 0x>"


@pytest.mark.parametrize(
    "array",
    [
        np.ones((2, 0), np.float16),
        np.array(True),
        np.array([b"a", b""], dtype=object),
        np.arange(3, dtype=np.uint64),
    ],
)
def test_results_keep_type_shape_and_bytes(array):
    datatype = {"float16": "FP16", "bool": "BOOL", "object": "BYTES", "uint64": "UINT64"}[str(array.dtype)]
    data = b"\1\0\0\0a\0\0\0\0" if array.dtype == object else array.tobytes()
    assert to_raw("Y", array) == ("Y", datatype, array.shape, data)


def test_a_model_that_behaves_otherwise_is_noticed():
    config = {"name": "m", "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [1]}]}

    class Model:
        def execute(self, requests):
            return []

    with ModelHarness(Model, config=config, raise_errors=False) as harness, pytest.raises(AssertionError):
        assert_same([seen_in_result(harness.infer())], [Seen((OUTPUT,))])
