"""The examples of `docs/compatible-clients.md`, run as they stand on the page.

Those of one language are one program, because the later ones use what the first one made. Only the address changes: the
page names the port of a home, the tests take a free one.
"""

import pathlib
import re
import subprocess
import sys

import pytest

from home import DEADLINE_S

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "compatible-clients.md"
ADDRESS = "http://127.0.0.1:7700"
RUN_BY = {"python": [sys.executable, "-"], "sh": ["bash", "-euo", "pipefail"]}
EXAMPLES = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def program(kind):
    return "".join(text for found, text in EXAMPLES if found == kind)


def test_the_page_has_examples_of_both_clients_and_none_of_a_kind_that_is_not_run():
    assert {kind for kind, _ in EXAMPLES} == set(RUN_BY)
    for name in ("chat.completions.create", "responses.create", "messages.stream"):
        assert name in program("python"), f"expected an example of {name} on {PAGE.name}"
    for route in ("/v1/chat/completions", "/v1/messages", "/v1/models"):
        assert route in program("sh"), f"expected an example of {route} on {PAGE.name}"


@pytest.mark.parametrize("kind, answers", [("python", 3), ("sh", 1)])
def test_the_examples_run_and_print_answers(server, kind, answers):
    text = program(kind)
    assert ADDRESS in text, f"expected {ADDRESS} in the examples:\n{text}"
    # Importing two clients takes a slow machine half a minute.
    done = subprocess.run(
        RUN_BY[kind], input=text.replace(ADDRESS, server.url), env=server.environ,
        capture_output=True, text=True, timeout=3 * DEADLINE_S,
    )
    assert done.returncode == 0, f"expected 0, saw {done.returncode}: {done.stderr}\n{text}"
    # The scripted model says of itself what it is; in a stream the words may lie in two pieces.
    assert done.stdout.count("scripted") >= answers, f"expected {answers} answers, saw {done.stdout!r} {done.stderr!r}"
    assert '"error"' not in done.stdout, done.stdout
