"""A program that behaves towards its owner as tritonserver 26.x does, where that differs from 2.51.

It reads what to do from the variable NEWER_SERVER, in JSON: `states` by model (those of LOADING become READY
after some questions), `not_ready` models, `live`, `log` lines, `dies` (how long a dead child stays unnoticed,
None for ever), `refusal` of a load, and `listens`.
"""

import http.server
import json
import os
import sys
import time

JOB = json.loads(os.environ["NEWER_SERVER"])
STATES = dict(JOB.get("states", {"net": "READY"}))
QUESTIONS = [0]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path
        if path == "/v2":
            self.answer(200, {"version": "2.73.0"})
        elif path == "/v2/health/live":
            self.answer(200 if JOB.get("live", True) else 400)
        elif path == "/v2/health/ready":  # asks every model
            self.answer(400 if JOB.get("not_ready") else 200)
        elif path.endswith("/ready"):
            self.answer(400 if path.split("/")[3] in JOB.get("not_ready", []) else 200)
        else:
            self.answer(200, {"instance_group": [{"name": "net_0", "kind": "KIND_CPU", "count": 1}]})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/load"):
            if "refusal" in JOB:
                self.answer(400, {"error": JOB["refusal"]})
                return
            if os.fork() == 0:
                os._exit(1)
            time.sleep(600)  # for a stub that has ended
        QUESTIONS[0] += 1
        if QUESTIONS[0] > 3:
            STATES.update({name: "READY" for name, state in STATES.items() if state == "LOADING"})
        index = [{"name": name, "version": "1", "state": state} for name, state in STATES.items()]
        self.answer(200, index)

    def answer(self, code, body=None):
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


def say(level, text, source="model_lifecycle.cc:1"):
    print(f"{level}0801 10:00:00.000000 1 {source}] {json.dumps(text)}", flush=True)


def main():
    say("I", " ".join(sys.argv[1:]), "arguments.cc:1")
    for line in JOB.get("log", []):
        print(line, flush=True)
    if "dies" in JOB:
        say("I", "loading: gone:1")
        child = os.fork()
        if child == 0:
            os._exit(1)
        time.sleep(600 if JOB["dies"] is None else JOB["dies"])
        say("E", "failed to load 'gone' version 1: Internal: stub has ended")
        time.sleep(JOB.get("loads_on", 0))
    port = next(int(arg.split("=")[1]) for arg in sys.argv if arg.startswith("--http-port="))
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


main()
