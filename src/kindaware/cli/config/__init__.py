"""`kindaware config`: config.pbtxt from the declarations in model.py.

`_command` has the options, `_declared` runs the model's `auto_complete_config` in a process of its own, and
`_session` brings what it declares into the config.pbtxt that is there.
"""

from __future__ import annotations

from kindaware.cli.config._command import config

__all__ = ["config"]
