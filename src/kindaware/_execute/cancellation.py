"""Where it is worth while to ask Triton which requests were cancelled."""

from __future__ import annotations

import math

ASK_SECONDS = 70e-6
"""What it costs to ask for one request: a call to the server's process. Measured on tritonserver 2.51.0, two
shared cores."""

WORTH = 100
"""A request must take this many times as long as asking for it."""


def slow_from(setting: str) -> float:
    """From how many seconds per request on it is asked; see `Counters.seconds_per_request`.

    Args:
        setting: `on` to ask always, `off` never, `auto` where the batch before has taken 100 times 70 us or
            more for each of its requests. So `auto` does not ask before the first answer.
    """
    return {"on": 0.0, "off": math.inf, "auto": WORTH * ASK_SECONDS}[setting]
