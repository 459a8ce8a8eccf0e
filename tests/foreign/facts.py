"""What the server itself says of what a client did."""

import uuid


def runs_of(server, session):
    """The runs of a session, as `dromia run list --json` shows them."""
    return server.rows("run", "list", "--session", session)


def only_run(server, session):
    """The run of a session that must have one only."""
    runs = runs_of(server, session)
    assert len(runs) == 1, f"expected one run in {session}, saw {runs}"
    return runs[0]


def turns(server, session):
    """The turns of a session's transcript."""
    return server.get(f"/v1/sessions/{session}/transcript")["turns"]


def said(server, session):
    """Who said what in a session, in order: `input` or `unit`, and the text."""
    return [(turn["role"], turn["text"]) for turn in turns(server, session)]


def key():
    """An idempotency key that nobody used."""
    return f"foreign-{uuid.uuid4()}"
