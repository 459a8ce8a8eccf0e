# After something that nobody here vouches for, what does more than look needs to have been planned before it came: the tool,
# and each place that the call leads to. What a plan does not say must have been said by a person. It knows no task and no
# tool by name.
package dromia.policy

import rego.v1

may_be_misled if input.context.integrity == "untrusted"

may_be_misled if input.action.plan.frozen

# A look at what is this tenant's own. A look elsewhere tells others what is looked for.
only_looks_inside if {
	input.action.effect == "pure"
	input.action.sink == "inside"
}

# Who is told nothing of a plan knows of none.
is_planned if input.action.in_plan == true

verdicts contains {
	"verdict": "ask",
	"rule": "unplanned",
	"reason": concat("", [input.action.tool, " was not planned like this before somebody else's text was read"]),
} if {
	input.action.kind == "tool"
	may_be_misled
	not only_looks_inside
	not is_planned
}

# A plan says where a call leads. It does not say which key is set, nor, of a tool that leads nowhere, what it acts upon.
leads_somewhere if "destination" in {role | some role in input.action.roles}

left_open contains "credential"

left_open contains "object" if not leads_somewhere

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
	may_be_misled
	input.action.sink == "outside"
	input.action.effect != "pure"
	count(left_unsaid) > 0
}
