"""Hypothesis's strategies for requests to the echo of `generated_model`."""

import json
import math

import numpy as np
from differential_kit import WireTensor, ask
from differential_models import CODES, DATATYPES
from generated_model import OUTPUTS, input_name
from hypothesis import strategies as st

GENERATED_MODELS = ("generated", "generated_rows")
FEWEST_COMPARED = 300  # requests per model

SIZES = st.sampled_from([1, 2, 3, 4, 5, 1, 2, 3, 0])
WORDS = [b"", b"a", b"\xff\x00", "€ and more".encode(), b"\x00", b"long" * 20]
BITS = {"BOOL": 8, "BF16": 16}
# How often a request is to fail, and how; an exception fails all requests of a batch.
ALONE = ["none"] * 12 + ["response"] * 2 + ["raise", "both"]
IN_BATCH = [one for one in ALONE if one != "raise"]


def item_bytes(datatype):
    return int(BITS.get(datatype) or "".join(filter(str.isdigit, datatype))) // 8


@st.composite
def kinds(draw, has_rows):
    """Data types and numbers of dimensions of one to three inputs."""
    # No client sends a tensor without dimensions to a model like this; the model takes them away, from 0.
    kind = st.tuples(st.sampled_from(DATATYPES), st.integers(1, 4) if has_rows else st.integers(0, 5))
    return draw(st.lists(kind, min_size=1, max_size=3, unique_by=lambda one: (one[0], one[1] or 1)))


@st.composite
def tensors(draw, datatype, rank, num_rows):
    """A tensor, its input's name, and what becomes of it: the way and the shape."""
    shape = tuple(draw(SIZES) for _ in range(rank)) or (1,)
    dims = len(shape)
    shape = shape if num_rows is None else (num_rows, *shape)
    count = math.prod(shape)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ways = ["reversed", "transposed", "reshaped"]
    if datatype == "STRING":
        words = (WORDS[index] for index in random.integers(0, len(WORDS), count))
        data = b"".join(len(one).to_bytes(4, "little") + one for one in words)
    else:
        data = random.bytes(count * item_bytes(datatype))
        ways = ["dlpack"] if datatype == "BF16" else ["dlpack", *ways]
    if datatype == "BOOL":
        data = bytes(one & 1 for one in data)
    way = "reshaped" if rank == 0 and datatype != "BF16" else draw(st.sampled_from(ways))
    changed = {"transposed": shape[::-1], "reshaped": () if rank == 0 else (1, count)}.get(way, shape)
    wire = WireTensor("", datatype.replace("STRING", "BYTES"), shape, data)
    return input_name(datatype, dims), wire, way, changed


@st.composite
def requests(draw, model, has_rows, chosen_kinds):
    """A request with one to three inputs, and what the model is told to do with it."""
    num_rows = draw(st.integers(1, 2)) if has_rows else None
    chosen = [draw(tensors(*kind, num_rows)) for kind in chosen_kinds]
    wish = {
        "error": draw(st.sampled_from(IN_BATCH if has_rows else ALONE)),
        "text": draw(st.text('abc é€"\\', min_size=1, max_size=8)),
        "code": draw(st.sampled_from(CODES)),
        "names": " ".join(one[0] for one in chosen),
        "hows": " ".join(one[2] for one in chosen),
        "shapes": json.dumps([list(one[3]) for one in chosen]),
    }
    wanted = draw(st.none() | st.lists(st.sampled_from(OUTPUTS), min_size=1, unique=True))
    return ask(
        model,
        {one[0]: one[1] for one in chosen},
        parameters=wish,
        requested_outputs=wanted,
        request_id=draw(st.sampled_from(["", "r1", "request"])),
    )


@st.composite
def bursts(draw, model, has_rows):
    """One to four requests; with rows they have the same inputs, or the server would not batch them."""
    number = draw(st.integers(1, 4))
    one = draw(kinds(has_rows))
    return [draw(requests(model, has_rows, one if has_rows else draw(kinds(False)))) for _ in range(number)]
