"""Who answers where the policy asks for a person.

An approver is a name and a decision about one call. What a card looks like on the wire, and how it is answered, only
`Desk` knows. A program without approvals has no desk: there, whoever is asked is nobody.
"""

import json
import subprocess

import suites


class Nobody:
    """Runs are unattended: an ask is a refusal."""

    name = "none"
    needs_desk = False

    def begin(self, episode):
        pass

    def allows(self, _):
        return False

    def take_back(self, call):
        """The approval of a call came too late: the call may be asked about again."""


class Own(Nobody):
    """Approves what the user's own task needs, each call of it once, and nothing else."""

    name = "own"
    needs_desk = True

    def begin(self, episode):
        self.left = list(episode.own)

    def allows(self, call):
        if call not in self.left:
            return False
        self.left.remove(call)
        return True

    def take_back(self, call):
        self.left.append(call)


class Everything(Nobody):
    """Approves whatever is asked. What it lets through, no person looked at."""

    name = "all"
    needs_desk = True

    def allows(self, _):
        return True


APPROVERS = {approver.name: approver for approver in (Nobody, Own, Everything)}


def has_approvals(binary, environ):
    """Whether the program knows `dromia approval`."""
    known = subprocess.run([binary, "approval", "list", "--help"], env=environ, capture_output=True, timeout=60)
    return known.returncode == 0


# Where nobody answers: an ask in these sessions is refused at once. Events that name no platform are of `http`.
UNATTENDED = {"unattended": ["http"]}


class Desk:
    """The open cards of a served home, over its API. A card is what is put before the approver at once: the approvals of one run
    and step that are open together. What the same step opens after an answer is another card."""

    def __init__(self, server):
        self.server = server

    def work(self, approver):
        """Answers every card that is open, and returns how many there were."""
        asks = self.server.get("/v1/approvals?open=true&limit=256")["items"]
        cards = {}
        for ask in sorted(asks, key=lambda ask: place_of(ask["call"])):
            if ask["state"] in ("holding", "waiting"):
                cards.setdefault((ask["run"], step_of(ask["call"])), []).append(ask)
        for card in cards.values():
            verdicts = [(ask, approver.allows(call_of(ask))) for ask in card]
            # One look, and a request for each of its two answers.
            for verdict in (False, True):
                self.answer(approver, [ask for ask, said in verdicts if said == verdict], verdict)
        return len(cards)

    def answer(self, approver, asks, approve):
        """Gives several approvals of one run the same answer, all or none. Where one was taken back meanwhile, because an answer
        before made it another, none is answered: what is open then is another card."""
        if not asks:
            return
        first, *others = [ask["id"] for ask in asks]
        body = {"approve": approve, **({"also": others} if others else {})}
        status, said = self.server.call("POST", f"/v1/approvals/{first}/answer", body)
        if status == 409:
            for ask in asks if approve else ():
                approver.take_back(call_of(ask))
            return
        assert status == 200, f"expected the answer to {first} to be taken, saw {status}: {said}"


def place_of(call):
    """The step and the place of a call by its id, such as `call_3_0`."""
    _, step, index = call.split("_")
    return int(step), int(index)


def step_of(call):
    return place_of(call)[0]


def call_of(ask):
    """The call that an approval is asked for, as traces have it."""
    arguments = ask["arguments"]
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    tool = ask["tool"].partition(".")[2]
    return suites.Call(tool, json.dumps(arguments, sort_keys=True))
