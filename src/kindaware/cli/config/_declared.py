"""What a model.py declares; runs in a process of its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from kindaware._errors import describe, message
from kindaware.testing.arguments import ModelArguments
from kindaware.testing.harness.process.loader import find_code, load_code
from kindaware.testing.stand_in import Host


def declare(directory: str, filename: str) -> dict[str, Any]:
    """Return the fields that the class's `auto_complete_config` adds to an empty configuration.

    Returns:
        `{"declared": fields}`, or `{"error": text}` where model.py can't be loaded or the function fails.
    """
    folder = Path(directory)
    try:
        code = find_code(folder, None, filename)
        host = Host(folder.name, model_dir=code.version_directory)
        loaded = load_code(code, host)
        complete = getattr(loaded.model_class, "auto_complete_config", None)
        if complete is None:
            return {"declared": {}}
        host.phase = "auto_complete"
        given = loaded.pb_utils.ModelConfig(ModelArguments(None, name=folder.name).config_text)
        before = copy.deepcopy(given.as_dict())
        with loaded.space.entered():
            completed = complete(given)
        after = completed.as_dict() if completed is not None else given.as_dict()
        return {"declared": {key: value for key, value in after.items() if value != before.get(key)}}
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return {"error": _describe(folder, error)}


def _describe(folder: Path, error: BaseException) -> str:
    """Return the library's own messages as they are, and others with the line of the model that raised."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).is_relative_to(folder):
            place = f" at {Path(trace.tb_frame.f_code.co_filename).relative_to(folder)}:{trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename is not None:
        place = f" at {Path(error.filename).name}:{error.lineno}"
    if " expected " in str(error):
        return str(error)
    return message(
        f"model {str(folder)!r}",
        expected="a model.py that can be imported",
        got=f"{describe(error)}{place}",
        remedy="correct it",
    )
