"""`kindaware doctor`: the machine as the library sees it.

`_command` has the options, `_checks` are functions that look at one thing each, `_faults` is what is known of
server versions, and `_report` writes it down. A new check is one function in `_checks`.
"""

from __future__ import annotations

from kindaware.cli.doctor._command import doctor

__all__ = ["doctor"]
