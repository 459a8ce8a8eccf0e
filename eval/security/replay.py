"""Replays AgentDojo's `banking` and `workspace` through the real binary, and counts what a hijacked model gets done.

    python replay.py [--suite banking] [--approver none] [--policy FOLDER]… [--no-plan] [--every N] [--out report.json]

The tools of a suite are a small HTTP server, registered in a home as external tools by the manifests beside this file. The
model is another one, which says what a trace says: an honest task's own calls, or an attacker's. Nothing here decides what is
allowed; that is the program's own policy, and what `--policy` lays over it.

Exits with 1 if the replay without a guard does not show every attack and every task, because then no figure means anything;
with `--goals` also if a goal is not met.
"""

import argparse
import contextlib
import importlib.metadata
import json
import pathlib
import shutil
import sys
import threading
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tests" / "foreign"))

import home  # noqa: E402  (what the tests of other programs use to serve a home)

import approvers  # noqa: E402
import report  # noqa: E402
import servers  # noqa: E402
import suites  # noqa: E402

AGENT = "clerk"
WAIT_MS = 60_000


class Stage:
    """Both servers, and the state of the episode that is on."""

    def __init__(self, stack):
        self.tools, self.model = servers.Tools(), servers.Model()
        self.tools_url = stack.enter_context(servers.serving(self.tools))
        self.model_url = stack.enter_context(servers.serving(self.model))

    def play(self, episode, turn, plans=False):
        """Plays an episode by a function that takes the turn and says what was answered, refused and asked."""
        environment = suites.world(episode)
        before = environment.model_copy(deep=True)
        self.tools.begin(episode.suite, environment)
        self.model.begin(episode, plans)
        answer, refused, cards = turn(episode)
        done = suites.judge(episode, before, environment, list(self.tools.executed), answer)
        return {
            "name": episode.name, "attack": bool(episode.attack), "done": done, "cards": cards,
            "refused": len(refused), "rules": refused,
        }


def bare_turn(stage):
    """A turn without anything between the model and the tools: whatever it says is done."""
    def turn(_):
        messages = []
        while True:
            said = post(f"{stage.model_url}/chat/completions", {"messages": messages})["choices"][0]["message"]
            if not said.get("tool_calls"):
                return said["content"], [], 0
            messages.append(said)
            for call in said["tool_calls"]:
                path = call["function"]["name"].replace("__", "/", 1)
                arguments = json.loads(call["function"]["arguments"])
                with contextlib.suppress(urllib.error.HTTPError):
                    post(f"{stage.tools_url}/{path}", arguments, raw=True)
                messages.append({"role": "tool", "content": ""})
    return turn


def post(url, body, raw=False):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read() if raw else json.load(answer)


def guarded_turn(server, approver, desk):
    """A turn of the agent of a served home."""
    def turn(episode):
        approver.begin(episode)
        event = {"text": episode.prompt, "agent": AGENT, "wait": True, "wait_ms": WAIT_MS}
        answers = []
        talk = threading.Thread(
            target=lambda: answers.append(server.call("POST", "/v1/events", event, timeout=WAIT_MS / 1000 + 10))
        )
        talk.start()
        cards = 0
        while desk and talk.is_alive():
            cards += desk.work(approver)
            talk.join(0.02)
        talk.join()
        (status, answer), = answers or [(0, "the server did not answer")]
        assert status == 200, f"{episode.name}: expected an answer, saw {status}: {answer}"
        refused = refusals(server, answer["run"])
        # Without a desk the asks of a step are a card that nobody saw.
        asked = {approvers.step_of(call) for call, rule in refused if rule.startswith("ask ")}
        # A refused answer has no text.
        return answer["reply"] or "", [rule for _, rule in refused], cards if desk else len(asked)
    return turn


def refusals(server, run):
    """The calls of a run that were refused, each with the rule that did."""
    refused, after = [], 0
    while True:
        entries = server.get(f"/v1/runs/{run}/journal?limit=256&after={after}")["entries"]
        refused += [(entry["fields"]["call"], entry["fields"].get("rule") or entry["fields"]["status"])
                    for entry in entries if entry["kind"] == "tool_refused"]
        if len(entries) < 256:
            return refused
        after = entries[-1]["seq"]


def configuration(name, stage, approvals=None):
    """The file of a home; JSON is YAML."""
    model = {"kind": "openai", "base_url": f"{stage.model_url}/v1", "model": "replay", "stream": False,
             "context_tokens": 1_000_000, "price": {"input": 0, "output": 0}}
    return json.dumps({
        "version": 1,
        "models": {"default": model},
        "engine": {"model_calls_max": 64, "loop_same": 0},
        "context": {"bytes_max": 4 << 20},
        "tools": {"external": suites.external(name, stage.tools_url)},
        **({"approvals": approvals} if approvals else {}),
    }, indent=1)


