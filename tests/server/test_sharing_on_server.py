"""Instances that share weights on the real server: what their processes hold of their own."""

import re
from pathlib import Path

import pytest
import torch
from complete_models import serve_complete
from torch import nn

pytestmark = pytest.mark.server

SOURCE = """
from torch import nn

from kindaware import KindAwareModel


def make_network():
    return nn.Sequential(*[nn.Linear(WIDTH, WIDTH) for _ in range(4)])


class TritonPythonModel(KindAwareModel):
    def load(self):
        return self.load_weights(make_network, "../../weights_WIDTH.pt")

    def forward(self, X):
        return self.model(X).float()
"""
CONFIG = """\
name: "NAME"
backend: "python"
max_batch_size: 2
input [ { name: "X" data_type: TYPE_FP32 dims: [ WIDTH ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ WIDTH ] } ]
instance_group [ { kind: KIND_CPU count: COUNT } ]
parameters { key: "kindaware.precision" value { string_value: "PRECISION" } }
"""
WIDTH = 2048
MIB = 2**20


def write_model(repository, name, *, width, count, precision):
    values = {"NAME": name, "WIDTH": str(width), "COUNT": str(count), "PRECISION": precision}
    (repository / name / "1").mkdir(parents=True)
    for path, text in {"1/model.py": SOURCE, "config.pbtxt": CONFIG}.items():
        written = re.sub("NAME|WIDTH|COUNT|PRECISION", lambda found: values[found[0]], text)
        (repository / name / path).write_text(written)
    torch.manual_seed(0)
    state = nn.Sequential(*[nn.Linear(width, width) for _ in range(4)]).state_dict()
    torch.save(state, repository / f"weights_{width}.pt")


def stubs_of(name):
    """The processes of a model's instances."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
        except OSError:  # it has ended
            continue
        if "triton_python_backend_stub" in command and f"/{name}/" in command:
            found.append(process)
    return found


def pss_of_files(process, suffix):
    """What a process holds of mapped files, in MiB: each page divided by the number of its holders."""
    total, counts = 0, False
    for line in (process / "smaps").read_text().splitlines():
        fields = line.split()
        if "-" in fields[0]:
            counts = fields[-1].endswith(suffix)
        elif counts and fields[0] == "Pss:":
            total += int(fields[1])
    return total / 1024


def own_memory(process):
    """What a process holds that no file backs, in MiB."""
    fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def test_instances_share_the_weights_as_they_are_and_converted(tmp_path, monkeypatch):
    monkeypatch.setenv("KINDAWARE_CACHE", str(tmp_path / "cache"))
    precisions = {"as_they_are": ("32-true", 4), "converted": ("bf16-true", 2)}
    write_model(tmp_path / "models", "small", width=8, count=1, precision="32-true")
    for name, (precision, _) in precisions.items():
        write_model(tmp_path / "models", name, width=WIDTH, count=3, precision=precision)

    with serve_complete(tmp_path / "models"):
        (small,), large = stubs_of("small"), {name: stubs_of(name) for name in precisions}
        held = {name: [pss_of_files(one, ".pt") for one in stubs] for name, stubs in large.items()}
        own = {name: [own_memory(one) - own_memory(small) for one in stubs] for name, stubs in large.items()}

    for name, (_, size) in precisions.items():
        weights = 4 * WIDTH * WIDTH * size / MIB
        assert len(held[name]) == 3
        assert sum(held[name]) == pytest.approx(weights, rel=0.1)
        assert max(own[name]) < weights / 2
    cache = tmp_path / "cache"
    assert [len(list(cache.glob(f"weights/{name}-*.pt"))) for name in precisions] == [0, 1]
