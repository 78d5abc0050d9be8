"""A runtime in host memory that does queued copies as late as it may, and notes who broke the rules."""

import contextlib

import torch


def poison(tensor):
    """Fill memory with what nobody would take for an answer: all bits set, a NaN for floats."""
    if tensor.numel():
        tensor.view(-1).view(torch.uint8).fill_(0xFF)


class RecordingRuntime:
    """Stands for a GPU with one stream: `copy` only queues, the target is poisoned until it is done.

    Attributes:
        log: the calls in order.
        violations: copies whose source was changed between queueing and carrying out.
    """

    is_host = False

    def __init__(self):
        self.device = torch.device("cpu")
        self.log = []
        self.violations = []
        self._queue = []

    def activate(self):
        self.log.append("activate")

    def scope(self):
        return contextlib.nullcontext()

    def new_pinned(self, num_bytes):
        self.log.append(("new_pinned", num_bytes))
        return torch.empty(num_bytes, dtype=torch.uint8)

    def copy(self, target, source):
        self.log.append("copy")
        poison(target)
        self._queue.append((target, source, source.clone()))

    def wait(self):
        self.log.append("wait")
        self.run_queue()

    def wait_for_host_memory(self):
        """Nothing that a hook does is queued here."""

    def synchronize(self, device):
        self.log.append(("synchronize", device))
        self.run_queue()

    def release_memory(self):
        self.log.append("release_memory")

    def forbid_waits(self):
        return contextlib.nullcontext()

    def capture(self, work):
        raise NotImplementedError("graphs are tested on simulated GPUs")

    def is_fault(self, error):
        return False

    def run_queue(self):
        """Carry out what is queued, as the device does before a kernel that was queued later."""
        for target, source, as_queued in self._queue:
            if not torch.equal(source, as_queued):
                self.violations.append((source.clone(), as_queued))
            target.copy_(source)
        self._queue.clear()

    @property
    def num_pending(self):
        return len(self._queue)

    def count(self, name):
        return sum(entry == name or entry[0] == name for entry in self.log)