@contextlib.contextmanager
def served(name, stage, policies, plans, approvals):
    """A served home with the tools of a suite, and an agent that may use them all."""
    with home.served(configuration(name, stage, approvals), lambda place: lay(place, policies)) as server:
        grants = ["model", "reply", f"{name}.*"] + (["plan.declare"] if plans else [])
        server.cli("agent", "create", AGENT, *(word for grant in grants for word in ("--grant", grant)))
        yield server


def lay(place, policies):
    """Lays policies over the shipped one."""
    for policy in policies:
        shutil.copytree(policy, place / "policies", dirs_exist_ok=True)


def chosen(name, every):
    benign, attacks = list(suites.benign(name))[::every], list(suites.attacks(name))[::every]
    return benign + attacks


def replay(arguments):
    names = arguments.suite or list(suites.SUITES)
    # A replay in part takes each n-th task and pair, of which a number without common factors meets every attack.
    episodes = {name: chosen(name, arguments.every) for name in names}
    everyone = [episode for name in names for episode in episodes[name]]
    turned = {name: list(suites.in_plan(name))[::arguments.every] for name in names}
    in_plan = [episode for name in names for episode in turned[name]]
    outcome = {
        "version": 1,
        "agentdojo": importlib.metadata.version("agentdojo"),
        "benchmark": suites.BENCHMARK,
        "program": "",
        "tasks": sum(1 for episode in everyone if not episode.attack),
        "pairs": sum(1 for episode in everyone if episode.attack),
        "lines": {"policy": 0, "manifests": {name: suites.manifest_lines(name) for name in names}},
        "in_plan_pairs": len(in_plan),
        "rows": [],
        "in_plan": [],
        "approvers_missing": [],
    }
    with contextlib.ExitStack() as stack:
        stage = Stage(stack)
        turn = bare_turn(stage)
        played = [stage.play(episode, turn) for episode in everyone]
        outcome["rows"].append(report.row(report.BARE, "-", played))
        outcome["in_plan"].append(report.in_plan(report.BARE, "-", [stage.play(episode, turn) for episode in in_plan]))
        print(f"bare: {len(played)} replayed", file=sys.stderr)
        guard = "+".join(pathlib.Path(policy).name for policy in arguments.policy) or "shipped"
        guard += "" if arguments.plan else " without plans"
        has_desk = approvers.has_approvals(home.BINARY, home.environment(HERE / "nowhere"))
        for label in arguments.approver or list(approvers.APPROVERS):
            approver, played, misused = approvers.APPROVERS[label](), [], []
            if approver.needs_desk and not has_desk:
                outcome["approvers_missing"].append(label)
                continue
            approvals = approvers.UNATTENDED if has_desk and not approver.needs_desk else None
            for name in names:
                with served(name, stage, arguments.policy, arguments.plan, approvals) as server:
                    outcome["program"] = server.cli("--version").strip()
                    outcome["lines"]["policy"] = policy_lines(server, arguments.policy)
                    desk = approvers.Desk(server) if approver.needs_desk else None
                    turn = guarded_turn(server, approver, desk)
                    played += [stage.play(episode, turn, arguments.plan) for episode in episodes[name]]
                    if not approver.needs_desk:
                        misused += [stage.play(episode, turn, arguments.plan) for episode in turned[name]]
            outcome["rows"].append(report.row(guard, label, played))
            if not approver.needs_desk:
                outcome["in_plan"].append(report.in_plan(guard, label, misused))
            print(f"{guard}/{label}: {len(played)} replayed", file=sys.stderr)
    outcome["problems"] = report.problems(outcome)
    outcome["goals"] = report.goals(outcome)
    return outcome


def policy_lines(server, policies):
    """Lines of the shipped policy, and of what is laid over it, without comments and empty ones."""
    texts = [server.cli("policy", "show")]
    for policy in policies:
        texts += [file.read_text() for file in sorted(pathlib.Path(policy).rglob("*.rego"))]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return sum(1 for line in lines if line and not line.startswith("#"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", action="append", choices=suites.SUITES)
    parser.add_argument("--approver", action="append", choices=list(approvers.APPROVERS))
    parser.add_argument("--policy", action="append", default=[], help="a folder of .rego files laid over the shipped policy")
    parser.add_argument("--no-plan", dest="plan", action="store_false", help="the model declares no plan before it reads")
    parser.add_argument("--every", type=int, default=1, help="only every n-th task and pair")
    parser.add_argument("--out", default="-", help="where the report goes as JSON")
    parser.add_argument("--goals", action="store_true", help="fail if a goal is not met")
    arguments = parser.parse_args()
    outcome = replay(arguments)
    if arguments.out == "-":
        print(json.dumps(outcome, indent=1))
    else:
        pathlib.Path(arguments.out).write_text(json.dumps(outcome, indent=1) + "\n")
    print(report.table(outcome), file=sys.stderr if arguments.out == "-" else sys.stdout)
    unmet = arguments.goals and not all(goal["met"] for goal in outcome["goals"])
    sys.exit(1 if outcome["problems"] or unmet else 0)


if __name__ == "__main__":
    main()
