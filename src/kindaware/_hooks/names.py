"""Names in a user's class that can only be a misspelled hook or setting, and names of other frameworks."""

from __future__ import annotations

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
"""Methods that other frameworks call, and the hook in their place.

Source: the documentation of LitServe (`LitAPI`), TorchServe (`BaseHandler`), PyTriton and BentoML.
"""

SETTING_COUNTERPARTS = {
    "padding": "pad",
    "dtype": "precision",
    "batch_size": "max_batch_size",
    "threads": "num_threads",
}
"""Attributes that other frameworks read, and the setting in their place."""

_WORDS = frozenset(
    {"already", "decision", "input", "metric", "offload", "onward", "output", "preload", "provision"}
    | {"reload", "reward", "steam", "string", "toward", "upload"}
    | {"collage", "collated", "collator", "collect", "correlate"}
    | {"compiled", "compiler", "loaded", "loader", "loads", "padded", "pads", "unloaded"}
    | {"postprocessed", "postprocessor", "preprocessed", "preprocessor"}
    | {"streamed", "streamer", "streaming", "streams"}
)
"""Words within two edits of a hook or setting, which a class may mean for itself."""


def find_misspelled(name: str, known: tuple[str, ...]) -> str | None:
    """Return the known name that a name can only be a misspelling of; None where it may be its own.

    A name counts as misspelled when one or two letters are wrong, missing, too many or swapped; one in a
    short name, none in one of three letters, where only upper case is taken for a mistake.
    """
    plain = name.lower()
    if plain in _WORDS or name in known:
        return None
    edits, candidate = min((_count_edits(plain, one), one) for one in known)
    allowed = 0 if len(candidate) < 4 else 1 if len(candidate) < 6 else 2
    is_longer = plain.startswith(candidate + "_")  # a name of the class's own, such as preprocess_1
    return candidate if edits <= allowed and not is_longer else None


def _count_edits(one: str, other: str) -> int:
    """Return the least number of letters to change, insert, delete or swap with their neighbour.

    The optimal string alignment distance, by dynamic programming over the prefixes of both.
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
