"""The names in a user's class: the hooks, misspellings of them, and names of other frameworks."""

from __future__ import annotations

HOOKS = {
    "load": 0,
    "forward": None,
    "preprocess": 1,
    "collate": 2,
    "postprocess": 1,
    "warmup_inputs": 1,
    "unload": 0,
    "is_ready": 0,
    "stream": None,
}
"""The hooks, and the number of arguments of each without self; None if its parameters are bound to inputs."""

ASYNCHRONOUS = ("load", "forward", "unload")
"""The hooks, beside `stream`, that may be written with `async def`; all run on one event loop."""

WITH_REQUESTS = ("preprocess", "postprocess")
"""The hooks, besides `forward`, that may have an additional parameter `requests`."""

COUNTERPARTS = {
    "predict": "forward",
    "infer": "forward",
    "inference": "forward",
    "handle": "forward",
    "setup": "load",
    "decode_request": "preprocess",
    "encode_response": "postprocess",
    "batch": "collate",
    "unbatch": "postprocess",
    "collator": "collate",
    "streaming": "stream",
    "warm_up": "warmup_inputs",
    "teardown": "unload",
    "cleanup": "unload",
    "health": "is_ready",
}
"""Methods that other frameworks call, and the corresponding hook.

Source: the documentation of LitServe (`LitAPI`), TorchServe (`BaseHandler`), PyTriton and BentoML.
"""

SETTING_COUNTERPARTS = {
    "padding": "pad",
    "dtype": "precision",
    "batch_size": "max_batch_size",
    "threads": "num_threads",
}
"""Attributes that other frameworks read, and the corresponding setting."""

_WORDS = frozenset(
    {
        "already",
        "collated",
        "compiled",
        "compiler",
        "decision",
        "input",
        "loads",
        "metric",
        "num_heads",
        "output",
        "pads",
        "postprocessed",
        "postprocessor",
        "preprocessed",
        "preprocessor",
        "provision",
        "reload",
        "streams",
        "upload",
    }
)
"""Words within the allowed edits of a hook or setting, which a class may mean for itself."""


def find_misspelled(name: str, known: tuple[str, ...]) -> str | None:
    """Return the known name of which a name is a likely misspelling; None if it may be the author's own.

    One letter may be wrong, missing, extra or swapped with its neighbour; two in a name of eight letters or
    more, and none in one of three, which is misspelled only if its case differs.
    """
    plain = name.lower().rstrip("0123456789")  # input1 and input2 are names of the class's own
    if plain in _WORDS or name in known:
        return None
    edits, candidate = min((_count_edits(plain, one), one) for one in known)
    allowed = 0 if len(candidate) < 4 else 1 if len(candidate) < 8 else 2
    # preprocess_1 is within two edits of preprocess, and clearly a helper.
    is_longer = plain.startswith(candidate + "_")
    return candidate if edits <= allowed and not is_longer else None


def _count_edits(one: str, other: str) -> int:
    """Return the minimum number of letters to change, insert, delete or swap with their neighbour.

    This is the optimal string alignment distance, computed by dynamic programming over the prefixes of both.
    """
    before_last: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        current = [row]
        for column, wanted in enumerate(other, 1):
            edits = min(last[column] + 1, current[-1] + 1, last[column - 1] + (letter != wanted))
            if row > 1 and column > 1 and one[row - 2] == wanted and letter == other[column - 2]:
                edits = min(edits, before_last[column - 2] + 1)
            current.append(edits)
        before_last, last = last, current
    return last[-1]
