"""Turns against a provider that fails four times out of five: aimock, which nobody here wrote.

Of the requests a fifth each meets a 500, a 429 with `Retry-After`, an answer that is not JSON, a broken connection
(half of them in mid-stream), and a delay; the seed is printed. Every turn must end in a typed state, no tool call may
be doubled, and the ledger must be the sum of the journals to the millionth.

`DROMIA_CHAOS_N` says how many turns, `DROMIA_CHAOS_SEED` from which seed.
"""

import concurrent.futures
import copy
import json
import os
import subprocess
import time

import pytest

import ledger
from home import DEADLINE_S, served

TURNS = int(os.environ.get("DROMIA_CHAOS_N") or 200)
SEED = os.environ.get("DROMIA_CHAOS_SEED") or "1"
HERE = os.path.dirname(os.path.abspath(__file__))
# Six attempts at each of three steps, their waits, and the machine under it.
TURN_S = 300
AT_ONCE = 320
AGENTS = ("chat", "responses", "anthropic", "chain")
KINDS = {"chat": "openai", "responses": "openai_responses", "anthropic": "anthropic"}

if not 100 <= TURNS <= 2000:
    raise SystemExit(f"N must be from 100 to 2000 (one summary by model counts no more), and is {TURNS}")


def configuration(url):
    """Each format under an alias of its own, and one alias with the others behind it."""
    lines = ["version: 1", "providers:"]
    lines += [f'  {name}: {{ kind: {kind}, base_url: "{url}/v1", key: "env:AIMOCK_KEY" }}' for name, kind in KINDS.items()]
    lines += ["models:"]
    price = f"price: {{ input: {ledger.PRICE['input']}, output: {ledger.PRICE['output']} }}"
    lines += [f'  {name}: {{ provider: {name}, model: "mock-{name}", {price} }}' for name in KINDS]
    lines += [f'  chain: {{ provider: chat, model: "mock-chain", fallback: [responses, anthropic], {price} }}']
    lines += ["  default: { kind: scripted }"]
    return "\n".join(lines) + "\n"


