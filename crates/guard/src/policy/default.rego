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

# 5. After something that nobody here vouches for, what does not stay inside was planned before it came: the tool, how often,
# and each place that the call leads to. What stays inside keeps the label of what led to it: files and messages, and so a program
# that is given no way out, because it can only change files (input.action.network is "none"). A permission that allows the
# tool is the operator's word for it, whatever was read.
may_be_misled if input.context.integrity == "untrusted"

may_be_misled if input.action.plan.frozen

stays_inside if input.action.sink == "inside"

is_vouched_for if {
	some row in input.permissions
	row.verdict == "allow"
}

bounds := object.get(object.get(input.action, "plan", {}), "bounds", "")

planned_was := concat("", ["; planned was ", bounds]) if bounds != ""

planned_was := "" if bounds == ""

verdicts contains {
	"verdict": "ask",
	"rule": "unplanned",
	"reason": concat("", [
		input.action.tool, " was not planned like this before somebody else's text was read", planned_was,
	]),
} if {
	input.action.kind == "tool"
	may_be_misled
	not stays_inside
	not is_vouched_for
	not input.action.in_plan
}

# 6. What a call acts upon and how much of it was planned, or said by a person, or is what the tool takes by itself; so is an
# argument of which nobody said what it means. Which key is set, and what a program is given to run, no plan says: a person does.
left_open contains "amount"

left_open contains "credential"

left_open contains "none"

left_open contains "object"

left_open contains "payload" if input.action.network

is_bound(name, _) if name in input.action.endorsed

is_bound(name, role) if {
	role in {"amount", "none", "object"}
	name in input.action.planned
}

is_given(name) if not object.get(input.action.arguments, name, null) in {null, [], ""}

# The role of every argument; of a tool that nobody described none has one.
described := object.get(input.action, "roles", {})

roles := object.union({name: "none" | some name, _ in input.action.arguments}, described)

left_unsaid contains name if {
	some name, role in roles
	role in left_open
	is_given(name)
	not is_bound(name, role)
}

may_do_harm if {
	not stays_inside
	may_be_misled
	not is_vouched_for
}

verdicts contains {
	"verdict": "ask",
	"rule": "unsaid-object",
	"reason": concat("", ["somebody else may have chosen ", concat(", ", sort(left_unsaid)), planned_was]),
} if {
	may_do_harm
	input.action.effect != "pure"
	count(left_unsaid) > 0
}

# 7. What a call says was planned or typed word for word, where it tells somebody what the turn learned from tools whose results
# are sensitive and which this call was not planned to carry; and where it names nobody whom it leads to, though it could.
unsaid_text contains name if {
	some name, role in input.action.roles
	role == "payload"
	is_given(name)
	not name in input.action.endorsed
	not name in input.action.planned
}

could_lead if "destination" in {role | some role in input.action.roles}

leads_somewhere if {
	some name, role in input.action.roles
	role == "destination"
	is_given(name)
}

verdicts contains {
	"verdict": "ask",
	"rule": "unplanned-content",
	"reason": concat("", [
		concat(", ", sort(unsaid_text)), " may tell what ", concat(", ", input.action.uncarried), " told", planned_was,
	]),
} if {
	may_do_harm
	count(unsaid_text) > 0
	input.context.sensitivity == "high"
	count(input.action.uncarried) > 0
}

verdicts contains {
	"verdict": "ask",
	"rule": "unsaid-text",
	"reason": concat("", ["somebody else may have written ", concat(", ", sort(unsaid_text)), ", and it names no receiver"]),
} if {
	may_do_harm
	input.action.effect != "pure"
	could_lead
	not leads_somewhere
	count(unsaid_text) > 0
}

# 8. Within its capability an agent acts.
verdicts contains {
	"verdict": "allow",
	"rule": "within-capability",
	"reason": "",
} if {
	has_capability
	is_known
}
