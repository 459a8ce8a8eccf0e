"""Two small servers: the tools of a suite, and a model that says what a trace says.

Both serve one episode at a time and are told when the next one begins. Neither knows of the other.
"""

import contextlib
import http.server
import json
import threading

import suites


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers JSON; the server has the state."""

    protocol_version = "HTTP/1.1"
    # Head and body leave in one piece; two would wait for each other.
    wbufsize = -1

    def do_GET(self):
        self.reply(405, "text/plain", "only POST")

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length) or b"null")
        self.reply(*self.server.state.answer(self.path, body, self.headers))

    def reply(self, status, kind, text):
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Tools:
    """The tools of a suite over the environment of one episode. A key is acted upon once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.begin(None, None)

    def begin(self, name, environment):
        with self.lock:
            self.name, self.environment = name, environment
            self.executed, self.answers = [], {}

    def answer(self, path, body, headers):
        name, _, tool = path.strip("/").partition("/")
        call = suites.Call(tool, json.dumps(body, sort_keys=True))
        with self.lock:
            if name != self.name:
                return 404, "text/plain", "no such suite now"
            key = headers.get("idempotency-key")
            if key is None or key not in self.answers:
                text, worked = suites.said(name, self.environment, call)
                if worked:
                    self.executed.append(call)
                self.answers[key] = (200 if worked else 422, "text/plain; charset=utf-8", text)
            return self.answers[key]


class Model:
    """A model that makes the calls of a trace, step by step, whatever comes back, and then gives the answer.

    A step proposes all of its calls in one message (`suites.steps`). Where the model stands is read off the conversation: as
    many results, so many calls are done. If it plans, it declares first what an honest model would, in a step of its own; an
    attacker's text has not been read by then.
    """

    def __init__(self):
        self.begin(None)

    def begin(self, episode, plans=False):
        self.episode, self.asked, self.steps = episode, 0, []
        if episode:
            # The wire has no dots in names.
            self.steps = [[(f"{episode.suite}__{call.tool}", call.arguments) for call in step]
                          for step in suites.steps(episode)]
        if plans:
            self.steps.insert(0, [("plan__declare", json.dumps({"tools": suites.plan(episode)}))])

    def answer(self, _, body, __):
        self.asked += 1
        results = sum(1 for message in body["messages"] if message["role"] == "tool")
        message = {"role": "assistant", "content": self.episode.answer or "(nothing to say)"}
        due, passed = [], 0
        for step in self.steps:
            if passed <= results < passed + len(step):
                due = list(enumerate(step, passed))[results - passed:]
            passed += len(step)
        if due:
            calls = [{"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": arguments}}
                     for place, (name, arguments) in due]
            message = {"role": "assistant", "content": None, "tool_calls": calls}
        finish = "tool_calls" if "tool_calls" in message else "stop"
        return 200, "application/json", json.dumps({
            "id": f"replay-{self.asked}",
            "object": "chat.completion",
            "created": 0,
            "model": "replay",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        })


@contextlib.contextmanager
def serving(state):
    """Serves until the block ends; gives the address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    server.state = state
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
