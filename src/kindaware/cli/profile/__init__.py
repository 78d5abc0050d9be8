"""`kindaware profile`: where the time of `execute` goes, as a table and as a trace.

The way of a profile: `_command` has the options, `_session` loads the model, `_inputs` makes requests,
`cli/_stages.py` puts spans around the stages of an instance, `_run` calls `execute`,
without torch's profiler and with it, `_report` writes it down. Nothing of the core knows that it is profiled:
without the command there is no span.
"""

from __future__ import annotations

from kindaware.cli.profile._command import profile

__all__ = ["profile"]
