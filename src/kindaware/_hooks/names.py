"""The names in a user's class: misspellings of hooks and settings, and names of other frameworks."""

from __future__ import annotations

from collections.abc import Collection

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

_NAMES = frozenset(
    {
        "aforward",
        "aload",
        "astream",
        "began",
        "begins",
        "begun",
        "collage",
        "collated",
        "collates",
        "compiled",
        "compiler",
        "compiles",
        "cuda_graph",
        "decision",
        "den",
        "deprocess",
        "ends",
        "input",
        "lead",
        "loads",
        "loan",
        "metric",
        "model_device",
        "offload",
        "onload",
        "output",
        "output_devices",
        "pads",
        "postprocessed",
        "postprocesses",
        "postprocessor",
        "preprocessed",
        "preprocesses",
        "preprocessor",
        "provision",
        "reload",
        "reprocess",
        "revision",
        "road",
        "scream",
        "steam",
        "steep",
        "stem",
        "steps",
        "stop",
        "streams",
        "unpads",
        "upload",
    }
)
"""Names within the allowed edits of a hook or setting, which a class may mean for itself."""

_PARTS = frozenset(
    {
        "case",
        "code",
        "cost",
        "deep",
        "fast",
        "last",
        "made",
        "match",
        "mixed",
        "model",
        "more",
        "node",
        "past",
        "patch",
        "read",
        "reads",
        "sentences",
        "steam",
        "threats",
        "watch",
    }
)
"""Words within the allowed edits of a part of such a name, which make it another name."""

_MAX_EDITS = 2


def find_misspelled(name: str, known: Collection[str]) -> str | None:
    """Return the known name of which a name is a likely misspelling; None if it may be the author's own.

    The parts between underscores are compared one by one. One letter of a part may be wrong, missing, extra
    or swapped with its neighbour; two in a part of eight letters or more, and in one of up to three only an s
    may be extra, or letters swapped. Underscores and case may differ. A name is the author's own if it ends
    in a digit, begins or ends with a known name as a part of its own, or differs by a word of `_PARTS`.
    """
    plain = name.lower()
    if name in known or plain[-1:].isdigit() or _is_word(plain):
        return None
    found = [(edits, one) for one in known if (edits := _edits_if_misspelled(plain, one)) is not None]
    return min(found)[1] if found else None


def _is_word(plain: str) -> bool:
    return plain in _NAMES or plain.replace("_", "") in _NAMES


def _edits_if_misspelled(plain: str, known: str) -> int | None:
    """Return by how many edits a name is a misspelling of a known one; None if it is no misspelling."""
    parts, wanted = plain.split("_"), known.split("_")
    if len(parts) != len(wanted):
        # preprocess_image is clearly a helper, and so is my_preprocess.
        if plain.startswith(known + "_") or plain.endswith("_" + known):
            return None
        parts, wanted = ["".join(parts)], ["".join(wanted)]
    pairs = [(one, other) for one, other in zip(parts, wanted, strict=True) if one != other]
    # Lengths first: they rule out most names, of which a class may have many.
    if any(one in _PARTS or abs(len(one) - len(other)) > _MAX_EDITS for one, other in pairs):
        return None
    edits = [_count_edits(one, other) for one, other in pairs]
    is_close = all(count <= _allowed_in(*pair) for count, pair in zip(edits, pairs, strict=True))
    return sum(edits) if is_close and sum(edits) <= _allowed("".join(wanted)) else None


def _allowed_in(part: str, wanted: str) -> int:
    # Another letter makes another word of a short one, such as cpu of gpu.
    if len(wanted) < 4 and (sorted(part) == sorted(wanted) or part == wanted + "s"):
        return 1
    return _allowed(wanted)


def _allowed(word: str) -> int:
    """Return how many edits make a misspelling of a word, by its length."""
    return 0 if len(word) < 4 else 1 if len(word) < 8 else _MAX_EDITS


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
