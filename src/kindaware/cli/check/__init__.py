"""`kindaware check`: what is wrong with a model, found without a server.

The way of a check: `_command` has the options, `_session` finds the models. Of each, `_subject` reads
config.pbtxt and model.py, `_trial` runs it in a process of its own (`_trial_process` is what runs there), and
the functions in `rules` say what they find. `_report` writes it down. A new rule is one function there, and a
row of the table in its page.
"""

from __future__ import annotations

from kindaware.cli.check._command import check

__all__ = ["check"]
