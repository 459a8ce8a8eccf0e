# After something that nobody here vouches for, what reaches others or cannot be undone needs to have been said by a person:
# each place that it goes to, each thing that it acts upon, and each key that it sets. It knows no task and no tool by name.
package dromia.policy

import rego.v1

# What must have been said. An argument without a role carries something; it decides nothing.
deciding := {"credential", "destination", "object"}

is_tainted if input.context.integrity == "untrusted"

is_seen_by_others if {
	input.action.sink == "outside"
	input.action.effect != "pure"
}

# An argument that is not there, or names nobody.
absent := {null, []}

unsaid contains name if {
	some name, role in input.action.roles
	role in deciding
	not object.get(input.action.arguments, name, null) in absent
	not name in input.action.endorsed
}

verdicts contains {
	"verdict": "ask",
	"rule": "unsaid",
	"reason": concat("", ["somebody else may have chosen ", concat(", ", sort(unsaid))]),
} if {
	is_tainted
	is_seen_by_others
	count(unsaid) > 0
}

# What nobody described reaches others, for all that is known.
verdicts contains {
	"verdict": "ask",
	"rule": "undescribed",
	"reason": "nobody said what this tool does with what it is given",
} if {
	is_tainted
	input.action.kind == "tool"
	not input.action.sink
}
