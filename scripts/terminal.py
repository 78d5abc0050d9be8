"""Commands in a terminal of their own, and pictures of what they print."""

from __future__ import annotations

import codecs
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "_static" / "terminal"
WIDTH = 72
PIXELS_PER_COLUMN = 640 / WIDTH


class Command:
    """A command in a terminal of its own, and what it has printed so far, but for its progress on stderr."""

    def __init__(self, line: str, folder: Path, width: int = WIDTH) -> None:
        terminal, theirs = pty.openpty()
        os.set_blocking(terminal, False)
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": str(width),
            "TERM": "xterm-256color",
            "PYTHONPATH": "",
        }
        self._terminal = terminal
        self._process = subprocess.Popen(
            shlex.split(line),
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        self.printed = ""
        # A read may end within a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def wait(self, until: str = "", timeout_seconds: float = 300) -> str:
        """Return what is printed until these words, or the end."""
        deadline = time.monotonic() + timeout_seconds
        while not until or until not in self.printed:
            try:
                self.printed += self._decoder.decode(os.read(self._terminal, 1 << 16))
            except BlockingIOError:
                time.sleep(0.1)
            except OSError:  # the other end is closed
                break
            if time.monotonic() > deadline:
                raise TimeoutError(self.printed)
        if until and until not in self.printed:
            raise RuntimeError(f"expected {until!r} to be printed, got {self.printed}")
        return self.printed

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait for the end."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)


@contextmanager
def serving(line: str, folder: Path) -> Iterator[str]:
    """Keep `kindaware serve` running, and yield what it has printed."""
    server = Command(line, folder)
    try:
        yield server.wait("Ctrl-C stops it")
    finally:
        server.interrupt()


def picture(name: str, *shown: tuple[str, str], width: int = WIDTH) -> None:
    """Write an SVG of commands and what they have printed."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    for number, (command, printed) in enumerate(shown):
        if number:
            console.print()
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text.from_ansi(shorten(printed.replace("\r", "").strip("\n"))))
    svg = console.export_svg(title="", unique_id=name)
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas")
    svg = svg.replace("<svg ", f'<svg width="{round(width * PIXELS_PER_COLUMN)}" ', 1)
    svg = svg.replace("<!-- Generated with Rich https://www.textualize.io -->", "")
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


def shorten(printed: str) -> str:
    """Leave the folders of this machine out."""
    printed = re.sub(r"(in the nvidia-pytriton wheel):\s+/\S+", r"\1", printed)
    printed = printed.replace(str(Path(sys.executable).parent), "~/.venv/bin")
    return printed.replace(str(ROOT), "~/kindaware").replace(tempfile.gettempdir() + "/", "/tmp/")
