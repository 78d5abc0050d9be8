"""The rows that an error names: those of a batch, or the positions of streams in a step."""

from __future__ import annotations

from collections.abc import Collection

from kindaware._errors import OutputError, RequestError, attribute_of, message, text_of


def rows_of(error: Exception) -> Collection[int] | None:
    """Return the rows that an error names; None where a class of the user's means something else by it."""
    rows = attribute_of(error, "rows") if isinstance(error, RequestError) else None
    if not isinstance(rows, (tuple, list, set, frozenset)):
        return None
    # A boolean is an integer to Python, and would be the number of a row.
    return rows if all(isinstance(row, int) and not isinstance(row, bool) for row in rows) else None


_WHAT = {"forward": "rows of the batch", "step": "states", "begin_batch": "requests"}
"""What the positions in an error are positions of, by the hook that raised it."""


def refuse_other_mask(error: Exception, num_rows: int, hook: str = "forward") -> Exception:
    """Return the error; an `OutputError` in its place if its mask has a length other than the batch's."""
    length = attribute_of(error, "mask_length") if rows_of(error) is not None else None
    if not isinstance(length, int) or length == num_rows:
        return error
    return OutputError(
        message(
            hook,
            expected=f"RequestError(rows=mask) with one boolean for each of the {num_rows} {_WHAT[hook]}",
            got=f"{length} booleans, for {text_of(error)[:80]!r}",
            remedy=f"make the mask of what {hook} got, or name the rows by number",
        )
    )
