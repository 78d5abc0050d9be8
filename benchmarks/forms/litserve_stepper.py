"""Texts behind LitServe's continuous batching, with the events that Triton's generate endpoint sends."""

import json
import sys

import torch
from litserve import LitAPI, LitServer
from litserve.loops.continuous_batching_loop import ContinuousBatchingLoop, Output
from litserve.utils import LitAPIStatus

from benchmarks.text import MAX_STREAMS, PROMPT, TOKEN, WANTED, Writer


class TextApi(LitAPI):
    """What LitServe's loop asks for; the texts are kept here, by request."""

    def setup(self, device: str) -> None:
        """Make the network in the worker."""
        self.writer = Writer(self.size)
        self.texts = {}

    def add_request(self, uid: str, request: dict) -> None:
        """Read a prompt."""
        with torch.inference_mode():
            self.texts[uid] = self.writer.begin(
                torch.tensor(request[PROMPT], dtype=torch.int32), request[WANTED]
            )

    def has_capacity(self) -> bool:
        """Whether another text may begin."""
        return len(self.texts) < MAX_STREAMS

    def has_active_requests(self) -> bool:
        """Whether there is anything to step."""
        return bool(self.texts)

    def step(self, prev_outputs: list | None) -> list:
        """Write a token of each text."""
        open_texts = dict(self.texts)
        with torch.inference_mode():
            written = self.writer.step(list(open_texts.values()))
        outputs = []
        for uid, text in zip(open_texts, written, strict=True):
            outputs.append(Output(uid, text.token.item(), LitAPIStatus.OK))
            if text.left:
                self.texts[uid] = text
            else:
                self.writer.end(self.texts.pop(uid))
                outputs.append(Output(uid, None, LitAPIStatus.FINISH_STREAMING))
        return outputs

    def encode_response(self, output: int | None) -> str:
        """Make an event of a token."""
        return f"data: {json.dumps({TOKEN: output})}\n\n"


def main(size: str, http_port: str) -> None:
    """Serve texts at `/predict`, until the process is ended."""
    api = TextApi(max_batch_size=MAX_STREAMS, stream=True, loop=ContinuousBatchingLoop())
    api.size = size
    server = LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(http_port), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
