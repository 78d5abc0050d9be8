"""Plain pytest in a folder, as users run it: in a fork of a process that has imported what takes seconds."""

import gc
import importlib
import json
import os
import signal
import subprocess
import sys

SECONDS = 300


class PlainPytest:
    """Starts the process; `run` forks it. Ends it as a context manager."""

    def __enter__(self):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_):
        self._process.communicate()

    def run(self, folder, *arguments):
        """Run pytest in a folder with these arguments; return what it printed, if it has passed."""
        output = folder.with_name(f"{folder.name}.output")
        job = [str(folder), str(output), "-q", "-W", "error", "-p", "no:cacheprovider", *arguments]
        print(json.dumps(job), file=self._process.stdin, flush=True)
        status = self._process.stdout.readline().strip()
        assert status == "0", f"pytest ended with {status}: {output.read_text()}"
        return output.read_text()


def work():
    """Run each job in a fork, and print its exit status."""
    import pytest

    importlib.import_module("kindaware.testing")  # and torch with it
    gc.freeze()  # or pytest would look through all of it five times in the end
    for line in sys.stdin:
        folder, output, *arguments = json.loads(line)
        child = os.fork()
        if not child:
            signal.alarm(SECONDS)
            os.chdir(folder)
            sys.path[0] = folder  # as `python -m pytest` does
            written = os.open(output, os.O_WRONLY | os.O_CREAT)
            for number in (1, 2):
                os.dup2(written, number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            status = pytest.main(arguments)
            sys.stdout.flush()
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    work()
