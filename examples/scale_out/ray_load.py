"""The clients of the rehearsal on Ray: a constant rate, every answer checked against its own request."""

import asyncio
import json
import statistics
import threading
import time
from dataclasses import dataclass, field

import aiohttp

MAX_TRIES, PAUSE_SECONDS, TIMEOUT_SECONDS = 20, 0.25, 120
EVENT, DONE = "event", "done"


@dataclass
class Sent:
    """One request.

    Attributes:
        at: seconds from the begin of the load until the first try.
        seconds: from the first try to the answer.
        factor: by which the model has multiplied; None without an answer.
        failures: when each try failed, and what its client read.
    """

    at: float
    seconds: float = 0.0
    factor: float | None = None
    failures: list = field(default_factory=list)


class Load:
    """Sends requests at a constant rate from a thread, however long the answers take; a context manager.

    Args:
        url: of the model.
        per_second: the rate.
    """

    def __init__(self, url, per_second):
        self._url = url
        self._per_second = per_second
        self._ends = threading.Event()
        self._num_at_once = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.sent = []
        self.marks = {}

    def __enter__(self):
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._ends.set()
        self._thread.join()

    def now(self):
        """Return the seconds since the load began."""
        return time.monotonic() - self._began

    def mark(self, name):
        """Remember when something happened."""
        self.marks[name] = self.now()

    def send_at_once(self, number):
        """Send some requests more, all at the same moment."""
        self._num_at_once = number

    def count_open(self):
        """Return how many requests are in flight."""
        return sum(not one.seconds for one in self.sent)

    def answered(self):
        """Return the requests that were answered, at once or in a further try."""
        return [one for one in self.sent if one.factor is not None]

    async def _run(self):
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            tasks, num_due = [], 0
            while not self._ends.is_set():
                more, self._num_at_once = self._num_at_once, 0
                for _ in range(1 + more):
                    tasks.append(asyncio.create_task(self._ask(session, len(tasks) + 1.0)))
                num_due += 1
                await asyncio.sleep(max(0.0, num_due / self._per_second - self.now()))
            await asyncio.gather(*tasks)

    async def _ask(self, session, number):
        """Send a request with a number of its own, again where it fails in a way that may pass."""
        sent = Sent(self.now())
        self.sent.append(sent)
        tensor = {"name": "X", "datatype": "FP64", "shape": [1, 1], "data": [number]}
        for _ in range(MAX_TRIES):
            try:
                async with session.post(self._url, json={"inputs": [tensor]}) as answer:
                    text = await answer.text()
                    if answer.status == 200:
                        sent.factor = json.loads(text)["outputs"][0]["data"][0] / number
                        break
                    sent.failures.append((self.now(), f"{answer.status} {text}"[:200]))
                    if answer.status < 500:
                        break
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                sent.failures.append((self.now(), f"{type(error).__name__} {error}"[:200]))
            await asyncio.sleep(PAUSE_SECONDS)
        sent.seconds = self.now() - sent.at


def summarize(load, factors):
    """Return the figures of a phase, whose answers must be of these factors.

    Latencies are those of requests that were in flight between the event and its end, and of the others.
    """
    answered = load.answered()
    event, done = load.marks[EVENT], load.marks[DONE]
    during, otherwise = [], []
    for one in answered:
        was_open = one.at < done and one.at + one.seconds >= event
        (during if was_open else otherwise).append(one.seconds)
    return {
        "requests": len(load.sent),
        "lost": len(load.sent) - len(answered),
        "wrong": sum(one.factor not in factors for one in answered),
        "tried_again": sum(bool(one.failures) for one in answered),
        "failed_tries": count_texts(load.sent),
        "seconds_from_event_to_done": round(done - event, 2),
        "milliseconds": {"during": describe(during), "otherwise": describe(otherwise)},
        "marks": {name: round(at, 2) for name, at in load.marks.items()},
    }


def count_texts(sent):
    """Return how often each text of a failed try was read."""
    texts = [text for one in sent for _, text in one.failures]
    return {text: texts.count(text) for text in dict.fromkeys(texts)}


def describe(seconds):
    """Return count, median, 99th percentile and maximum, in milliseconds."""
    if len(seconds) < 2:
        return {"requests": len(seconds)}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    found = {"p50": cuts[49], "p99": cuts[98], "max": max(seconds)}
    return {"requests": len(seconds), **{name: round(value * 1e3, 1) for name, value in found.items()}}