class Provider:
    """aimock in a process of its own."""

    def __init__(self):
        environment = os.environ["DROMIA_FOREIGN"]
        self.process = subprocess.Popen(
            ["node", os.path.join(HERE, "aimock.mjs"), environment, SEED],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        line = self.process.stdout.readline()
        assert line.startswith("listening http://"), f"expected aimock to listen, saw {line!r}"
        self.url = line.split()[1]

    def asked(self):
        """Ends it and returns what it was asked."""
        told, _ = self.process.communicate("\n", timeout=DEADLINE_S)
        return json.loads(told)


def turn(server, number):
    """Says one thing to an agent and waits for the end of its run."""
    agent = AGENTS[number // len(ledger.PLANS) % len(AGENTS)]
    body = {"text": f"turn {number}", "agent": agent, "wait": True, "wait_ms": TURN_S * 1000}
    status, answer = server.call("POST", "/v1/events", body, timeout=TURN_S + DEADLINE_S)
    assert status == 200, f"expected the end of turn {number} within {TURN_S} s, saw {status}: {answer}"
    return number, {"agent": agent, "run": answer["run"], "status": answer["status"], "reply": answer["reply"]}


def journal(server, run):
    """Every entry of a run."""
    entries, after = [], 0
    while True:
        page = server.get(f"/v1/runs/{run}/journal?limit=256&after={after}")
        entries += page["entries"]
        if not page["entries"] or len(page["entries"]) < 256:
            return entries
        after = entries[-1]["seq"]


def collect(server, provider):
    """Takes the turns and gathers all that they left."""
    made = [
        server.json("agent", "create", name, "--model", name, "--grant", "model", "--grant", "reply", "--grant", "file.*")
        for name in AGENTS
    ]
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        turns = dict(pool.map(lambda number: turn(server, number), range(TURNS)))
    took = time.monotonic() - began
    runs = {run["id"]: run for run in server.rows("run", "list")}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        journals = dict(zip(runs, pool.map(lambda run: journal(server, run), runs)))
    lines = {}
    for agent in made:
        file = server.home / "agents" / agent["id"] / "workspace" / "lines.txt"
        lines[agent["handle"]] = file.read_text().split() if file.exists() else []
    summaries = {by: server.json("cost", "summary", "--by", by) for by in ("agent", "model", "day")}
    # A command per run would take longer than the turns; some are enough to see that it says what the server says.
    exported = {run: server.cli("run", "export", run) for run in list(runs)[:: max(1, len(runs) // 8)]}
    return {
        "turns": turns, "runs": runs, "journals": journals, "lines": lines, "summaries": summaries,
        "exported": exported, "asked": provider.asked(), "took": took,
    }


@pytest.fixture(scope="module")
def seen():
    provider = Provider()
    try:
        with served(configuration(provider.url), AIMOCK_KEY="none") as server:
            return collect(server, provider)
    finally:
        provider.process.kill()


def met(seen):
    """How often each fault was met; a connection that breaks off is one fault, wherever it does."""
    counts = dict.fromkeys(("drop", "ratelimit", "malformed", "disconnect", "latency"), 0)
    for request in seen["asked"]:
        counts["disconnect" if request["fault"] == "truncate" else request["fault"]] += 1
    return counts


def test_every_turn_ends_typed_no_call_is_doubled_and_the_ledger_is_the_journal(seen, capsys):
    counts = met(seen)
    ends = [turn["status"] for turn in seen["turns"].values()]
    lost = sum(run["model_calls"] for run in seen["runs"].values()) - len(seen["asked"])
    calls = sum(len(lines) for lines in seen["lines"].values())
    with capsys.disabled():
        print(
            f"\nchaos: seed {SEED}, {len(ends)} turns in {seen['took']:.0f} s: {ends.count('completed')} completed, "
            f"{ends.count('failed')} failed; {len(seen['asked'])} attempts, met {counts}; {calls} tool calls; "
            f"{seen['summaries']['agent']['total']['cost_micros']} micros; {lost} requests got lost on their way"
        )
    faults = ledger.faults_of(seen)
    assert not faults, "\n".join([f"{len(faults)} contradictions", *faults[:50]])


def test_a_fifth_of_the_requests_meets_each_fault_and_every_format_is_asked(seen):
    for fault, count in met(seen).items():
        share = count / len(seen["asked"])
        assert 0.15 < share < 0.25, f"expected a fifth of {fault}, saw {share:.3f} of {len(seen['asked'])}"
    models = {request["model"] for request in seen["asked"]}
    assert models == {"mock-chat", "mock-responses", "mock-anthropic", "mock-chain"}
    assert {turn["status"] for turn in seen["turns"].values()} == {"completed", "failed"}


def test_the_exported_journal_is_the_one_that_the_server_tells(seen):
    for run, text in seen["exported"].items():
        entries = json.loads(text)["entries"]
        told = [(entry["seq"], entry["kind"], entry["fields"]) for entry in seen["journals"][run]]
        assert [(entry["seq"], entry["kind"], entry["fields"]) for entry in entries] == told, run


def entry_of(seen, kind):
    """The first entry of a kind, with its journal."""
    for entries in seen["journals"].values():
        for entry in entries:
            if entry["kind"] == kind:
                return entries, entry
    raise AssertionError(f"expected an entry {kind}, saw none")


def doubled_call(seen):
    entries, started = entry_of(seen, "tool_started")
    entries.insert(entries.index(started), copy.deepcopy(started))


def doubled_line(seen):
    lines = next(lines for lines in seen["lines"].values() if lines)
    lines.append(lines[0])


def lost_line(seen):
    next(lines for lines in seen["lines"].values() if lines).pop()


def ledger_off_by_one(seen):
    seen["summaries"]["agent"]["total"]["cost_micros"] += 1


def group_off_by_one(seen):
    seen["summaries"]["model"]["groups"][0]["spent"]["cost_micros"] -= 1


def attempt_off_by_one(seen):
    entry_of(seen, "model_replied")[1]["fields"]["cost_micros"] += 1


def free_cut(seen):
    entries = seen["journals"].values()
    cut = (e for es in entries for e in es if e["kind"] == "model_failed" and e["fields"]["code"] == "model_cut")
    next(cut)["fields"]["charged_micros"] = 0


def attempt_that_nobody_saw_and_yet_answered(seen):
    answered = next(request for request in seen["asked"] if request["fault"] == "latency")
    seen["asked"].remove(answered)


def request_that_nobody_journaled(seen):
    seen["asked"].append(copy.deepcopy(seen["asked"][0]))


def turn_without_an_end(seen):
    entries, end = entry_of(seen, "run_completed")
    entries.remove(end)


def turn_that_failed_untyped(seen):
    entry_of(seen, "run_failed")[1]["fields"]["code"] = "internal"


def run_of_no_turn(seen):
    run = copy.deepcopy(next(iter(seen["runs"].values())))
    seen["runs"]["run_extra"] = run | {"id": "run_extra"}


PLANTS = [
    doubled_call, doubled_line, lost_line, ledger_off_by_one, group_off_by_one, attempt_off_by_one, free_cut,
    attempt_that_nobody_saw_and_yet_answered, request_that_nobody_journaled, turn_without_an_end,
    turn_that_failed_untyped, run_of_no_turn,
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_what_is_spoiled_is_noticed(seen, plant):
    """The negative control: the same comparison, over the same turns with one fact changed."""
    before = set(ledger.faults_of(seen))
    spoiled = copy.deepcopy({name: value for name, value in seen.items() if name != "exported"})
    plant(spoiled)
    assert set(ledger.faults_of(spoiled)) - before, f"{plant.__name__} was not noticed"
