"""`kindaware size`: how many instances and replicas a load needs, from measured times.

`_service` measures how long batches take on a real server, `_queue` is the model of a server that batches
what waits, `_plan` looks for the load that a replica can take, and `_session` brings them together.
"""

from __future__ import annotations

from kindaware.cli.size._command import size

__all__ = ["size"]
