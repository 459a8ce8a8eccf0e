package dromia.policy

import rego.v1

tainted_call := {
	"version": 1,
	"context": {"integrity": "untrusted", "readers": "agent"},
	"action": {"kind": "tool", "tool": "bank.pay", "effect": "keyed", "sink": "outside", "arguments": {}},
}

test_asks_for_what_reaches_others if {
	some verdict in verdicts with input as tainted_call
	verdict.rule == "tainted-outside"
}

test_says_nothing_of_what_stays_inside if {
	count(verdicts) == 0 with input as object.union(tainted_call, {"action": {"sink": "inside"}})
}

test_says_nothing_of_what_a_trusted_text_led_to if {
	count(verdicts) == 0 with input as object.union(tainted_call, {"context": {"integrity": "trusted"}})
}
