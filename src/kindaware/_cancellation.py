"""Whether it is worth while to ask Triton which requests were cancelled."""

from __future__ import annotations

from kindaware._counts import Counts

ASK_SECONDS = 70e-6
"""What it costs to ask for one request: a call to the server's process. Measured on tritonserver 2.51.0, two
shared cores."""

WORTH = 100
"""A request must take this many times as long as asking for it."""


def asks_for_cancelled(setting: str, counts: Counts) -> bool:
    """Decide for one call of `execute`.

    Args:
        setting: `on`, `off`, or `auto`: where a request has taken 100 times 70 us or more on the average,
            with the copies to and from the device.
        counts: what the instance has done so far; before its first answer, `auto` does not ask.
    """
    if setting != "auto":
        return setting == "on"
    seconds = counts.seconds
    spent = seconds["copy_in"] + seconds["forward"] + seconds["copy_out"]
    return counts.requests > 0 and spent >= WORTH * ASK_SECONDS * counts.requests
