"""A temporary home and the real binary that serves it on a free port.

Every wait has a deadline. What the program printed is part of every failure.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request

DEADLINE_S = 60
BINARY = pathlib.Path(os.environ.get("DROMIA_BINARY", "target/debug/dromia")).resolve()


def environment(home, **more):
    """The environment without keys, settings and homes of whoever runs the tests."""
    kept = ("PATH", "LANG", "LC_ALL", "TMPDIR")
    own = {name: os.environ[name] for name in kept if name in os.environ}
    return {**own, "HOME": str(home.parent), "DROMIA_HOME": str(home), **more}


class Server:
    """One served home."""

    def __init__(self, home, environ):
        self.home, self.environ = home, environ
        self.token = (home / "token").read_text().strip()
        self.log = open(home / "foreign.log", "w+")
        self.process = subprocess.Popen(
            [BINARY, "up", "--listen", "127.0.0.1:0"],
            env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )
        self.url = self._announced()

    def _announced(self):
        lines = []
        reader = threading.Thread(target=lambda: lines.append(self.process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(DEADLINE_S)
        if not lines or not lines[0].startswith("listening http://"):
            self.process.kill()
            raise AssertionError(f"expected `listening http://…` within {DEADLINE_S} s, saw {lines}: {self.said()}")
        # What follows is drained, so that a full pipe never stops the server.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        return lines[0].split()[1]

    def said(self):
        """What the server logged."""
        self.log.flush()
        return pathlib.Path(self.log.name).read_text()[-4000:]

    def cli(self, *arguments):
        """Runs a command of this home and returns its standard output."""
        done = subprocess.run(
            [BINARY, *arguments], env=self.environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=DEADLINE_S,
        )
        assert done.returncode == 0, f"dromia {' '.join(arguments)} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def json(self, *arguments):
        """Runs a command with `--json` and returns its document."""
        return json.loads(self.cli(*arguments, "--json"))

    def rows(self, *arguments, limit=256):
        """Every row of a listing, page by page."""
        rows, after = [], []
        while True:
            page = self.json(*arguments, "--limit", str(limit), *after)
            rows += page["items"]
            if not page["next"]:
                return rows
            after = ["--after", page["next"]]

    def call(self, method, path, body=None, headers=None, timeout=DEADLINE_S):
        """Sends a request and returns its status and its JSON."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def get(self, path):
        """Reads a document that must be there."""
        status, body = self.call("GET", path)
        assert status == 200, f"expected 200 from {path}, saw {status}: {body}"
        return body

    def stop(self):
        """Stops it as an operator does; it must end by itself and without an error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"expected an end within {DEADLINE_S} s of SIGTERM: {self.said()}") from None
        assert code == 0, f"expected the server to end with 0, saw {code}: {self.said()}"


@contextlib.contextmanager
def served(configuration=None, prepare=None, **environ):
    """Makes a home, serves it while the block runs, and removes it. What `prepare` puts into the home is there first."""
    with tempfile.TemporaryDirectory(prefix="dromia-foreign-") as place:
        home = pathlib.Path(place) / ".dromia"
        environ = environment(home, **environ)
        made = subprocess.run(
            [BINARY, "init", "--defaults", "--no-input", "--model-source", "scripted"],
            env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_S,
        )
        assert made.returncode == 0, f"expected a home from `dromia init`, saw {made.returncode}: {made.stderr}"
        if configuration is not None:
            (home / "dromia.yaml").write_text(configuration)
        if prepare is not None:
            prepare(home)
        server = Server(home, environ)
        try:
            yield server
        except BaseException as error:
            ended = server.process.poll()
            server.process.kill()
            server.process.wait()
            error.add_note(f"the server {'was up' if ended is None else f'had ended with {ended}'}: {server.said()}")
            raise
        server.stop()
