package dromia.policy

import rego.v1

planned_call := {
	"version": 1,
	"context": {"integrity": "untrusted", "readers": "agent"},
	"action": {
		"kind": "tool", "tool": "bank.pay", "effect": "keyed", "sink": "outside",
		"in_plan": true, "plan": {"frozen": true, "tools": ["bank.pay"]},
	},
}

# Other policies may be laid beside this one; their verdicts are not its.
ruled(changed) := [verdict.rule |
	some verdict in verdicts with input as object.union(planned_call, changed)
	verdict.rule in {"unplanned", "unsaid-object"}
]

test_allows_what_was_planned if count(ruled({})) == 0

test_asks_for_what_was_not_planned if ruled({"action": {"in_plan": false}}) == ["unplanned"]

test_asks_where_nothing_is_said_of_a_plan if {
	action := object.remove(planned_call.action, ["in_plan", "plan"])
	said := verdicts with input as object.union(object.remove(planned_call, ["action"]), {"action": action})
	"unplanned" in {one.rule | some one in said}
}

test_asks_also_for_what_stays_inside if ruled({"action": {"in_plan": false, "sink": "inside"}}) == ["unplanned"]

test_asks_for_a_look_elsewhere if ruled({"action": {"in_plan": false, "effect": "pure"}}) == ["unplanned"]

test_asks_for_a_tool_that_nobody_described if {
	action := {"kind": "tool", "tool": "a.b", "effect": "keyed", "in_plan": false}
	said := verdicts with input as {"version": 1, "context": {"integrity": "untrusted"}, "action": action}
	"unplanned" in {one.rule | some one in said}
}

# What is deleted, and a key that is set.
keyed(roles, arguments, endorsed) := ruled({"action": {"roles": roles, "arguments": arguments, "endorsed": endorsed}})

test_asks_which_object_if_the_tool_leads_nowhere if keyed({"id": "object"}, {"id": "12"}, []) == ["unsaid-object"]

test_allows_an_object_that_was_said if count(keyed({"id": "object"}, {"id": "report.pdf"}, ["id"])) == 0

test_allows_an_object_that_goes_where_it_was_planned if {
	count(keyed({"id": "object", "to": "destination"}, {"id": "12", "to": "bob"}, [])) == 0
}

test_asks_which_key_wherever_it_goes if {
	roles := {"key": "credential", "to": "destination"}
	keyed(roles, {"key": "k", "to": "bob"}, ["to"]) == ["unsaid-object"]
	count(keyed(roles, {"key": null, "to": "bob"}, ["to"])) == 0
}

test_says_nothing_of_a_look_inside if {
	count(ruled({"action": {"in_plan": false, "effect": "pure", "sink": "inside"}})) == 0
}

test_asks_where_the_plan_is_frozen_though_nothing_untrusted_is_told if {
	ruled({"context": {"integrity": "trusted"}, "action": {"in_plan": false}}) == ["unplanned"]
}

test_says_nothing_while_the_plan_is_open if {
	open := {"context": {"integrity": "trusted"}, "action": {"in_plan": false, "plan": {"frozen": false}}}
	count(ruled(open)) == 0
}

test_says_nothing_of_a_reply if {
	reply := {"version": 1, "context": {"integrity": "untrusted"}, "action": {"kind": "reply", "session": "s"}}
	said := verdicts with input as reply
	count(said) == 0
}
