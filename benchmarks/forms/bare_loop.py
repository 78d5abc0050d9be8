"""The loop of `step` without a server, in a process of its own: what stepping texts costs by itself."""

import json
import sys
import time
from pathlib import Path

import torch

from kindaware.testing import instance_args


def main(model: str, num_texts: str, wanted: str) -> None:
    """Step so many texts of a model's directory to their ends, and print when each step was done."""
    folder = Path(model)
    sys.path.insert(0, str(folder / "1"))
    from model import TritonPythonModel
    from text import make_prompt

    instance = TritonPythonModel()  # with the threads and the memory that it has on a server
    instance.initialize(instance_args(config=folder / "config.pbtxt", repository=folder))
    with torch.inference_mode():
        write(instance.writer, make_prompt(), int(num_texts), 3)
        times = write(instance.writer, make_prompt(), int(num_texts), int(wanted))
    instance.finalize()
    print(json.dumps(times))


def write(writer, prompt, num_texts, wanted):
    """Write texts from the first token to the last; returns the seconds until each step was done."""
    started, times = time.perf_counter(), []
    texts = [writer.begin(prompt, wanted) for _ in range(num_texts)]
    for _ in range(wanted):
        texts = writer.step(texts)
        for text in texts:
            text.token.tolist()  # as one would who sends it
        times.append(time.perf_counter() - started)
    for text in texts:
        writer.end(text)
    return times


if __name__ == "__main__":
    main(*sys.argv[1:])
