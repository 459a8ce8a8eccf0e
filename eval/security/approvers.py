"""Who answers where the policy asks for a person.

An approver is a name and a decision about one card. What a card looks like on the wire, and how it is answered, only
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
    """The open cards of a served home, over its API."""

    def __init__(self, server):
        self.server = server

    def work(self, approver):
        """Answers every card that is open, and returns how many there were."""
        cards = self.server.get("/v1/approvals?limit=256")["items"]
        open_cards = [card for card in cards if card["state"] in ("holding", "waiting")]
        for card in open_cards:
            answer = {"approve": approver.allows(call_of(card))}
            status, said = self.server.call("POST", f"/v1/approvals/{card['id']}/answer", answer)
            assert status == 200, f"expected the answer to {card['id']} to be taken, saw {status}: {said}"
        return len(open_cards)


def call_of(card):
    """The call that a card asks about, as traces have it."""
    arguments = card["arguments"]
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    tool = card["tool"].partition(".")[2]
    return suites.Call(tool, json.dumps(arguments, sort_keys=True))
