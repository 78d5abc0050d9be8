"""Take the pictures of commands in the documentation: `python scripts/terminal_pictures.py [NAME ...]`.

It runs real commands, on a real tritonserver where they need one, and writes docs/_static/terminal. Nothing
is made up: folders of this machine are shortened, and an ellipsis stands for lines that are left out.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from skimage import data
from terminal import FOLDER, ROOT, Command, picture, serving

SERVE = "kindaware serve models"
FROM = "kindaware new resnet18 --from torchvision.models:resnet18"
EXAMPLES = ("pipeline/models/name_picture", "efficientnet_lite0/models/efficientnet_lite0")
EXAMPLES += ("streaming/models/storyteller",)
WITH_CLIENTS = ("sentence_embedding/models/minilm", "voice_activity/models/silero_vad")
WITH_CLIENTS += ("face_detection/models/mtcnn",)
TEST = """\
from kindaware.testing import ModelHarness


def test_adds():
    with ModelHarness("models/mine") as model:
        result = model.infer(A=[[1, 2]], B=[[3, 4]])
        assert result.outputs["SUM"].tolist() == [[4, 6]]
"""
CARELESS = """\
name: "iris"
backend: "python"
max_batch_size: 64
input [ { name: "FEATURES" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "SCORES" data_type: TYPE_FP32 dims: [ 3 ] } ]
instance_group [ { kind: KIND_CPU count: 8 } ]
parameters { key: "kindaware.num_thread" value { string_value: "1" } }
"""

WAITS = """\
import time

from kindaware import KindAwareModel, TensorSpec


class TritonPythonModel(KindAwareModel):
    inputs = (TensorSpec("X", "FP32", [64]),)
    outputs = (TensorSpec("Y", "FP32", [64]),)
    max_batch_size = 8

    def load(self):
        return None

    def forward(self, X):
        time.sleep(0.02)  # a device at work, whatever else this machine does
        return X.clone()
"""


def take_start(folder: Path) -> None:
    """From nothing to an answer: new, serve, infer."""
    made = Command(FROM, folder).wait()
    infer = "kindaware infer resnet18 --random"
    with serving("kindaware serve resnet18", folder) as block:
        answer = Command(infer, folder).wait()
    block = until(block, "In another terminal")
    picture("start", (FROM, until(made, "left to do")), ("kindaware serve resnet18", block), (infer, answer))


def take_test(folder: Path) -> None:
    """A test of a hand-written model.py."""
    page = (ROOT / "docs" / "how-to" / "test-an-existing-model.md").read_text()
    write_files(page, folder, "models/mine/config.pbtxt", "models/mine/1/model.py")
    (folder / "test_mine.py").write_text(TEST)
    tested = Command("pytest -v -p no:cacheprovider test_mine.py", folder).wait()
    picture("test", ("cat test_mine.py", TEST), ("pytest -v test_mine.py", without_versions(tested)))


def take_check(folder: Path) -> None:
    """What check finds in a careless configuration, and after it is corrected."""
    page = (ROOT / "docs" / "tutorials" / "first-model.md").read_text()
    write_files(page, folder, "models/iris/1/model.py")
    (folder / "models/iris/config.pbtxt").write_text(CARELESS)
    check = "kindaware check models/iris"
    careless = Command(check, folder, 88).wait()
    corrected = CARELESS.replace("num_thread", "num_threads").replace("count: 8", "count: 2")
    (folder / "models/iris/config.pbtxt").write_text(corrected + "dynamic_batching { }\n")
    picture("check", (check, careless), (check, Command(check, folder, 88).wait()), width=88)


def take_run(folder: Path) -> None:
    """One inference with the time of each stage."""
    link(folder / "models", EXAMPLES)
    Image.fromarray(data.chelsea()).save(folder / "cat.jpg")
    labels = ROOT / "examples" / "resnet50" / "resnet50_labels.txt"
    shutil.copy(labels, folder / "labels.txt")
    line = "kindaware run models/efficientnet_lite0 -i cat.jpg --labels labels.txt "
    line += "--set kindaware.num_threads=1"
    Command(line, folder).wait()  # reads the weights into the page cache, as on any day but the first
    picture("run", (line, Command(line, folder, 88).wait()), width=88)


def take_doctor(folder: Path) -> None:
    """What this machine has."""
    picture("doctor", ("kindaware doctor", Command("kindaware doctor", folder, 88).wait()), width=88)


def take_bench(folder: Path) -> None:
    """Throughput and latency over the number of requests in flight, as a table and as a chart."""
    (folder / "net" / "1").mkdir(parents=True)
    (folder / "net" / "1" / "model.py").write_text(WAITS)
    line = "kindaware bench net -c 1,2,4,8,16,32 --plot net.png"
    picture("bench", (line, Command(line, folder, 104).wait()), width=104)
    keep(folder / "net.png", "load", size=(800, 500))
    line = "kindaware bench net --compare instance_group.count=2"
    picture("compare", (line, Command(line, folder, 94).wait()), width=94)


def take_examples(folder: Path) -> None:
    """A picture's names, and a story that comes piece by piece."""
    link(folder / "models", EXAMPLES)
    Image.fromarray(data.chelsea()).save(folder / "cat.jpg")
    cat = "kindaware infer name_picture --input cat.jpg"
    story = "kindaware infer storyteller -i PROMPT='Once there was a' -i MAX_TOKENS=[12]"
    with serving(SERVE, folder):
        picture("pipeline", (cat, Command(cat, folder).wait()))
        picture("streaming", (story, Command(story, folder).wait()))


