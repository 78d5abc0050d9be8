"""What `kindaware new` prints."""

from __future__ import annotations

import json

from kindaware.cli._hanging import hang
from kindaware.cli.new._made import Made


def write_report(made: Made) -> str:
    """Return what was made, what is left to do, and the next commands."""
    lines = [f"{made.directory}: {made.about.replace('`', '')}"]
    for directory, files in made.files.items():
        wrote = f"wrote {directory}: {', '.join(sorted(files))}"
        lines.append(f"  {hang(wrote, 2, further=4)}")
    lines += [f"  {hang(line, 2, further=4)}" for line in made.findings]
    if made.questions:
        lines += ["", "left to do:"]
        lines += [f"  {hang(question, 2, further=4)}" for question in made.questions]
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
