"""The README of a scaffold."""

from __future__ import annotations

from collections.abc import Sequence

from kindaware._authoring.tasks import name_test, render

_FILES = {
    "config.pbtxt": "the tensors, and where and how the server runs the model",
    "1/model.py": "the model: `load` makes it, `forward` or `stream` answers",
    "client.py": "asks it on a server",
    "labels.txt": "the names of the classes",
}


def write_readme(
    name: str, *, about: str, files: Sequence[str], commands: Sequence[str], notes: Sequence[str]
) -> str:
    """Return the text of README.md.

    Args:
        name: of the model.
        about: what the model does.
        files: of the model, those that are described.
        commands: what to type next.
        notes: paragraphs of Markdown.
    """
    described = {**_FILES, name_test(name): "asks it in plain pytest, without a server"}
    return render(
        "README.md",
        name=name,
        about=about,
        files="\n".join(f"| `{file}` | {described[file]} |" for file in files if file in described),
        commands="\n".join(f"$ {command}" for command in commands),
        notes="\n\n".join(notes),
    )
