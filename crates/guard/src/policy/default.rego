# The policy that every server has. It is asked about each tool call, each request to a model and each reply, after the
# agent's grants and before anything happens. Files in policies/ are asked beside it: they can forbid what it allows, and
# cannot allow what it forbids.
#
# Of everything that the layers say, deny goes before ask, ask before delay, and delay before allow. Where nothing is said,
# it is denied; so is what cannot be evaluated. An ask that nobody can answer is a refusal that says so.
package dromia.policy

import rego.v1

# What may happen: one of these, with no objection.
kinds := {"tool", "model", "reply"}

is_known if {
	input.version == 1
	input.action.kind in kinds
}

has_capability if input.capability != ""

# 1. Nothing happens without a grant that covers it.
verdicts contains {
	"verdict": "deny",
	"rule": "no-capability",
	"reason": "no grant of the agent covers it",
} if {
	not has_capability
}

# 2. What this policy was not written for does not happen.
verdicts contains {
	"verdict": "deny",
	"rule": "unknown-action",
	"reason": "the policy does not know this kind of action",
} if {
	not is_known
}

# 3. What `permissions` of dromia.yaml say about the tool; every row counts.
verdicts contains {
	"verdict": row.verdict,
	"rule": "permission",
	"reason": concat("", ["permissions in dromia.yaml say ", row.verdict, " for ", row.tool]),
} if {
	some row in input.permissions
}

# 4. What `irreversible` of dromia.yaml says about calls that cannot be undone.
verdicts contains {
	"verdict": input.irreversible,
	"rule": "irreversible",
	"reason": "it cannot be undone",
} if {
	input.action.irreversible
	input.irreversible != "allow"
}

# 5. Within its capability an agent acts.
verdicts contains {
	"verdict": "allow",
	"rule": "within-capability",
	"reason": "",
} if {
	has_capability
	is_known
}
