"""The benchmark of the GPU path on a simulated GPU: it runs, and judges right. Nothing is measured."""

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
        "identity, 3 requests: medians",
        "identity, 1 requests: medians",
        "staging, 32 requests",
        "identity, 3 requests, processes on one device",
    ):
        assert heading in said
    assert "  kindaware, bf16, graphs " in said
    missing = [line for line in said.splitlines() if line.startswith("NOT MEASURED")]
    assert all("compiled" in line and "torch.compile" in line for line in missing), missing
    assert "its figures mean nothing" in said


def spread(median, number=12):
    return {"median": median, "lower": median, "upper": median, "number": number}


@pytest.mark.parametrize(
    ("ratio", "number", "verdict"),
    [(0.91, 12, "met"), (0.89, 12, "missed"), (0.91, 4, "met in only 4 rounds")],
)
def test_judge_forwards_need_the_least(ratio, number, verdict):
    from benchmarks.gpu.forwards import FLOOR_SHARE
    from benchmarks.report.gpu import judge

    size = {"ratios": {FLOOR_SHARE: spread(ratio, number)}}
    judged = judge({"forwards": {"resnet50": {"sizes": {"32": size}}}})
    assert [one["verdict"] for one in judged if one["ratio"] == FLOOR_SHARE] == [verdict]
    assert {one["verdict"] for one in judged if one["ratio"] != FLOOR_SHARE} == {"not measured"}


def test_judge_staging_needs_at_most(capsys):
    from benchmarks.gpu.staging import IN_RATIO, OUT_RATIO
    from benchmarks.report.gpu import judge

    size = {"ratios": {IN_RATIO: spread(1.16), OUT_RATIO: spread(1.14)}}
    judged = judge({"staging": {"sizes": {"8 MiB": size}, "not_measured": {}}})
    verdicts = {one["ratio"]: one["verdict"] for one in judged if one["subject"] == "staging, 8 MiB"}
    assert verdicts == {IN_RATIO: "missed", OUT_RATIO: "met"}


def test_answers_of_other_requests_stop_the_benchmark():
    from benchmarks.gpu.forwards import _check
    from benchmarks.gpu.requests import Batch
    from benchmarks.networks import NETWORKS

    network = NETWORKS["mlp"]
    batch = Batch.of(network, 5, seed=0)

    class Turned:
        def answers(self, batch):
            import numpy as np
            import torch

            with torch.inference_mode():
                return network.build()(torch.from_numpy(np.concatenate(batch.arrays[::-1]))).numpy()

    with pytest.raises(AssertionError, match="wrong: "):
        _check("wrong", network, Turned(), batch)
