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

test_an_object_was_said_wherever_it_goes if {
	keyed({"id": "object", "to": "destination"}, {"id": "12", "to": "bob"}, ["to"]) == ["unsaid-object"]
}

# A payment, where it lies within the plan.
paid(arguments, planned, endorsed) := asked({"action": {
	"roles": {"id": "object", "key": "credential", "note": "payload", "sum": "amount", "to": "destination"},
	"arguments": arguments, "planned": planned, "endorsed": endorsed,
}})

test_what_the_plan_binds_is_allowed if {
	count(paid({"to": "bob", "id": "12", "sum": 9, "note": "n"}, ["to", "id", "sum", "note"], [])) == 0
}

test_an_amount_was_planned_or_said if {
	paid({"to": "bob", "sum": 9000}, ["to"], []) == ["unsaid-object"]
	count(paid({"to": "bob", "sum": 9000}, ["to"], ["sum"])) == 0
}

test_another_object_than_the_planned_one_is_asked_about if {
	paid({"to": "bob", "id": "13"}, ["to"], []) == ["unsaid-object"]
}

test_an_argument_without_a_role_was_planned_or_said if {
	paid({"to": "bob", "again": true}, ["to"], []) == ["unsaid-object"]
	paid({"to": "bob", "again": false}, ["to"], []) == ["unsaid-object"]
	count(paid({"to": "bob", "again": true}, ["to", "again"], [])) == 0
	count(paid({"to": "bob", "again": true}, ["to"], ["again"])) == 0
	count(paid({"to": "bob", "again": null}, ["to"], [])) == 0
	count(asked({"action": {"effect": "pure", "roles": {}, "arguments": {"again": true}}})) == 0
	count(asked({"action": {"sink": "inside", "roles": {}, "arguments": {"again": true}}})) == 0
}

test_of_a_tool_that_nobody_described_each_argument_was_planned_or_said if {
	call := {"arguments": {"again": true}, "planned": [], "endorsed": []}
	action := object.union(object.remove(planned_call.action, ["sink"]), call)
	said := verdicts with input as object.union(object.remove(planned_call, ["action"]), {"action": action})
	"unsaid-object" in {one.rule | some one in said}
}

test_no_plan_says_a_key if paid({"to": "bob", "key": "k"}, ["to", "key"], []) == ["unsaid-object"]

test_what_was_planned_is_said_to_whoever_is_asked if {
	some one in verdicts with input as object.union(planned_call, {"action": {
		"roles": {"sum": "amount"}, "arguments": {"sum": 9000}, "plan": {"bounds": "1 call (1 left), amount at most 50"},
	}})
	one.rule == "unsaid-object"
	one.reason == "somebody else may have chosen sum; planned was 1 call (1 left), amount at most 50"
	some other in verdicts with input as object.union(planned_call, {"action": {
		"in_plan": false, "plan": {"bounds": "1 call (0 left) to bob"},
	}})
	other.rule == "unplanned"
	endswith(other.reason, "; planned was 1 call (0 left) to bob")
}

# A text, after a turn has read what is somebody's own.
told(changed, planned, endorsed) := asked(object.union({"context": {"sensitivity": "high"}, "action": {
	"roles": {"note": "payload", "to": "destination"}, "arguments": {"note": "n", "to": "bob"},
	"planned": planned, "endorsed": endorsed, "sources": ["mail.read"], "uncarried": ["mail.read"],
}}, changed))

test_a_text_of_its_own_does_not_carry_what_is_sensitive if told({}, ["to"], []) == ["unplanned-content"]

test_a_look_elsewhere_does_not_carry_it_either if {
	told({"action": {"effect": "pure"}}, ["to"], []) == ["unplanned-content"]
}

test_a_text_that_was_planned_or_said_carries_nothing if {
	count(told({}, ["to", "note"], [])) == 0
	count(told({}, ["to"], ["note"])) == 0
	count(told({"action": {"arguments": {"note": null}}}, ["to"], [])) == 0
}

test_what_was_planned_to_be_carried_is_carried if count(told({"action": {"uncarried": []}}, ["to"], [])) == 0

test_what_anybody_may_know_is_carried if count(told({"context": {"sensitivity": "low"}}, ["to"], [])) == 0

test_what_stays_inside_carries_what_it_likes if count(told({"action": {"sink": "inside"}}, ["to"], [])) == 0

test_a_text_without_a_receiver_was_said if {
	low := {"context": {"sensitivity": "low"}}
	nobody := {"note": "n", "to": []}
	told(object.union(low, {"action": {"arguments": nobody}}), [], []) == ["unsaid-text"]
	count(told(object.union(low, {"action": {"arguments": nobody}}), ["note"], [])) == 0
	count(told(object.union(low, {"action": {"arguments": nobody, "effect": "pure"}}), [], [])) == 0
}

test_a_tool_that_leads_nowhere_says_what_it_likes if {
	count(asked({"action": {"roles": {"note": "payload"}, "arguments": {"note": "n"}, "endorsed": [], "planned": []}})) == 0
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
