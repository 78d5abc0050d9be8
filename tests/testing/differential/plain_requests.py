"""The requests to the models of `plain_models`."""

import numpy as np
from differential_kit import ask

FIRST, SECOND = np.float32([1, 2, 3, 4]), np.float32([0.5, -2, np.inf, 1e-30])


def pair(model, first=FIRST, second=SECOND, called=None, **options):
    named = {} if called is None else {"MODEL_NAME": np.array([called], dtype=object)}
    return ask(model, {**named, "INPUT0": first, "INPUT1": second}, **options)


def count(number, dtype=np.int32):
    return ask("square", {"IN": np.array([number], dtype)})


def repeat(numbers, delays, wait=0):
    named = {"IN": np.int32(numbers), "DELAY": np.uint32(delays), "WAIT": np.uint32([wait])}
    return ask("repeat", named)


def total(model, *numbers, called="square"):
    return ask(model, {"MODEL_NAME": np.array([called], dtype=object), "IN": np.int32(numbers)})


def bls(model):
    return [
        pair(model, called="add_sub"),
        pair(model, called="add_sub", requested_outputs=["OUTPUT1"]),
        pair(model, called="nobody"),
        pair(model, called="square"),
        pair(model, called=""),
    ]


def bls_decoupled(model):
    return [
        total(model, 3),
        total(model, 0),
        total(model, 4, 1, 0, 2),
        total(model),
        total(model, 2, called="nobody"),
        total(model, 2, called="add_sub"),
        total(model, 2, -1),
    ]


REQUESTS = {
    "add_sub": [
        pair("add_sub"),
        pair("add_sub", requested_outputs=["OUTPUT1"]),
        pair("add_sub", requested_outputs=["OUTPUT0", "OUTPUT1"]),
        pair("add_sub", requested_outputs=["OUTPUT2"]),
        pair("add_sub", FIRST[:3]),
        pair("add_sub", FIRST.astype(np.float64)),
        ask("add_sub", {"INPUT0": FIRST}),
    ],
    "square": [count(4), count(1), count(0), count(-1), count(2, np.int64)],
    "repeat": [
        repeat([4, 2, 0, 1], [1, 5, 0, 2]),
        repeat([7], [0], wait=20),
        repeat([], []),
        repeat([1, 2], [1]),
    ],
    "bls_sync": bls("bls_sync"),
    "bls_async": bls("bls_async"),
    "bls_decoupled": bls_decoupled("bls_decoupled"),
    "bls_decoupled_async": bls_decoupled("bls_decoupled_async"),
}
