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

test_what_can_be_undone_is_not_delayed if {
	call := {"action": {"irreversible": false}, "irreversible": "deny"}
	said := verdicts with input as object.union(granted, call)
	{one.verdict | some one in said} == {"allow"}
}