def take_clients(folder: Path) -> None:
    """Clients of examples with real weights, and what they draw."""
    link(folder / "models", WITH_CLIENTS)
    Image.fromarray(data.astronaut()).save(folder / "astronaut.jpg", quality=95)
    embedding, voice, faces = (
        f"examples/{one}/client.py" for one in ("sentence_embedding", "voice_activity", "face_detection")
    )
    with serving(SERVE, folder):
        picture("embedding", (f"python {embedding}", Command(f"python {ROOT}/{embedding}", folder).wait()))
        Command(f"python {ROOT}/{voice}", folder).wait()
        Command(f"python {ROOT}/{faces} astronaut.jpg", folder).wait()
    keep(folder / "speech.png", "speech")
    keep(folder / "astronaut-faces.png", "faces", crop=(64, 0, 384, 256))


def take_generation(folder: Path) -> None:
    """Eight texts side by side, when they are written."""
    train, ask = (f"examples/generation/{file}.py" for file in ("train", "client"))
    Command(f"python {ROOT}/{train}", folder).wait()
    link(folder / "models", ("generation/models/gpt",))
    with serving(SERVE, folder):
        written = Command(f"python {ROOT}/{ask}", folder, 102).wait()
    last_frame = written.rpartition("\x1b[2K")[2]  # before it, what it replaces
    picture("generation", (f"python {ask}", last_frame), width=102)


def until(printed: str, words: str) -> str:
    """What is printed before these words, and an ellipsis."""
    return printed.replace("\r", "").partition(f"\n{words}")[0].rstrip("\n") + "\n\x1b[2m…\x1b[0m"


def without_versions(tested: str) -> str:
    """Leave out what pytest says about itself and about how many tests it has found so far."""
    said = re.compile(r"\S*(platform|rootdir|plugins|timeout|hypothesis|cachedir|\S*/python|.*collecting)")
    lines = tested.replace("\r", "\n").splitlines()
    return "\n".join(line for line in lines if line and not said.match(line))


def write_files(page: str, folder: Path, *paths: str) -> None:
    """Write these files of a page's code blocks."""
    for path in paths:
        found = re.search(rf"```\w+\n# {path}\n(.*?)```", page, re.DOTALL)
        assert found, path
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(found.group(1))


def link(repository: Path, examples: tuple[str, ...]) -> None:
    """Make a repository of these models of the examples."""
    repository.mkdir(parents=True)
    for example in examples:
        (repository / Path(example).name).symlink_to(ROOT / "examples" / example)


def keep(
    drawn: Path,
    name: str,
    *,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int, int, int] | None = None,
) -> None:
    """Keep a picture that a command has drawn, in few bytes."""
    with Image.open(drawn) as image:
        shown = image.convert("RGB").crop(crop or (0, 0, *image.size))
        shown = shown.resize(size or shown.size)
        shown.convert("P", palette=Image.Palette.ADAPTIVE).save(FOLDER / f"{name}.png", optimize=True)


TAKES = {
    "start": take_start,
    "test": take_test,
    "check": take_check,
    "run": take_run,
    "doctor": take_doctor,
    "bench": take_bench,
    "examples": take_examples,
    "clients": take_clients,
    "generation": take_generation,
}


def main() -> None:
    """Take the pictures that are named, or all."""
    for name in sys.argv[1:] or TAKES:
        with tempfile.TemporaryDirectory() as folder:
            TAKES[name](Path(folder))


if __name__ == "__main__":
    main()
