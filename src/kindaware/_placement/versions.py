"""How many versions of a model a server has loaded at once: each has instances of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def count_versions(directory: str, config: Mapping[str, Any]) -> int:
    """Count the versions that `version_policy` makes the server load from a model's directory.

    Source: core `model_lifecycle.cc`, VersionsToLoad.

    Args:
        directory: the model's; empty if a unit test names none.
        config: the model configuration, of which only `version_policy` is read.

    Returns:
        The number of versions; 1 where the directory can't be listed or has none, as in a unit test.
    """
    if not directory:
        return 1
    try:
        names = [path.name for path in Path(directory).iterdir() if path.is_dir()]
    except (OSError, ValueError):  # ValueError: no file system has such a name
        return 1
    # The server ignores names with leading zeros.
    found = {int(name) for name in names if re.fullmatch(r"0|[1-9]\d*", name)}
    policy = config.get("version_policy") or {}
    # 64-bit integers are text in JSON.
    if "specific" in policy:
        found &= {int(version) for version in policy["specific"].get("versions", ())}
    elif "all" not in policy:
        latest = int((policy.get("latest") or {}).get("num_versions", 1))
        found = set(sorted(found, reverse=True)[:latest])
    return max(1, len(found))
