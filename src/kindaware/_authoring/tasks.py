"""The scaffolds of `--task`: a small whole model for each way to answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from string import Template

from kindaware._authoring.scaffold import Files


@dataclass(frozen=True)
class Task:
    """A way to answer, as the scaffold of it is described.

    Attributes:
        about: what the model does.
        ask: the command that asks it, with `$name` and `$directory`.
        change: what to do first with it.
        asked_like: the task that has the same configuration, test and client, unless this one has its own.
    """

    about: str
    ask: str
    change: str = "What is marked with WEIGHTS in `1/model.py` is yours to fill in."
    asked_like: str = ""


TENSOR, TEXT, STREAM, GENERATE = "tensor", "text", "stream", "generate"
SEQUENCE, PIPELINE = "sequence", "pipeline"
TASKS = {
    TENSOR: Task(
        "A model that gets a tensor of 4 numbers per row, and answers with 3 scores.",
        "kindaware infer $name --input '[5.1, 3.5, 1.4, 0.2]'",
    ),
    TEXT: Task(
        "A model that gets text, and answers with a label and scores.",
        "kindaware infer $name --input 'What a day!'",
    ),
    STREAM: Task(
        "A model that answers a prompt piece by piece.",
        "kindaware infer $name --input PROMPT='once upon a time'",
        "`stream` in `1/model.py` is yours to fill in: whatever it yields is sent at once.",
    ),
    GENERATE: Task(
        "A model that answers many prompts piece by piece, a piece of each in one step.",
        "kindaware infer $name --input PROMPT='once upon a time'",
        "`begin` and `step` in `1/model.py` are yours to fill in: a request's state, and one forward for the "
        "next piece of all of them.",
        asked_like=STREAM,
    ),
    SEQUENCE: Task(
        "A model that gets requests which belong together, and keeps a state for each sequence of them.",
        "python $directory/client.py",
        "`forward` in `1/model.py` is yours to fill in. `client.py` sends a whole sequence. `kindaware "
        "infer` sends one request, with `--sequence-id 1`, `--sequence-start` if it is the first and "
        "`--sequence-end` if it is the last.",
    ),
    PIPELINE: Task(
        "A model that has another one, `$other`, compute scores, and names the best.",
        "kindaware infer $name --input '[5.1, 3.5, 1.4, 0.2]'",
        "`forward` in `1/model.py` is yours to fill in: `self.call` asks any other model of the server.",
    ),
}


@dataclass(frozen=True)
class Scaffold:
    """Directories of models, and how they are described.

    Attributes:
        models: the files of each directory, by the model's name; the asked-for one first.
        about: what the model does.
        ask: the command that asks it.
        notes: what to know about it, in Markdown.
        findings: what was found out, in lines.
        questions: what is left to do by hand.
    """

    models: dict[str, Files]
    about: str
    ask: str
    notes: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


def make_task(task: str, name: str, directory: str) -> Scaffold:
    """Return the scaffold of a task.

    Args:
        task: a key of `TASKS`.
        name: of the model.
        directory: its directory, as a shell takes it.
    """
    other = f"{name}_scores"
    values = {"name": name, "other": other, "directory": directory}
    outside = TASKS[task].asked_like or task
    files = {
        "config.pbtxt": render(f"{outside}/config.pbtxt", **values),
        "1/model.py": render(f"{task}/model.py", **values),
        name_test(name): render(f"{outside}/test_model.py", **values),
        "client.py": render(f"{outside}/client.py", **values),
    }
    models: dict[str, Files] = {name: files}
    if task == PIPELINE:
        models[other] = {
            "config.pbtxt": render("tensor/config.pbtxt", name=other),
            "1/model.py": render("tensor/model.py", name=other),
        }
    about, ask = (Template(text).substitute(values) for text in (TASKS[task].about, TASKS[task].ask))
    return Scaffold(models, about, ask, [TASKS[task].change])


def name_test(name: str) -> str:
    """Return the name of a model's test: unlike that of any other model's, as pytest wants it."""
    return f"test_{''.join(one if one.isalnum() else '_' for one in name)}.py"


def render(template: str, **values: str) -> str:
    """Return the text of a template with its values filled in."""
    file = resources.files("kindaware._authoring") / "templates" / f"{template}.txt"
    return Template(file.read_text(encoding="utf-8")).substitute(values)
