"""What `kindaware serve` imports: it starts a server, and has no use for what models are tested with."""

import subprocess
import sys

import pytest


def test_serve_imports_nothing_of_the_test_kit():
    code = (
        "import sys\n"
        "from kindaware.cli._app import app\n"
        "assert 'kindaware._server.server' in sys.modules\n"
        "print(*sorted(name for name in sys.modules if name.startswith('kindaware.testing')))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "statement",
    [
        "import kindaware",
        "from kindaware.cli._app import app",
        "import kindaware.cli._infer, kindaware.cli._values, kindaware.cli._outputs, kindaware.client",
        "import kindaware._server.server",
    ],
)
def test_command_line_clients_and_servers_start_without_torch(statement):
    code = f"import sys\n{statement}\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
