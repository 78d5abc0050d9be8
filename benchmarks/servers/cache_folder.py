"""The cache in a folder of the benchmark's own, so that nothing that a part measures was made before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cache_in(folder: str) -> Iterator[None]:
    """Keep the cache in a folder that is empty at first, until the block is left."""
    before = os.environ.get("KINDAWARE_CACHE")
    os.environ["KINDAWARE_CACHE"] = f"{folder}/cache"
    try:
        yield
    finally:
        if before is None:
            del os.environ["KINDAWARE_CACHE"]
        else:
            os.environ["KINDAWARE_CACHE"] = before
