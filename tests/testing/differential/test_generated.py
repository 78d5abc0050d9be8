"""Generated requests to an echo: data types, shapes, numbers of requests, requested outputs, errors."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from differential_kit import WireTensor, ask, assert_same
from differential_models import DATATYPES
from generated_model import input_name
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.server

BURSTS = 120
MOST_REQUESTS = 4
SIZES = st.sampled_from([1, 2, 3, 0, 5])
WORDS = st.binary(max_size=6)
CODES = ["INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED", "ALREADY_EXISTS", "CANCELLED"]
# What leaves a stub as CANCELLED or UNKNOWN is a named behaviour; here all others come often.
ITEM_BYTES = {"BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2} | {
    "UINT32": 4,
    "INT32": 4,
    "FP32": 4,
    "UINT64": 8,
    "INT64": 8,
    "FP64": 8,
}
FAILING = {"none": 12, "response": 2, "raise": 1, "both": 1}


@st.composite
def tensors(draw):
    """A tensor of any type and one to five dimensions, its input's name, and what becomes of it."""
    datatype = draw(st.sampled_from(DATATYPES))
    shape = tuple(draw(st.lists(SIZES, min_size=1, max_size=5)))
    count = math.prod(shape)
    if datatype == "STRING":
        elements = draw(st.lists(WORDS, min_size=min(count, 3), max_size=min(count, 3)))
        data = b"".join(
            len(one).to_bytes(4, "little") + one for one in (elements[index % 3] for index in range(count))
        )
        how = draw(st.sampled_from(["reversed", "transposed", "reshaped"]))
    else:
        data = draw(st.integers(0, 2**32 - 1).map(lambda seed: random_bytes(seed, datatype, count)))
        hows = ["dlpack"] if datatype == "BF16" else ["dlpack", "reversed", "transposed", "reshaped"]
        how = draw(st.sampled_from(hows))
    changed = {"transposed": shape[::-1], "reshaped": draw(st.sampled_from(reshapes(shape)))}
    wire = WireTensor("", datatype.replace("STRING", "BYTES"), shape, data)
    return input_name(datatype, len(shape)), wire, how, changed.get(how, shape)


def random_bytes(seed, datatype, count):
    data = np.random.default_rng(seed).bytes(count * ITEM_BYTES[datatype])
    return bytes(one & 1 for one in data) if datatype == "BOOL" else data


def reshapes(shape):
    """Shapes with the same number of elements; without dimensions where there is one element."""
    count = math.prod(shape)
    return [(), (1, 1)] if count == 1 else [(count,), (1, *shape)]


@st.composite
def requests(draw):
    chosen = draw(st.lists(tensors(), min_size=1, max_size=3, unique_by=lambda one: one[0]))
    error = draw(st.sampled_from([name for name, weight in FAILING.items() for _ in range(weight)]))
    wish = {
        "error": error,
        "text": draw(st.text('abc é€"\\', min_size=1, max_size=8)),
        "code": draw(st.sampled_from(CODES)),
        "names": " ".join(one[0] for one in chosen),
        "hows": " ".join(one[2] for one in chosen),
        "shapes": json.dumps([list(one[3]) for one in chosen]),
    }
    wanted = draw(
        st.none() | st.lists(st.sampled_from(["OUT0", "OUT1", "OUT2", "OUT3"]), min_size=1, unique=True)
    )
    return ask(
        "generated",
        {one[0]: one[1] for one in chosen},
        parameters=wish,
        requested_outputs=wanted,
        request_id=draw(st.sampled_from(["", "r1", "request"])),
    )


def test_generated_requests_get_the_same_answers(real, ours):
    counted = Counter()

    @settings(
        max_examples=BURSTS,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(requests(), min_size=MOST_REQUESTS - 1, max_size=MOST_REQUESTS))
    def compare(asked):
        # The server puts them into batches as it likes; a request has its answer in any of them.
        theirs = real.burst(asked)
        assert_same([ours.infer(one) for one in asked], theirs)
        count(counted, asked, theirs)

    compare()
    print(f"{counted['requests']} generated requests compared: {dict(sorted(counted.items()))}")
    assert counted["requests"] >= 300
    missing = [name for name in EXPECTED if not counted[name]]
    assert not missing


EXPECTED = [
    *(one.replace("STRING", "BYTES") for one in DATATYPES),
    *(f"{rank} dimensions" for rank in range(6)),
    *("no elements", "zero rows", "error", "several outputs", "pruned", "no outputs"),
]


def count(counted, asked, theirs):
    """What the server's answers had in them."""
    for one, seen in zip(asked, theirs, strict=True):
        counted["requests"] += 1
        counted["error"] += bool(seen.text)
        counted["several outputs"] += len(seen.outputs) > 1
        counted["no outputs"] += not seen.outputs and not seen.text
        counted["pruned"] += bool(one.options["requested_outputs"]) and len(seen.outputs) < len(one.inputs)
        for _, datatype, shape, _ in seen.outputs:
            counted[datatype] += 1
            counted[f"{len(shape)} dimensions"] += 1
            counted["no elements"] += 0 in shape
            counted["zero rows"] += bool(shape) and shape[0] == 0
