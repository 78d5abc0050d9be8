"""Take the terminal pictures of the documentation: `python scripts/terminal_pictures.py` runs real commands.

It serves examples on a real tritonserver, captures what the commands print in a terminal, and writes
docs/_static/terminal. Nothing is made up; only the folders of this machine are shortened.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text
from skimage import data

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "_static" / "terminal"
WIDTH = 72
SERVE = "kindaware serve models"
EXAMPLES = ("pipeline/models/name_picture", "efficientnet_lite0/models/efficientnet_lite0")
EXAMPLES += ("streaming/models/storyteller",)
WITH_CLIENTS = ("sentence_embedding/models/minilm", "voice_activity/models/silero_vad")
TEST = """\
from kindaware.testing import ModelHarness


def test_adds():
    with ModelHarness("models/mine") as model:
        result = model.infer(A=[[1, 2]], B=[[3, 4]])
        assert result.outputs["SUM"].tolist() == [[4, 6]]
"""


class Command:
    """A command in a terminal of its own, and what it has printed so far."""

    def __init__(self, line: str, folder: Path) -> None:
        terminal, theirs = pty.openpty()
        os.set_blocking(terminal, False)
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": str(WIDTH),
            "TERM": "xterm-256color",
            "PYTHONPATH": "",
        }
        self._terminal = terminal
        self._process = subprocess.Popen(
            shlex.split(line), cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self.printed = ""

    def wait(self, until: str = "", timeout_seconds: float = 180) -> str:
        """Return what is printed until these words, or the end."""
        deadline = time.monotonic() + timeout_seconds
        while not until or until not in self.printed:
            try:
                self.printed += os.read(self._terminal, 1 << 16).decode()
            except BlockingIOError:
                time.sleep(0.1)
            except OSError:  # the other end is closed
                break
            if time.monotonic() > deadline:
                raise TimeoutError(self.printed)
        return self.printed

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait for the end."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)


def picture(name: str, *shown: tuple[str, str]) -> None:
    """Write an SVG of commands and what they have printed."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for number, (command, printed) in enumerate(shown):
        if number:
            console.print()
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        kept = "\n".join(shorten(line) for line in printed.replace("\r", "").strip("\n").split("\n"))
        console.print(Text.from_ansi(kept))
    svg = console.export_svg(title="", unique_id=name)
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas")
    svg = svg.replace("<svg ", '<svg width="640" ', 1)
    svg = svg.replace("<!-- Generated with Rich https://www.textualize.io -->", "")
    (FOLDER / f"{name}.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def shorten(line: str) -> str:
    """Leave the folders of this machine out."""
    line = re.sub(r"(in the nvidia-pytriton wheel).*", r"\1", line)
    return line.replace(str(ROOT), "~/kindaware").replace(tempfile.gettempdir() + "/", "/tmp/")


def without_versions(tested: str) -> str:
    """Leave out what pytest says about itself and about how many tests it has found so far."""
    said = re.compile(r"\S*(platform|rootdir|plugins|timeout|hypothesis|cachedir|\S*/python|.*collecting)")
    lines = tested.replace("\r", "\n").splitlines()
    return "\n".join(line for line in lines if line and not said.match(line))


def write_plain_model(folder: Path) -> None:
    """Take the model of the page about existing models."""
    page = (ROOT / "docs" / "how-to" / "test-an-existing-model.md").read_text()
    for path in ("models/mine/config.pbtxt", "models/mine/1/model.py"):
        found = re.search(rf"```\w+\n# {path}\n(.*?)```", page, re.DOTALL)
        assert found, path
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(found.group(1))
    (folder / "test_mine.py").write_text(TEST)


def link(repository: Path, examples: tuple[str, ...]) -> None:
    """Make a repository of these models of the examples."""
    repository.mkdir(parents=True)
    for example in examples:
        (repository / Path(example).name).symlink_to(ROOT / "examples" / example)


def take_clients(folder: Path) -> None:
    """Take pictures of the clients of examples with real weights, and the plot that one of them draws."""
    place = folder / "clients"
    link(place / "models", WITH_CLIENTS)
    embedding, voice = (f"examples/{one}/client.py" for one in ("sentence_embedding", "voice_activity"))
    server = Command(SERVE, place)
    try:
        server.wait("Ctrl-C stops it")
        picture("embedding", (f"python {embedding}", Command(f"python {ROOT}/{embedding}", place).wait()))
        Command(f"python {ROOT}/{voice}", place).wait()
    finally:
        server.interrupt()
    with Image.open(place / "speech.png") as plot:
        plot.convert("P", palette=Image.Palette.ADAPTIVE).save(FOLDER / "speech.png", optimize=True)


def main() -> None:
    """Take all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = folder / "shown" / "models"
        link(repository, EXAMPLES)
        Image.fromarray(data.chelsea()).save(repository.parent / "cat.jpg")
        write_plain_model(folder)
        test = "pytest -v -p no:cacheprovider test_mine.py"
        tested = Command(test, folder).wait()
        picture("test", ("cat test_mine.py", TEST), ("pytest -v test_mine.py", without_versions(tested)))
        server = Command(SERVE, repository.parent)
        try:
            block = server.wait("Ctrl-C stops it")
            cat = "kindaware infer name_picture --input cat.jpg"
            story = "kindaware infer storyteller -i PROMPT='Once there was a' -i MAX_TOKENS=[12]"
            cats, stories = (Command(line, repository.parent).wait() for line in (cat, story))
        finally:
            server.interrupt()
        take_clients(folder)
        picture("serve", (SERVE, block), (cat, cats))
        picture("pipeline", (cat, cats))
        picture("streaming", (story, stories))


if __name__ == "__main__":
    main()
