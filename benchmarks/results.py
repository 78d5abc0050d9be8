"""Results as JSON files, one per run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "results"


def to_json(found: Any) -> str:
    """Write what was found, dataclasses in it as objects."""
    return json.dumps(found, indent=1, default=asdict) + "\n"


def save(name: str, run: dict[str, Any], parts: dict[str, Any]) -> None:
    """Write the description of a run, and what its parts have found so far."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(to_json({"run": run, "parts": parts}))


def load_all() -> list[dict[str, Any]]:
    """Read every run that was kept, the newest first; not the quick ones, and not those of a GPU."""
    paths = [path for path in FOLDER.glob("*.json") if not path.name.startswith(("quick", "gpu"))]
    runs = [json.loads(path.read_text()) for path in paths]
    return sorted(runs, key=lambda one: one["run"]["date"], reverse=True)
