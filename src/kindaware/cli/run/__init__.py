"""`kindaware run`: inference in this process, without a server.

`_command` has the options, `_session` loads the model, `_requests` makes requests of what was typed,
`_report` writes the answers.
"""

from __future__ import annotations

from kindaware.cli.run._command import run

__all__ = ["run"]
