//! What bounds the workers that a call spawns: never more than the run that makes the call may do now.

use dromia_contracts::content::ContentPart;
use dromia_contracts::gate::Gate;
use dromia_contracts::label::Label;
use dromia_contracts::tool::ToolOutput;
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::tool_policy::CLEARED;

/// What every worker keeps, whatever it is narrowed to: without these it could not answer.
const KEPT: [&str; 2] = ["model", "reply"];

/// Writes into the origin of each worker what it may do at most, of what the run may do that spawns it. The tool leaves there the rights
/// that the call asks for; none means all.
pub(super) fn bound_children(
    gate: &dyn Gate,
    tools: &ToolCatalogue,
    own: &[String],
    mut output: ToolOutput,
) -> ToolOutput {
    for origin in output.opens.iter_mut().filter_map(|open| open.origin.as_mut()) {
        if let Err(problem) = gate.check_grants(&origin.grants, tools) {
            let text = format!("Nothing was spawned: in `rights`, {problem}.");
            let parts = vec![ContentPart::new_text(text, Label::PUBLIC_FACT)];
            return ToolOutput { failed: true, parts, ..ToolOutput::default() };
        }
        let mut narrowed = std::mem::take(&mut origin.grants);
        origin.grants = gate.share_grants(own, own);
        if !narrowed.is_empty() {
            narrowed.extend(KEPT.map(str::to_owned));
            // The operator's word for a tool counts only together with a grant of the tool.
            narrowed.extend(own.iter().filter(|word| word.starts_with(CLEARED)).cloned());
            origin.grants = gate.share_grants(&origin.grants, &narrowed);
        }
    }
    output
}
