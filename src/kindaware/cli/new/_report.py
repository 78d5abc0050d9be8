"""What `kindaware new` prints."""

from __future__ import annotations

import json

from kindaware.cli.new._made import Made


def write_report(made: Made) -> str:
    """Return what was made, what is left to do, and the next commands."""
    lines = [f"{made.directory}: {made.about.replace('`', '')}"]
    for directory, files in made.files.items():
        lines.append(f"  wrote {directory}: {', '.join(sorted(files))}")
    lines += [f"  {line}" for line in made.findings]
    if made.questions:
        lines += ["", "left to do:"]
        lines += [f"  {question}" for question in made.questions]
    return "\n".join([*lines, "", "next:", *(f"  {command}" for command in made.commands)])


def write_json(made: Made) -> str:
    """Return the same as one line of JSON."""
    return json.dumps(
        {
            "directory": str(made.directory),
            "files": {str(directory): sorted(files) for directory, files in made.files.items()},
            "findings": made.findings,
            "questions": made.questions,
            "commands": made.commands,
        },
        ensure_ascii=False,
    )
