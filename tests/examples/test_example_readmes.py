"""The commands in the examples' READMEs, run in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kindaware.testing import TritonServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PREAMBLE = "KINDAWARE=$HOME/kindaware\nsource $KINDAWARE/.venv/bin/activate\n"
SERVE = "kindaware serve models\n"


def read_blocks(readme):
    """(heading, commands) of every block of commands, in order."""
    text = readme.read_text()
    blocks = []
    for match in COMMANDS.finditer(text):
        heading = HEADING.findall(re.sub(r"^```.*?^```$", "", text[: match.start()], flags=re.M | re.S))[-1]
        blocks.append((heading, match[1]))
    return blocks


@pytest.fixture
def run_commands(examples, tmp_path):
    def run(commands):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = os.environ | {"KINDAWARE": str(examples.parent), "PATH": path}
        return subprocess.run(
            ["bash", "-euc", commands],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def with_url(commands, server):
    """The same commands for a server on another port; those that need the internet are left out."""
    lines = [line for line in commands.splitlines() if not line.endswith("client.py")]
    return "\n".join(f"{line} --url {server.http_url}" if "client.py" in line else line for line in lines)


def run_well(run_commands, commands):
    result = run_commands(commands)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.server
def test_readme_of_resnet50_works_as_written(examples, run_commands, tmp_path):
    blocks = read_blocks(examples / "resnet50" / "README.md")
    assert blocks[0][1] == PREAMBLE
    headings = [heading for heading, _ in blocks[1:]]
    first_words = [heading.split()[0] for heading in headings]
    assert first_words == ["1.", "2.", "3.", "3.", "4.", "5.", "Without", "Without", "With", "With"]
    commands = [block for _, block in blocks[1:]]
    make, serve, send, send_own, look, move, file, random, *containers = commands
    assert all("not run here" in heading for heading in headings[-len(containers) :])
    config = tmp_path / "models" / "resnet50" / "config.pbtxt"

    run_well(run_commands, make)
    assert config.read_text() == (examples / "resnet50/models/resnet50/config.pbtxt").read_text()
    run_well(run_commands, random)
    assert 'string_value: "random"' in config.read_text()
    assert serve == SERVE
    with TritonServer(tmp_path / "models", args=["--disable-auto-complete-config"]) as server:
        assert send == "python $KINDAWARE/examples/resnet50/client.py\n"
        output = run_well(run_commands, with_url(send_own, server))
        assert output.endswith("\nPASS: ResNet50 instance kind\n")
        assert "Results is class: PHOTOCOPIER\n" in output  # as the README says of random weights
        assert '"kind": "KIND_CPU"' in run_well(run_commands, with_url(look, server))
    sed, again = move.splitlines(keepends=True)
    assert again == SERVE
    run_well(run_commands, sed)
    assert re.search(r"^ +kind: KIND_GPU$", config.read_text(), re.MULTILINE)
    assert "KIND_CPU" not in config.read_text()
    config.write_text(config.read_text().replace('"random"', '"IMAGENET1K_V2"'))
    run_well(run_commands, file)
    assert f'string_value: "{tmp_path}/resnet50-11ad3fa6.pth"' in config.read_text()


@pytest.mark.server
def test_readme_of_efficientnet_works_as_written(examples, run_commands, tmp_path):
    readme = examples / "efficientnet_lite0" / "README.md"
    (_, make), (_, send) = read_blocks(readme)
    assert make.startswith(PREAMBLE)
    assert make.endswith(SERVE)
    run_well(run_commands, make.removeprefix(PREAMBLE).removesuffix(SERVE))
    with TritonServer(tmp_path / "models", args=["--disable-auto-complete-config"]) as server:
        output = run_well(run_commands, with_url(send, server))
    shown = readme.read_text().partition("```text\n")[2].partition("```")[0]
    numbers = re.compile(r"[\d.]+%")
    assert numbers.sub("%", output) == numbers.sub("%", shown)
    percents = [[float(n[:-1]) for n in numbers.findall(text)] for text in (output, shown)]
    assert percents[0] == pytest.approx(percents[1], abs=0.05)  # another processor may round otherwise


@pytest.mark.parametrize("name", [readme.parent.name for readme in sorted(EXAMPLES.glob("*/README.md"))])
def test_readme_links_lead_somewhere(examples, name):
    readme = examples / name / "README.md"
    anchors = {
        re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in HEADING.findall(readme.read_text())
    }
    links = re.findall(r"\]\((.*?)\)", readme.read_text())
    assert links
    for link in links:
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        assert (readme.parent / file).is_file() if file else anchor in anchors, link


def test_readme_of_resnet50_explains_every_option(examples, resnet50, capsys):
    import imagenet_client

    with pytest.raises(SystemExit):
        imagenet_client.parse_args(resnet50, ["--help"])
    options = set(re.findall(r"--\w+", capsys.readouterr().out)) - {"--help"}
    table = {
        o
        for line in (examples / "resnet50/README.md").read_text().splitlines()
        if line.startswith("|")
        for o in re.findall(r"--[a-z]\w+", line.split("|")[1])
    }
    assert table == options
