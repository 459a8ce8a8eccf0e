"""The examples of `docs/compatible-clients.md`, each run as it stands on the page.

Only the address changes: the page names the port of a home, the tests take a free one.
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


def test_the_page_has_examples_of_both_clients_and_none_of_a_kind_that_is_not_run():
    assert {kind for kind, _ in EXAMPLES} == set(RUN_BY)
    python = "".join(text for kind, text in EXAMPLES if kind == "python")
    for name in ("chat.completions.create", "responses.create", "messages.stream"):
        assert name in python, f"expected an example of {name} on {PAGE.name}"


@pytest.mark.parametrize("kind, text", EXAMPLES, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(EXAMPLES, 1)])
def test_an_example_runs_and_prints_an_answer(server, kind, text):
    assert ADDRESS in text, f"expected {ADDRESS} in the example:\n{text}"
    text = text.replace(ADDRESS, server.url)
    done = subprocess.run(
        RUN_BY[kind], input=text, env=server.environ, capture_output=True, text=True, timeout=3 * DEADLINE_S
    )
    assert done.returncode == 0, f"expected 0, saw {done.returncode}: {done.stderr}\n{text}"
    # What is asked plainly is answered by the scripted model in its own words.
    answer = "scripted model" if '"hello"' in text else ""
    assert done.stdout.strip() and answer in done.stdout, f"expected an answer, saw {done.stdout!r} {done.stderr!r}"
    assert '"error"' not in done.stdout, done.stdout
