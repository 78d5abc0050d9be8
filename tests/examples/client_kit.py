"""What the tests of the clients share: the form of their errors, and a small server."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ONE_ERROR = re.compile(r"[^\n]+: expected [^\n]+, got [^\n]+; [^\n]+\n")


def assert_fails(result, *, subject, got):
    assert result.returncode == 1, result
    assert ONE_ERROR.fullmatch(result.stderr), result.stderr
    assert result.stderr.startswith(subject), result.stderr
    assert re.search(rf"got .*{got}", result.stderr), result.stderr
    assert "PASS" not in result.stdout
    assert "Results is class" not in result.stdout


@contextmanager
def http_server(answers):
    """Serve {path: (status, body)} on a free port; yields HOST:PORT."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = answers.get(self.path, (404, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815 - http.server looks for these names

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
