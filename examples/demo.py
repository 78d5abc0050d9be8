"""Show a cat to both image classifiers on a real Triton server, and check its numbers: `make demo`."""

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imagenet_client as imagenet
import numpy as np
import torch
from PIL import Image
from skimage import data
from torchvision.models import ResNet50_Weights

from kindaware import KindAwareError
from kindaware.testing import TritonServer

EXAMPLES = Path(__file__).resolve().parent
NAMES = ("resnet50", "efficientnet_lite0")
CATS = (281, 282, 285)  # tabby, tiger cat, Egyptian cat
PRETRAINED = ResNet50_Weights.IMAGENET1K_V2
PROBE = "import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5).read(1)"
PROBE_SECONDS = 10  # for all of it: looking a name up knows no timeout of its own
TOLERANCE = 1e-5  # of the largest score: ten times what another order of FP32 sums would do


class DemoError(Exception):
    """The demo ran, and showed something wrong."""


def import_file(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fetch_weights(url=PRETRAINED.url):
    """Have ResNet50's weights in torch's cache; returns why that can't be, or None."""
    if (Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name).is_file():
        return None
    try:
        probe = [sys.executable, "-c", PROBE, url]
        subprocess.run(probe, check=True, capture_output=True, text=True, timeout=PROBE_SECONDS)
        print(f"Downloading ResNet50's weights, {PRETRAINED.meta['_file_size']:.0f} MB, once.", flush=True)
        socket.setdefaulttimeout(30)
        torch.hub.load_state_dict_from_url(url, check_hash=True, weights_only=True)
    except subprocess.CalledProcessError as error:
        return error.stderr.strip().splitlines()[-1]
    except Exception as error:
        return imagenet.describe(error)
    finally:
        socket.setdefaulttimeout(None)
    return None


def copy_with_random_weights(folder):
    """A copy of ResNet50's repository that needs no weights."""
    repository = Path(shutil.copytree(EXAMPLES / "resnet50" / "models", Path(folder) / "models"))
    config = repository / "resnet50" / "config.pbtxt"
    text = config.read_text()
    changed = text.replace(f'string_value: "{PRETRAINED.name}"', 'string_value: "random"')
    if changed == text:
        raise DemoError(f"{config} names no weights {PRETRAINED.name}")
    config.write_text(changed)
    return repository


def run_locally(config, prepared):
    """The scores of the example's own model class without any server. Shape [1000], FP32."""
    name = config["name"]
    path = EXAMPLES / name / "models" / name / "1" / "model.py"
    model = import_file(path, f"{name}_model").TritonPythonModel()
    args = {
        "model_config": json.dumps(config),
        "model_instance_kind": "CPU",
        "model_instance_name": f"{name}_0_0",
        "model_instance_device_id": "0",
        "model_repository": str(path.parents[1]),
        "model_version": "1",
        "model_name": name,
    }
    model.initialize(args)
    with torch.inference_mode():
        return model.forward(torch.from_numpy(prepared)).numpy()[0]


def compare(scores, local_scores):
    """How far the server's scores are from those of the same model run locally, in words.

    Raises:
        DemoError: further than rounding explains.
    """
    difference = float(np.abs(scores - local_scores).max())
    if not difference <= TOLERANCE * float(np.abs(local_scores).max()):
        raise DemoError(
            f"the server's scores differ by {difference:.3g} from those of the same model run locally"
        )
    how = "equal to the bit" if scores.tobytes() == local_scores.tobytes() else "equal but for rounding"
    return f"{how} (max abs difference {difference:.3g} over {scores.size} scores)"


def show(server, name, cat, labels):
    """Send the cat to one model, print what it says and where it runs, and compare; returns its scores."""
    example = import_file(EXAMPLES / name / "client.py", f"{name}_client").EXAMPLE
    prepared = imagenet.prepare(cat, example.preparation)
    with imagenet.connect(server.http_url) as client:
        config = client.get_model_config(name)
        scores = imagenet.classify(client, name, prepared)

    groups = ", ".join(f"{group['kind']} x {group['count']}" for group in config["instance_group"])
    print(f"\n{example.title}: instance_group {groups}")
    for instance in server.instances():
        if instance.name.startswith(f"{name}_"):
            print(f"  instance {instance.name} runs on {instance.device}, {instance.threads} threads")
    for class_id, probability in imagenet.best(scores, 5):
        print(f"  {probability:7.2%}  {labels[class_id]}")
    result = compare(scores, run_locally(config, prepared))
    print(f"  compared with the same model run without a server: {result}")
    return scores


def check_cat(name, scores, labels):
    """Raises DemoError unless the best class is a cat."""
    best = int(scores.argmax())
    if best not in CATS:
        raise DemoError(f"{name} takes the cat for {labels[best]}")


def run():
    cat = Image.fromarray(data.chelsea())
    labels = imagenet.read_labels(EXAMPLES / "resnet50" / "resnet50_labels.txt")
    repositories = [EXAMPLES / name / "models" for name in NAMES]
    why_not = fetch_weights()
    with tempfile.TemporaryDirectory(prefix="kindaware-demo-") as folder:
        if why_not is not None:
            print(f"ResNet50's weights can't be downloaded ({why_not}): it runs on seeded random ones.")
            repositories[0] = copy_with_random_weights(folder)
        print("Starting a Triton server on both models ...", flush=True)
        start = time.monotonic()
        # Their configurations are complete: no process has to complete them, which takes as long again.
        with TritonServer(repositories, args=["--disable-auto-complete-config"]) as server:
            seconds = time.monotonic() - start
            print(f"Triton {server.server_version} is ready at {server.http_url} after {seconds:.1f} s.")
            scores = {name: show(server, name, cat, labels) for name in NAMES}
    if why_not is not None:
        print("\nResNet50's names above mean nothing, for its weights are random; its numbers are right.")
        del scores["resnet50"]
    for name, values in scores.items():
        check_cat(name, values, labels)


def main():
    try:
        run()
    except (DemoError, KindAwareError, imagenet.ClientError) as error:
        print(f"\nFAIL: {error}", file=sys.stderr)
        return 1
    print("\nPASS: ResNet50 instance kind")
    return 0


if __name__ == "__main__":
    sys.exit(main())
