"""A client that opens streams and sends requests until it is killed: `python -m stress.soak.doomed URL`."""

from __future__ import annotations

import asyncio
import math
import sys
import time

from stress.soak.client import Client
from stress.soak.tally import Tally

NUMBER = 1000
"""Its keys are no other client's."""


def main() -> None:
    """Say a word when the requests begin."""
    client = Client(sys.argv[1], NUMBER, lambda model, since: True, Tally(time.time()))
    print("begins", flush=True)
    asyncio.run(client.run(math.inf, at_once=40, per_second=1000.0))


if __name__ == "__main__":
    main()
