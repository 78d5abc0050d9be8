"""Requests that the server refuses, or changes, before the model sees them."""

import numpy as np
from harness_cases import Case, described, of, x
from harness_kit import DECOUPLED, ECHO, floats

STRINGS = np.array([[b"a", b""], [b"\xff\x00", "€".encode()]], dtype=object)

X2 = 'name: "X" data_type: TYPE_FP32 dims: [ 2, -1 ]'
XR = 'name: "X" data_type: TYPE_FP32 dims: [ 2 ]'
W = 'name: "W" data_type: TYPE_INT32 dims: [ -1 ]'
S = 'name: "S" data_type: TYPE_STRING dims: [ -1 ]'
ROWS = "max_batch_size: 4\n"


def ints(*shape):
    return np.ones(shape, np.int32)


INPUTS = {
    "names_and_shapes": Case(
        described(X2),
        [
            x(floats(2, 3)),
            x(floats(2, 0)),
            of(),
            x(floats(2)),
            x(floats(3, 3)),
            x(np.array(1, np.float32)),
            x(floats(2, 3).astype(np.float64)),
            of(("Q", floats(2, 3))),
            of(("X", floats(2, 3)), ("Q", floats(2, 3))),
            of(("Q", floats(2, 3)), request_id="r7"),
            x(floats(3, 3), request_id="r8"),
            x(floats(2, 3), requested_outputs=["NO"]),
            x(floats(2, 3), requested_outputs=["Z"]),
            x(floats(2, 3), requested_outputs=["Y"]),
        ],
    ),
    "two_inputs": Case(
        described('name: "X" data_type: TYPE_FP32 dims: -1', W),
        [
            of(("W", ints(1))),
            of(("X", floats(1)), ("Q", floats(1))),
            of(),
            of(("X", floats(1)), ("W", ints(1)), ("Q", floats(1))),
            of(("X", floats(0)), ("W", ints(0))),
        ],
    ),
    "rows": Case(
        described(XR, W, extra=ROWS),
        [
            of(("X", floats(3, 2)), ("W", ints(3, 5))),
            of(("X", floats(4, 2)), ("W", ints(4, 1))),
            of(("X", floats(5, 2)), ("W", ints(5, 5))),
            of(("X", floats(0, 2)), ("W", ints(0, 5))),
            of(("X", floats(0, 2)), ("W", ints(3, 5))),
            of(("X", floats(3, 2)), ("W", ints(0, 5))),
            of(("X", floats(3, 2)), ("W", ints(3, 0))),
            of(("X", floats(2, 2)), ("W", ints(3, 5))),
            of(("X", floats(2)), ("W", ints(2, 5))),
            of(("X", floats(2, 3)), ("W", ints(2, 5))),
            of(("X", np.array(1, np.float32)), ("W", ints(2, 5))),
            of(("X", ints(2, 2)), ("W", ints(2, 5))),
            of(("Q", floats(2, 2)), ("W", ints(2, 5))),
            of(("X", floats(2, 2)), ("W", ints(2))),
        ],
    ),
    "optional_input": Case(
        described(XR, S + " optional: true", extra=ROWS),
        [
            x(floats(2, 2)),
            of(("S", STRINGS)),
            of(),
            of(("X", floats(2, 2)), ("S", STRINGS), ("Q", floats(2, 2))),
            of(("X", floats(2, 2)), ("Q", floats(2, 2))),
        ],
    ),
    "all_optional": Case(
        described(XR + " optional: true", S + " optional: true", extra=ROWS),
        [
            of(),
            of(("S", STRINGS[:0])),
            of(("X", floats(0, 2)), ("S", STRINGS[:1])),
            of(("S", STRINGS[:1]), ("X", floats(0, 2))),
        ],
    ),
    "no_inputs": Case(described(), [of(), x(floats(1))]),
    "reshape": Case(
        described(
            'name: "X" data_type: TYPE_FP32 dims: [ 2, -1 ] reshape { shape: [ 2, -1, 1 ] }',
            'name: "S" data_type: TYPE_STRING dims: 1 reshape { shape: [ ] }',
            extra=ROWS,
        ),
        [
            of(("X", floats(2, 2, 5)), ("S", STRINGS[:, :1])),
            of(("X", floats(2, 2, 0)), ("S", STRINGS[:, :1])),
            of(("X", floats(2, 2, 5)), ("S", STRINGS)),
        ],
    ),
    "request_fields": Case(
        described(X2),
        [
            x(floats(2, 1), correlation_id=7, flags=3),
            x(floats(2, 1), correlation_id="text"),
            x(floats(2, 1), request_id="é", timeout=5_000_000, parameters={"a": 1, "b": True, "c": "x"}),
        ],
    ),
    "sequence": Case(
        described(
            'name: "X" data_type: TYPE_FP32 dims: -1',
            extra=ROWS
            + """sequence_batching {
              control_input { name: "A" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
              control_input { name: "B" control { kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 1 ] } }
              control_input { name: "C" control { kind: CONTROL_SEQUENCE_READY bool_false_true: [ 0, 1 ] } }
              control_input { name: "D" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT32 } }
            }""",
        ),
        [
            x(floats(1, 3)),
            x(floats(1, 3), correlation_id=5, flags=1),
            x(floats(1, 4), correlation_id=5),
            x(floats(1, 3), correlation_id=5, flags=2),
            x(floats(1, 3), correlation_id=5),
            x(floats(2, 3), correlation_id=6, flags=1),
            x(floats(1, 3), correlation_id="abc", flags=1),
            x(floats(1, 3), correlation_id="abd"),
        ],
    ),
    "decoupled_unary": Case(DECOUPLED, [x(floats(2))], ECHO),
}
