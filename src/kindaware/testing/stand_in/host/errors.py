"""What is raised where a server would refuse, and where it would crash, hang or corrupt data."""

from __future__ import annotations


class TritonContractError(Exception):
    """The model did what a real server answers with a crash, a hang or silent corruption.

    It is recorded in `Host.violations` when it is made, since code under test may catch `Exception`.
    """


class RefusalError(Exception):
    """A `Host` raises it where the server would refuse; the text is the server's reason, without a prefix."""
