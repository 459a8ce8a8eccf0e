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

# 4. What `irreversible` of dromia.yaml says about calls that cannot be undone. Its word for a deny is `abort`.
file_word := object.get({"deny": "abort"}, input.irreversible, input.irreversible)

verdicts contains {
	"verdict": input.irreversible,
	"rule": "irreversible",
	"reason": concat("", ["irreversible.action in dromia.yaml says ", file_word, " for what cannot be undone"]),
} if {
	input.action.irreversible
	input.irreversible != "allow"
}

# 5. After something that nobody here vouches for, what does not stay inside was planned before it came: the tool, and each
# place that the call leads to. What stays inside keeps the label of what led to it: files and messages, and so a program
# that is given no way out, because it can only change files (input.action.network is "none"). A permission that allows the
# tool is the operator's word for it, whatever was read.
may_be_misled if input.context.integrity == "untrusted"

may_be_misled if input.action.plan.frozen

stays_inside if input.action.sink == "inside"

is_vouched_for if {
	some row in input.permissions
	row.verdict == "allow"
}

verdicts contains {
	"verdict": "ask",
	"rule": "unplanned",
	"reason": concat("", [input.action.tool, " was not planned like this before somebody else's text was read"]),
} if {
	input.action.kind == "tool"
	may_be_misled
	not stays_inside
	not is_vouched_for
	not input.action.in_plan
}

# 6. A plan says where a call leads. It does not say which key is set, nor, of a tool that leads nowhere, what it acts upon, nor
# what a program is given to run: that was said by a person, or is what the tool takes by itself.
leads_somewhere if "destination" in {role | some role in input.action.roles}

left_open contains "credential"

left_open contains "object" if not leads_somewhere

left_open contains "payload" if input.action.network

left_unsaid contains name if {
	some name, role in input.action.roles
	role in left_open
	not object.get(input.action.arguments, name, null) in {null, []}
	not name in input.action.endorsed
}

verdicts contains {
	"verdict": "ask",
	"rule": "unsaid-object",
	"reason": concat("", ["somebody else may have chosen ", concat(", ", sort(left_unsaid))]),
} if {
	input.action.sink == "outside"
	input.action.effect != "pure"
	may_be_misled
	not is_vouched_for
	count(left_unsaid) > 0
}

# 7. Within its capability an agent acts.
verdicts contains {
	"verdict": "allow",
	"rule": "within-capability",
	"reason": "",
} if {
	has_capability
	is_known
}
