"""Let the model write several texts at once, and show them side by side as they come."""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from rich.columns import Columns
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from kindaware.client import ModelClient, ModelClientError

PROMPTS = [
    'The "for" statement',
    "If an exception",
    "A class definition",
    'The "with" statement',
    "When a function",
    "A pattern",
    "An assignment",
    'The "import" statement',
]
WIDTH = 50


class Writing:
    """A text, and what there is of it so far."""

    def __init__(self, prompt):
        self.prompt, self.pieces = prompt, []

    def write(self, model, inputs):
        for outputs in model.stream(PROMPT=[self.prompt], **inputs):
            self.pieces.append(outputs["PIECE"][0])

    def __rich__(self):
        written = b"".join(self.pieces).decode(errors="replace")
        return Panel(Text.assemble((self.prompt, "bold"), written), width=WIDTH)


def write_all(url, writings, inputs):
    """Ask for all texts at once; each has a thread that waits for its pieces."""
    with ModelClient(url, "gpt") as model, ThreadPoolExecutor(len(writings)) as threads:
        for done in [threads.submit(one.write, model, inputs) for one in writings]:
            done.result()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("prompts", nargs="*", default=PROMPTS, metavar="PROMPT", help="how the texts begin, default: 8 texts")
    add("--max_tokens", type=int, default=50, help="of each text, default: %(default)s")
    add("--temperature", type=float, default=0.5, help="0 for the likeliest token, default: %(default)s")
    add("--url", default="localhost:8001", help="gRPC address, default: %(default)s")
    args = parser.parse_args()
    writings = [Writing(prompt) for prompt in args.prompts]
    inputs = {"MAX_TOKENS": [args.max_tokens], "TEMPERATURE": [args.temperature]}
    started = time.monotonic()
    try:
        with Live(Columns(writings), refresh_per_second=20):
            write_all(args.url, writings, inputs)
    except ModelClientError as error:
        print(error, file=sys.stderr)
        return 1
    seconds = time.monotonic() - started
    if not sys.stdout.isatty():
        print()  # which rich leaves out in a pipe
    print(f"{sum(len(one.pieces) for one in writings)} tokens in {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
