# What the policy of every server promises; `dromia policy test` runs it.
package dromia.policy

import rego.v1

granted := {
	"version": 1,
	"tenant": "t",
	"agent": "a",
	"author": "cli:ada",
	"capability": "grant file.read",
	"context": {"integrity": "trusted", "readers": "actor"},
	"permissions": [],
	"action": {"kind": "tool", "tool": "file.read", "effect": "pure", "arguments": {}},
}

test_what_a_grant_covers_is_allowed if {
	said := verdicts with input as granted
	{one.verdict | some one in said} == {"allow"}
}

test_no_grant_is_a_deny if {
	said := verdicts with input as object.union(granted, {"capability": ""})
	{one.rule | some one in said} == {"no-capability"}
}

test_no_word_of_a_grant_is_a_deny if {
	said := verdicts with input as object.remove(granted, ["capability"])
	{one.rule | some one in said} == {"no-capability"}
}

test_an_unknown_kind_is_a_deny if {
	said := verdicts with input as object.union(granted, {"action": {"kind": "dream"}})
	{one.rule | some one in said} == {"unknown-action"}
}

test_another_version_is_a_deny if {
	said := verdicts with input as object.union(granted, {"version": 2})
	{one.rule | some one in said} == {"unknown-action"}
}

test_every_permission_counts if {
	rows := [{"verdict": "deny", "tool": "file.read"}, {"verdict": "ask", "tool": "file.*"}]
	said := verdicts with input as object.union(granted, {"permissions": rows})
	{one.verdict | some one in said} == {"allow", "ask", "deny"}
}

test_what_cannot_be_undone_is_judged_as_the_file_says if {
	call := {"action": {"irreversible": true}, "irreversible": "delay"}
	said := verdicts with input as object.union(granted, call)
	{one.verdict | some one in said} == {"allow", "delay"}
}

test_the_setting_is_named_that_forbids_what_cannot_be_undone if {
	call := {"action": {"irreversible": true}, "irreversible": "deny"}
	said := verdicts with input as object.union(granted, call)
	some one in said
	one.rule == "irreversible"
	one.reason == "irreversible.action in dromia.yaml says abort for what cannot be undone"
}

test_what_can_be_undone_is_not_delayed if {
	call := {"action": {"irreversible": false}, "irreversible": "deny"}
	said := verdicts with input as object.union(granted, call)
	{one.verdict | some one in said} == {"allow"}
}

planned_call := {
	"version": 1,
	"capability": "grant bank.pay",
	"context": {"integrity": "untrusted", "readers": "agent"},
	"permissions": [],
	"action": {
		"kind": "tool", "tool": "bank.pay", "effect": "keyed", "sink": "outside",
		"in_plan": true, "plan": {"frozen": true, "tools": ["bank.pay"]},
	},
}

asked(changed) := [one.rule |
	some one in verdicts with input as object.union(planned_call, changed)
	one.verdict == "ask"
]

test_what_was_planned_is_allowed if count(asked({})) == 0

test_what_was_not_planned_is_asked_about if asked({"action": {"in_plan": false}}) == ["unplanned"]

test_what_says_nothing_of_a_plan_is_asked_about if {
	action := object.remove(planned_call.action, ["in_plan", "plan"])
	said := verdicts with input as object.union(object.remove(planned_call, ["action"]), {"action": action})
	"unplanned" in {one.rule | some one in said}
}

test_a_look_elsewhere_is_asked_about if asked({"action": {"in_plan": false, "effect": "pure"}}) == ["unplanned"]

test_a_tool_that_nobody_described_is_asked_about if {
	action := {"kind": "tool", "tool": "a.b", "effect": "keyed", "in_plan": false}
	said := verdicts with input as object.union(object.remove(planned_call, ["action"]), {"action": action})
	"unplanned" in {one.rule | some one in said}
}

test_what_stays_inside_is_not_asked_about if count(asked({"action": {"in_plan": false, "sink": "inside"}})) == 0

test_what_the_operator_allows_is_not_asked_about if {
	rows := [{"verdict": "allow", "tool": "bank.*"}]
	thing := {"in_plan": false, "roles": {"id": "object"}, "arguments": {"id": "12"}, "endorsed": []}
	count(asked({"permissions": rows, "action": thing})) == 0
}

test_a_frozen_plan_stays_frozen_whatever_is_told if {
	asked({"context": {"integrity": "trusted"}, "action": {"in_plan": false}}) == ["unplanned"]
}

test_while_a_plan_is_open_nothing_is_asked_about if {
	count(asked({"context": {"integrity": "trusted"}, "action": {"in_plan": false, "plan": {"frozen": false}}})) == 0
}

test_a_reply_is_in_no_plan if {
	reply := {"action": {"kind": "reply", "session": "s"}}
	said := verdicts with input as object.union(object.remove(planned_call, ["action"]), reply)
	{one.verdict | some one in said} == {"allow"}
}

# What is deleted, and a key that is set.
keyed(roles, arguments, endorsed) := asked({"action": {"roles": roles, "arguments": arguments, "endorsed": endorsed}})

test_an_object_of_a_tool_that_leads_nowhere_was_said if keyed({"id": "object"}, {"id": "12"}, []) == ["unsaid-object"]

test_an_object_that_was_said_is_allowed if count(keyed({"id": "object"}, {"id": "report.pdf"}, ["id"])) == 0

test_an_object_goes_where_it_was_planned if {
	count(keyed({"id": "object", "to": "destination"}, {"id": "12", "to": "bob"}, [])) == 0
}

test_a_key_was_said_wherever_it_goes if {
	roles := {"key": "credential", "to": "destination"}
	keyed(roles, {"key": "k", "to": "bob"}, ["to"]) == ["unsaid-object"]
	count(keyed(roles, {"key": null, "to": "bob"}, ["to"])) == 0
}

# A program, in the folder that its tool takes by itself.
a_program := {
	"roles": {"argv": "payload", "cwd": "object"}, "arguments": {"argv": ["git"], "cwd": "."},
	"endorsed": ["cwd"], "network": "proxy",
}

program(changed) := asked({"action": object.union(a_program, changed)})

test_what_a_program_runs_was_said if program({}) == ["unsaid-object"]

test_a_program_that_was_said_is_allowed if count(program({"endorsed": ["argv", "cwd"]})) == 0

test_a_program_that_stays_inside_is_not_asked_about if count(program({"network": "none", "sink": "inside"})) == 0

test_a_look_at_an_object_is_not_asked_about if {
	count(asked({"action": {"effect": "pure", "roles": {"id": "object"}, "arguments": {"id": "12"}, "endorsed": []}})) == 0
}

test_an_object_inside_is_not_asked_about if {
	count(asked({"action": {"sink": "inside", "roles": {"id": "object"}, "arguments": {"id": "12"}, "endorsed": []}})) == 0
}

test_an_object_of_a_clean_turn_is_not_asked_about if {
	clean := {"plan": {"frozen": false}, "roles": {"id": "object"}, "arguments": {"id": "12"}, "endorsed": []}
	count(asked({"context": {"integrity": "trusted"}, "action": clean})) == 0
}
