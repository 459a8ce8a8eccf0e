"""schemathesis against the document that the server serves: what is not in the document does not happen.

It sends requests that fit the document and requests that do not, and looks for 5xx, for statuses, media types, headers
and bodies that the document does not name, for credentials that nobody checks, and for bad requests that are taken.
What it may not judge is whether every request that fits the schemas is taken: some rules are not a schema's to say,
such as that an agent's model must be configured.
"""

import base64
import hashlib
import hmac
import itertools
import json
import os
import re
import subprocess
import sys
import time
import urllib.request

import openapi_spec_validator
import pytest

from home import DEADLINE_S, served

SEED = os.environ.get("DROMIA_CONTRACT_SEED") or "1"
EXAMPLES = os.environ.get("DROMIA_CONTRACT_EXAMPLES") or "6"
CONTRACT_S = 1000
# Operators only, and a token is no operator.
FORBIDDEN = {
    ("GET", "/v1/tenants"),
    ("POST", "/v1/tenants"),
    ("GET", "/v1/tenants/{tenant}"),
    ("POST", "/v1/tenants/{tenant}/suspend"),
    ("POST", "/v1/tenants/{tenant}/resume"),
    ("DELETE", "/v1/tenants/{tenant}"),
}
# What chance does not make: bodies that other APIs describe (their clients are tested beside this), a file that only an
# export makes, runs that are at work, have yielded or are held, exactly one of three fields, what was sent to a
# provider, where none is, and values, names and hosts of secrets, and rights, of which their rules say more than a schema; and a
# home whose key is lost.
UNLIKELY = {
    ("POST", "/v1/agents/{agent}/kill"),
    ("GET", "/v1/runs/{run}/requests/{step}"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/sessions/import"),
    ("POST", "/v1/runs/{run}/cancel"),
    ("POST", "/v1/children/{child}/cancel"),
    ("POST", "/v1/runs/{run}/terminate"),
    ("POST", "/v1/runs/{run}/resume"),
    ("POST", "/v1/secrets"),
    ("POST", "/v1/secrets/{secret}/rotate"),
    ("POST", "/v1/vault/reset"),
    ("POST", "/v1/capabilities"),
    ("POST", "/v1/capabilities/{capability}/delegate"),
}
# A channel whose receiver is not there, and who signs what comes over it.
SECRET = hashlib.sha256(b"of these tests").digest()
CONFIGURATION = """version: 1
models:
  default: { kind: scripted }
  scripted: { kind: scripted }
channels:
  orders: { kind: webhook, agent: assistant, url: 'http://127.0.0.1:9/', secret: 'env:WEBHOOK_SECRET', attempts_max: 1 }
permissions: { ask: [file.append] }
approvals: { hold_ms: 100 }
"""
# One would leave runs without a budget, the other would take back the very token that asks; each has a run of its own.
LAST = ("budget_set", "token_revoke")


@pytest.fixture(scope="module")
def server():
    with served(CONFIGURATION, WEBHOOK_SECRET="whsec_" + base64.b64encode(SECRET).decode()) as server:
        yield server


def given_up(server):
    """Has an agent answer over a channel whose receiver is not there, and returns the message that was given up."""
    body = json.dumps({"type": "message", "data": {"text": "hello", "actor": "ada"}})
    told = {"webhook-id": "msg_1", "webhook-timestamp": str(int(time.time()))}
    signed = f"{told['webhook-id']}.{told['webhook-timestamp']}.{body}".encode()
    told["webhook-signature"] = "v1," + base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
    request = urllib.request.Request(f"{server.url}/v1/channels/orders/events", data=body.encode(), headers=told)
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
        assert response.status == 202, f"expected a taken event, saw {response.status}"
    end = time.monotonic() + DEADLINE_S
    while not (dead := [one for one in server.get("/v1/deliveries")["items"] if one["state"] == "dead"]):
        assert time.monotonic() < end, f"expected a message that is given up, saw {server.get('/v1/deliveries')}"
        time.sleep(0.05)
    status, answer = server.call("PUT", "/v1/feed", {"subscriber": "reader", "cursor": 0})
    assert status == 200, f"expected a cursor, saw {status}: {answer}"
    return dead[0]["id"]


def asked(server):
    """Has an agent ask twice for what a person must allow, answers one of the two, and returns both."""
    grants = [word for right in ("model", "reply", "file.*") for word in ("--grant", right)]
    server.cli("agent", "create", "clerk", "--model", "scripted", *grants)
    for number in range(2):
        line = json.dumps({"path": "log", "content": f"{number}\n"})
        server.cli("agent", "spawn", "clerk", "--task", f"@tool file.append {line}")
    end = time.monotonic() + DEADLINE_S
    while len(waiting := [one["id"] for one in server.get("/v1/approvals")["items"] if one["state"] == "waiting"]) < 2:
        assert time.monotonic() < end, f"expected two that wait, saw {server.get('/v1/approvals')}"
        time.sleep(0.05)
    status, answer = server.call("POST", f"/v1/approvals/{waiting[0]}/answer", {"approve": False})
    assert status == 200, f"expected an answered approval, saw {status}: {answer}"
    return waiting


def worker(server):
    """Has an agent begin a worker, and returns its id."""
    grants = [word for right in ("model", "reply", "worker.spawn") for word in ("--grant", right)]
    server.cli("agent", "create", "lead", "--model", "scripted", *grants)
    line = json.dumps({"task": "@say done"})
    body = {"text": f"@tool worker.spawn {line}", "agent": "lead", "wait": True}
    status, answer = server.call("POST", "/v1/events", body)
    assert status == 200, f"expected an answered event, saw {status}: {answer}"
    return server.get(f"/v1/sessions/{answer['session']}/children")["items"][0]["id"]


def known(server):
    """Makes something of each kind and names it, so that requests reach more than a 404."""
    # More than what chance deletes and ends before it comes to the last operation.
    names = [f"agent-{number}" for number in range(40)]
    for name in names:
        server.cli("agent", "create", name, "--model", "scripted")
    sessions, runs = [], []
    for name in names[:36]:
        body = {"text": "@tool time.now {}\n@say done", "agent": name, "wait": True}
        status, answer = server.call("POST", "/v1/events", body)
        assert status == 200, f"expected an answered event, saw {status}: {answer}"
        sessions.append(answer["session"])
        runs.append(answer["run"])
    status, answer = server.call("POST", f"/v1/agents/{names[0]}/spawn", {"task": "hello"})
    assert status in (200, 202), f"expected a task, saw {status}: {answer}"
    documents = ["SOUL.md", "IDENTITY.md", "USER.md"]
    for name, document in itertools.product(names, documents):
        status, answer = server.call("PUT", f"/v1/agents/{name}/identity/{document}", {"text": "You are kind."})
        assert status == 200, f"expected a document, saw {status}: {answer}"
    tokens = [server.json("token", "create", f"token-{number}")["id"] for number in range(4)]
    budgets, secrets = ([f"{kind}-{number}" for number in range(8)] for kind in ("budget", "secret"))
    for name in budgets:
        body = {"per": "tenant", "measure": "calls", "period": "total", "limit": 1_000_000}
        status, answer = server.call("PUT", f"/v1/budgets/{name}", body)
        assert status == 200, f"expected a budget, saw {status}: {answer}"
    for name in secrets:
        body = {"name": name, "value": f"the value of {name}", "host": "api.example.com", "placement": "bearer"}
        status, answer = server.call("POST", "/v1/secrets", body)
        assert status == 200, f"expected a secret, saw {status}: {answer}"
    capabilities = []
    for name in names[12:28]:
        body = {"agent": name, "rights": ["file:write:docs"]}
        status, answer = server.call("POST", "/v1/capabilities", body)
        assert status == 201, f"expected a capability, saw {status}: {answer}"
        capabilities.append(answer["id"])
    rules = [f"rule-{number}" for number in range(8)]
    for name in rules:
        body = {"answer": "deny", "rule": "file.read path=notes/**"}
        status, answer = server.call("PUT", f"/v1/approval-rules/{name}", body)
        assert status == 200, f"expected a rule, saw {status}: {answer}"
    approvals = asked(server)
    records = [record["id"] for record in server.get("/v1/audit")["items"][:8]]
    return {
        "agent": names, "model": names, "session": sessions, "run": runs, "token": tokens, "step": [1, 2],
        "child": [worker(server)], "document": documents,
        "template": ["base", "research"], "role": ["coder", "tester"],
        "number": [1], "fragment": [one[-8:] for one in (*runs, *sessions, *tokens, *capabilities)],
        "tool": ["time.now", "file.list"], "delivery": [given_up(server)],
        "budget": budgets, "secret": secrets, "capability": capabilities,
        "rule": rules, "approval": approvals, "record": records,
    }


def configuration(names):
    lines = ["[dictionaries]"]
    lines += [f"{kind} = {{ values = {json.dumps(values)} }}" for kind, values in names.items()]
    lines += ["[parameters]"]
    lines += [f'"path.{kind}" = {{ dictionary = "{kind}", probability = 0.8 }}' for kind in names]
    # A cursor made by chance lies in the future of almost every list.
    lines += ["[dictionaries.cursor]", "values = [0, 1]", "[parameters.\"query.after\"]", 'dictionary = "cursor"', "probability = 0.5"]
    # An agent of this test has four revisions: one of its creation and one of each document.
    lines += ["[dictionaries.revision]", "values = [4]", "[parameters.\"query.revision\"]", 'dictionary = "revision"', "probability = 0.8"]
    return "\n".join(lines) + "\n"


def answered(server):
    """The routes that gave an answer of the 200s, by the server's own meters."""
    asked = urllib.request.Request(f"{server.url}/metrics", headers={"Authorization": f"Bearer {server.token}"})
    with urllib.request.urlopen(asked, timeout=DEADLINE_S) as response:
        text = response.read().decode()
    meter = re.compile(r'^dromia_http_requests_total\{method="(\w+)",route="([^"]+)",class="2xx"\} (\d+)$', re.MULTILINE)
    return {(method, route) for method, route, count in meter.findall(text) if int(count) > 0}


def documented(server):
    """Every operation of the document."""
    paths = server.get("/openapi.json")["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods if method != "parameters"}


def check(server, place, *selection):
    """Runs schemathesis; whatever it finds fails the test in its own words."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(place / "schemathesis.toml"),
        "run", f"{server.url}/openapi.json", "--header", f"Authorization: Bearer {server.token}",
        "--seed", SEED, "--max-examples", EXAMPLES, "--no-shrink", "--generation-database", "none",
        "--request-timeout", str(DEADLINE_S), "--exclude-checks", "positive_data_acceptance", *selection,
    ]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=CONTRACT_S)
    assert done.returncode == 0, f"expected no finding (seed {SEED}), saw:\n{done.stdout[-20000:]}{done.stderr[-4000:]}"
    print(done.stdout)


def test_the_document_is_what_openapi_says_of_documents(server):
    openapi_spec_validator.validate(server.get("/openapi.json"))


def test_nothing_happens_that_the_document_does_not_name(server, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(configuration(known(server)))
    check(server, tmp_path, *(word for name in LAST for word in ("--exclude-operation-id", name)))
    status, who = server.call("GET", "/v1/whoami")
    assert status == 200, f"expected the token to work to the end, saw {status}: {who}"
    for name in LAST:
        check(server, tmp_path, "--include-operation-id", name)
    # An operation that only ever refused has shown nothing.
    unreached = documented(server) - answered(server) - FORBIDDEN - UNLIKELY
    assert not unreached, f"expected an answer of the 200s from every operation, saw none from {sorted(unreached)}"
