"""A server in this process, as far as a guard sees it: its stubs are children that do nothing."""

import subprocess
import threading

from kindaware._server.endpoint import ModelStatus
from kindaware._server.failure import ServerError


class FakeServer:
    """Models with stubs that can be killed; the methods are those of an `Endpoint`.

    Args:
        folder: for the stubs' files.
        counts: instances of each model.
    """

    def __init__(self, folder, **counts):
        self.folder = folder
        self.counts = counts
        self.states = {}
        self.stubs = {}
        self.calls = []
        self.failures = []
        self.text = ""
        self.started = []
        for model in counts:
            self.load(model)

    def load(self, model):
        self.calls.append(("load", model))
        if self.failures:
            raise self.failures.pop(0)
        self.stubs[model] = [self.start_stub(model, number) for number in range(self.counts[model])]
        self.states[model] = "READY"

    def start_stub(self, model, number):
        file = self.folder / model / "1" / "model.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():  # another may be reading it
            file.write_text("read line\n")
        args = ["/x/triton_python_backend_stub", str(file), *["region", "1", "1", "9", "/x", "handle"]]
        args += [f"{model}_0_{number}", "DEFAULT"]
        self.started.append(subprocess.Popen(args, executable="/bin/sh", stdin=subprocess.PIPE))
        return self.started[-1]

    def begin_unload(self, model, timeout_seconds):
        self.calls.append(("unload", model))
        self.states[model] = "UNAVAILABLE"

    def index(self, timeout_seconds):
        return [
            ModelStatus(model, "1", state, "" if state == "READY" else "unloaded")
            for model, state in self.states.items()
        ]

    def config(self, model, timeout_seconds):
        group = {"name": f"{model}_0", "kind": "KIND_CPU", "count": self.counts[model], "gpus": []}
        return {"backend": "python", "instance_group": [group]}

    def metrics(self):
        if self.text is None:
            raise ServerError("no metrics")
        return self.text

    def close(self):
        for stub in self.started:
            stub.kill()
            stub.wait()
            stub.stdin.close()


class Recorder:
    """Keeps what happens."""

    def __init__(self):
        self.events = []
        self.changed = threading.Condition()

    def wait_for(self, event, model):
        """Return the rest of the first such event; waits for it."""

        def find():
            return [rest for one, name, *rest in self.events if (one, name) == (event, model)]

        with self.changed:
            assert self.changed.wait_for(find, 20), self.events
            return find()[0]

    def _note(self, *event):
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def died(self, model, reason):
        self._note("died", model, reason)

    def healed(self, model, seconds):
        self._note("healed", model, seconds)

    def not_healed(self, model, reason):
        self._note("not healed", model, reason)

    def gave_up(self, model, reason):
        self._note("gave up", model, reason)

    def blind(self, reason):
        self._note("blind", "", reason)
