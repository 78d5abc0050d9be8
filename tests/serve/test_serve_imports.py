"""What `kindaware serve` imports: it starts a server, and has no use for what models are tested with."""

import subprocess
import sys


def test_serve_imports_nothing_of_the_test_kit():
    code = (
        "import sys\n"
        "from kindaware.cli._app import app\n"
        "assert 'kindaware._server.server' in sys.modules\n"
        "print(*sorted(name for name in sys.modules if name.startswith('kindaware.testing')))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
