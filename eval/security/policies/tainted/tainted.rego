# What can be said with labels of the context and manifests alone: after something that nobody here vouches for, whatever
# reaches others, or cannot be undone, takes a person. It knows no task and no tool by name.
package dromia.policy

import rego.v1

verdicts contains {
	"verdict": "ask",
	"rule": "tainted-outside",
	"reason": "somebody else may have asked for it, and it reaches others or cannot be undone",
} if {
	input.context.integrity == "untrusted"
	input.action.sink == "outside"
	input.action.effect != "pure"
}
