"""Whether `kindaware size` predicts what a real server then does, at several loads.

    python examples/scale_out/size_check.py                # about two minutes
    python examples/scale_out/size_check.py --quick        # half a minute, for a first look

Two models are served by a real tritonserver: fully connected layers on one core, and one that sleeps, as
while a device computes. Their batches are measured, the latencies at 30, 60 and 90 % of the rate that a
replica can take are predicted, and then these loads are sent. The exit code is 1 if a p99 is off by more than
a quarter.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from kindaware.testing import TritonServer

MODELS = {
    # Fully connected layers, on one core.
    "layers": """\
import torch

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        torch.manual_seed(0)
        layers = [torch.nn.Linear(4096, 4096) for _ in range(3)]
        return torch.nn.Sequential(torch.nn.Linear(64, 4096), *layers, torch.nn.Linear(4096, 64))

    def forward(self, X):
        return self.model(X)
""",
    # A device that computes beside the processor takes 12 ms, and 2 ms for each row.
    "device": """\
import time

from kindaware import KindAwareModel


class TritonPythonModel(KindAwareModel):
    def load(self):
        return None

    def forward(self, X):
        time.sleep(0.012 + 0.002 * len(X))
        return X
""",
}

CONFIG = """\
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 64 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 64 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
dynamic_batching { }
parameters { key: "kindaware.num_threads" value { string_value: "1" } }
"""

SHARES = (0.3, 0.6, 0.9)


def size(url, *args):
    command = [sys.executable, "-m", "kindaware.cli", "size", url, *args, "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["plans"]


def check(model, code, limit, short, long):
    """Return a row for each load."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / model
        (folder / "1").mkdir(parents=True)
        (folder / "1/model.py").write_text(code)
        (folder / "config.pbtxt").write_text(CONFIG)
        with TritonServer(name) as server:
            options = ["--p99-ms", limit, "--seconds", short]
            highest = size(server.grpc_url, "--rate", "1", *options)[0]["highest_rate"]
            rates = ",".join(f"{share * highest:.1f}" for share in SHARES)
            plans = size(server.grpc_url, "--rate", rates, *options, "--verify-seconds", long)
    return [describe(model, plan) for plan in plans]


def describe(model, plan):
    predicted, measured = plan["latency_ms"], plan["measured"]
    found = {key: measured["latency_ms"][key] for key in predicted}
    return {
        "model": model,
        "rate": plan["rate"],
        "requests": measured["num_requests"],
        "busy_share": plan["busy_share"],
        "client_share": measured["client_share"],
        "batch": {"predicted": plan["mean_batch"], "measured": measured["server"]["rows_per_batch"]},
        "predicted_ms": predicted,
        "measured_ms": found,
        "off_by": {key: predicted[key] / found[key] - 1 for key in predicted},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter measurements, which say less")
    parser.add_argument("--model", choices=MODELS, action="append", help="only this one")
    parser.add_argument("--p99-ms", default="200", help="the limit that the highest rate keeps")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    short, long = ("0.5", "3") if options.quick else ("1", "15")
    chosen = options.model or MODELS
    rows = [row for one in chosen for row in check(one, MODELS[one], options.p99_ms, short, long)]
    print("model    rate/s requests  busy   batch, p50 and p99 in ms: predicted and measured; p99 off by")
    for row in rows:
        batch, off = row["batch"], row["off_by"]["p99"]
        p50, p99 = ([row[key][level] for key in ("predicted_ms", "measured_ms")] for level in ("p50", "p99"))
        pairs = (list(batch.values()), p50, p99)
        texts = [f"{predicted:6.1f} {measured:6.1f}" for predicted, measured in pairs]
        load = f"{row['model']:6} {row['rate']:8.1f} {row['requests']:8d} {row['busy_share']:5.0%}"
        print(f"{load}   {'   '.join(texts)}   {off:+.0%}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(any(abs(row["off_by"]["p99"]) > 0.25 for row in rows))


if __name__ == "__main__":
    main()
