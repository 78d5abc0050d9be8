"""Send sound to the server chunk by chunk, as a telephone would, and draw where it hears speech."""

import argparse
import itertools
import secrets
import sys
from pathlib import Path

import numpy as np
import recording
from matplotlib.figure import Figure

from kindaware.client import ModelClient, ModelClientError

CHUNK = 512  # samples; at 16 kHz 32 ms


def listen(model, sound):
    """Probability of speech in each chunk. Shape [chunks]."""
    chunks = np.pad(sound, (0, -len(sound) % CHUNK)).reshape(-1, CHUNK)
    call, last = secrets.randbits(63), len(chunks) - 1
    answers = [
        model.infer(SOUND=chunk, sequence_id=call, sequence_start=n == 0, sequence_end=n == last)
        for n, chunk in enumerate(chunks)
    ]
    return np.array([answer["SPEECH"].item() for answer in answers])


def stretches(speech):
    """(start, end) in seconds of the stretches with probabilities above one half."""
    chunks = enumerate(speech > 0.5)
    groups = [list(group) for heard, group in itertools.groupby(chunks, key=lambda one: one[1]) if heard]
    seconds = CHUNK / recording.RATE
    return [(group[0][0] * seconds, (group[-1][0] + 1) * seconds) for group in groups]


def draw(sound, speech, path):
    figure = Figure(figsize=(9, 4), layout="constrained")
    wave_axes, speech_axes = figure.subplots(2, 1, sharex=True)
    wave_axes.plot(np.arange(len(sound)) / recording.RATE, sound, linewidth=0.4, color="tab:gray")
    wave_axes.set_ylabel("sound")
    ends = (np.arange(len(speech)) + 1) * CHUNK / recording.RATE
    speech_axes.step(ends, speech, where="pre", color="tab:blue")
    speech_axes.set(ylabel="probability of speech", xlabel="seconds", ylim=(0, 1.05))
    for axes, (start, end) in itertools.product((wave_axes, speech_axes), stretches(speech)):
        axes.axvspan(start, end, color="tab:blue", alpha=0.15, linewidth=0)
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wav", nargs="?", type=Path, help="a recording; without one, espeak-ng speaks")
    parser.add_argument("--plot", type=Path, default="speech.png", help="default: %(default)s")
    parser.add_argument("--url", default="localhost:8001", help="gRPC address, default: %(default)s")
    args = parser.parse_args()
    try:
        sound = recording.read(args.wav) if args.wav else recording.make()
        with ModelClient(args.url, "silero_vad") as model:
            speech = listen(model, sound)
        draw(sound, speech, args.plot)
    except (ModelClientError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for start, end in stretches(speech):
        print(f"speech from {start:5.2f} s to {end:5.2f} s")
    print(f"drawn in {args.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
