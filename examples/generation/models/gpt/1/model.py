import heapq
from typing import NamedTuple

import torch
import weights
from vocabulary import END

from kindaware import Done, KindAwareModel, Next, RequestError


class Text(NamedTuple):
    """A text that is being written. A step makes the next one out of it, and leaves this one as it is."""

    slot: int  # of the network's cache
    length: int  # tokens that are in there
    token: int  # the one that follows
    left: int  # how many are still wanted
    temperature: float


class TritonPythonModel(KindAwareModel):
    max_streams = 32

    def load(self):
        slots = self.settings.max_streams
        self.free = list(range(slots))  # a heap: the lowest first, so that slots in use lie side by side
        load = weights.make_random if self.parameters["weights"] == "random" else weights.load
        network, self.vocabulary = load(slots)
        return network

    def begin(self, PROMPT, MAX_TOKENS=100, TEMPERATURE=0.5):
        """Read a prompt, and choose the first token."""
        left = int(MAX_TOKENS)
        if left < 1:
            raise RequestError(f"MAX_TOKENS: expected 1 or more, got {left}; ask for a token at least")
        half = self.model.context // 2
        prompt = [END, *self.vocabulary.encode(PROMPT[0])][-half:]
        text = Text(self.free[0], 0, END, min(left, half), float(TEMPERATURE))
        (answer,) = self.write([text], [prompt])
        if isinstance(answer, Next):
            heapq.heappop(self.free)  # the slot is taken until `end`
        return answer

    def step(self, texts):
        """Read the last token of every text, and choose the next one."""
        by_slot = sorted(texts)
        answers = self.write(by_slot, [[text.token] for text in by_slot])
        answer_of = dict(zip(by_slot, answers, strict=True))
        return [answer_of[text] for text in texts]

    def end(self, text):
        heapq.heappush(self.free, text.slot)

    def write(self, texts, tokens):
        """Add tokens to texts, as many to each, and answer with the one that follows."""
        slots, lengths = [text.slot for text in texts], [text.length for text in texts]
        scores = self.model(torch.tensor(tokens, device=self.device), slots, lengths)[:, -1].float()
        scores[:, self.vocabulary.parts] = -torch.inf  # a client couldn't read what isn't whole
        temperatures = scores.new_tensor([[max(text.temperature, 1e-6)] for text in texts])
        chosen = (scores / temperatures).softmax(dim=1).multinomial(1).flatten().tolist()
        return [self.go_on(*one, len(tokens[0])) for one in zip(texts, chosen, strict=True)]

    def go_on(self, text, token, num_read):
        """Send a token, and keep it for the next step."""
        if token == END:
            return Done()
        piece = [self.vocabulary.decode(token)]
        if text.left == 1:
            return Done(piece)
        return Next(text._replace(length=text.length + num_read, token=token, left=text.left - 1), piece)
