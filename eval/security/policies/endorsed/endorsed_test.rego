package dromia.policy

import rego.v1

endorsed_call := {
	"version": 1,
	"context": {"integrity": "untrusted", "readers": "agent"},
	"action": {
		"kind": "tool", "tool": "bank.pay", "effect": "keyed", "sink": "outside",
		"roles": {"to": "destination", "cc": "destination", "note": "payload"},
		"arguments": {"to": "x", "note": "y"}, "endorsed": ["to"],
	},
}

# Other policies may be laid beside this one; their verdicts are not its.
said(changed) := [verdict.rule |
	some verdict in verdicts with input as object.union(endorsed_call, changed)
	verdict.rule in {"undescribed", "unsaid"}
]

test_allows_where_each_place_was_said if count(said({})) == 0

test_asks_where_a_place_was_not_said if said({"action": {"endorsed": ["note"]}}) == ["unsaid"]

test_asks_where_one_of_two_places_was_not_said if said({"action": {"arguments": {"cc": "z"}}}) == ["unsaid"]

test_an_empty_list_and_nothing_are_no_place if count(said({"action": {"arguments": {"cc": [], "bcc": null}}})) == 0

test_says_nothing_in_a_trusted_context if {
	count(said({"context": {"integrity": "trusted"}, "action": {"endorsed": []}})) == 0
}

test_says_nothing_of_what_only_looks if count(said({"action": {"effect": "pure", "endorsed": []}})) == 0

test_says_nothing_of_what_stays_inside if count(said({"action": {"sink": "inside", "endorsed": []}})) == 0

test_asks_for_what_nobody_described if {
	undescribed := {"version": 1, "context": {"integrity": "untrusted"}, "action": {"kind": "tool", "tool": "a.b"}}
	some verdict in verdicts with input as undescribed
	verdict.rule == "undescribed"
}
