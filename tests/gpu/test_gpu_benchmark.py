"""The benchmark of the GPU path on a simulated GPU: it runs, and judges right. Nothing is measured."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}/src")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        del sys.modules[name]


def results():
    return {path: path.stat().st_mtime for path in (ROOT / "benchmarks" / "results").glob("*gpu*")}


def test_benchmark_trial_runs_every_part_and_writes_nothing(capsys):
    from benchmarks.gpu.__main__ import main

    before = results()
    assert main(["--try"]) == 0
    assert results() == before
    said = capsys.readouterr().out
    for heading in (
        "`identity, 3 requests`",
        "`identity, 1 requests`",
        "`staging, 4 MiB, 1 request`",
        "1 process ",
        "2 processes / bare forward, bf16 ",
    ):
        assert heading in said
    assert "\nkindaware, bf16, graphs " in said
    missing = [line for line in said.splitlines() if line.startswith("Not measured")]
    assert all("compiled" in line and "torch.compile" in line for line in missing), missing
    assert "its figures mean nothing" in said


def test_benchmark_imports_nothing_of_the_one_on_servers():
    script = "import sys, benchmarks.gpu.__main__; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    )
    imported = set(done.stdout.split())
    assert {"torch", "numpy", "kindaware"} <= imported
    assert not {"google", "grpc", "matplotlib", "PIL", "torchvision", "tritonclient"} & imported


def verdicts(part, scenario, ratios):
    """By ratio; `ratios` has medians of 12 rounds, or Spreads."""
    from benchmarks.bars import GPU_BARS
    from benchmarks.report.tables import judge

    parts = {part: {"scenarios": [{"name": scenario, "ratios": ratios}]}}
    rows = [line.split(" | ") for line in judge(parts, GPU_BARS) if line.startswith(f"| {scenario} |")]
    return {row[1]: row[-1].removesuffix(" |") for row in rows}


def spread(median, number=12):
    return {"median": median, "lower": median, "upper": median, "number": number}


@pytest.mark.parametrize(
    ("ratio", "number", "verdict"),
    [(0.91, 12, "met"), (0.89, 12, "missed"), (0.91, 4, "met in only 4 rounds")],
)
def test_judge_forwards_need_the_least(ratio, number, verdict):
    from benchmarks.bars import FLOOR_SHARE, PROCESSES_SHARE

    found = verdicts("forwards", "resnet50, 32 requests", {FLOOR_SHARE: spread(ratio, number)})
    assert found == {FLOOR_SHARE: verdict, PROCESSES_SHARE: "not measured"}


def test_judge_staging_needs_at_most():
    from benchmarks.bars import STAGING_IN, STAGING_OUT

    found = verdicts("staging", "staging, 8 MiB", {STAGING_IN: spread(1.16), STAGING_OUT: spread(1.14)})
    assert found == {STAGING_IN: "missed", STAGING_OUT: "met"}


def test_bars_are_about_what_is_measured():
    from benchmarks.bars import GPU_BARS
    from benchmarks.gpu.plan import FULL
    from benchmarks.gpu.staging import NUM_REQUESTS, name_of

    subjects = {f"{network}, {size} requests" for network in FULL.networks for size in FULL.sizes}
    subjects |= {name_of(size, NUM_REQUESTS) for size in FULL.staging_sizes}
    assert {bar.subject for bar in GPU_BARS} <= subjects


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda answers: answers[::-1], "answers of other requests"),
        (lambda answers: answers * 1.02, "within"),
    ],
)
def test_answers_that_are_wrong_stop_the_benchmark(wrong, text):
    import numpy as np
    import torch
    from benchmarks.gpu.forwards import check_answers
    from benchmarks.gpu.stand_in import Batch

    rows = np.linspace([1000], [1004], 5)
    batch = Batch(list(rows[:, None]), [])
    check_answers("right", rows + 0.1, torch.nn.Identity(), batch)
    with pytest.raises(AssertionError, match=f"wrong: .*{text}"):
        check_answers("wrong", wrong(rows), torch.nn.Identity(), batch)


def test_network_that_cannot_be_made_is_named_and_the_next_one_is_measured(monkeypatch, capsys):
    from dataclasses import replace

    from benchmarks.gpu import __main__ as command
    from benchmarks.networks import NETWORKS, Network

    def make():
        raise ModuleNotFoundError("No module named 'torchvision'")

    monkeypatch.setitem(NETWORKS, "missing", Network(make, (16,), "FP32", (16,)))
    monkeypatch.setattr(command, "TRY", replace(command.TRY, networks=("missing", "identity"), sizes=(2,)))
    assert command.main(["--try", "forwards"]) == 0
    said = capsys.readouterr().out
    assert "Not measured: missing: ModuleNotFoundError: No module named 'torchvision'" in said
    assert "`identity, 2 requests`" in said
