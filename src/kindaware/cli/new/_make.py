"""A new model: its files collected, completed with a README, and written."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from kindaware._authoring.readme import write_readme
from kindaware._authoring.scaffold import Files, check_name, write_directories
from kindaware._authoring.tasks import Scaffold, make_task
from kindaware.cli.new._made import Made
from kindaware.cli.new._port import scaffold_port


def make(directory: Path, *, source: str | None, task: str, examples: Sequence[str], is_forced: bool) -> Made:
    """Make the directory of a model, and for a pipeline that of the model it calls.

    Raises:
        ConfigError: the name is no model's, the directory is there already, or `source` can't be served.
        OSError: something can't be read or written.
    """
    name = check_name(directory.absolute().name)
    scaffold = _scaffold(directory, name, source=source, task=task, examples=examples)
    directories: dict[Path, Files] = {
        directory.with_name(model): files for model, files in scaffold.models.items()
    }
    commands = list_commands(directory, list(directories), scaffold)
    readme = write_readme(
        name,
        about=scaffold.about,
        files=list(directories[directory]),
        commands=commands,
        notes=scaffold.notes,
    )
    directories[directory] = {**directories[directory], "README.md": readme}
    write_directories(directories, force=is_forced)
    return Made(
        directory=directory,
        about=scaffold.about,
        files={one: list(files) for one, files in directories.items()},
        findings=scaffold.findings,
        questions=scaffold.questions,
        commands=commands,
    )


def _scaffold(
    directory: Path, name: str, *, source: str | None, task: str, examples: Sequence[str]
) -> Scaffold:
    if source is None:
        return make_task(task, name, shlex.quote(str(directory)))
    if source.endswith(".py") or Path(source).exists():
        return scaffold_port(Path(source), name, directory)
    from kindaware._authoring.from_callable import scaffold_callable

    return scaffold_callable(source, name, examples)


def list_commands(directory: Path, directories: Sequence[Path], scaffold: Scaffold) -> list[str]:
    """Return the commands that test, serve and ask the model, from where the user stands."""
    return [
        f"pytest {shlex.quote(str(directory))}",
        f"kindaware serve {' '.join(shlex.quote(str(one)) for one in directories)}",
        f"{scaffold.ask}  # in another terminal",
    ]
