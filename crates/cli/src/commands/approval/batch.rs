//! Calls that one model step asked for: they wait together, are shown together, and may be answered by one command that
//! names each of them. That command leaves out a call that was not shown whole.

use dromia_api::approval::ApprovalResource;
use dromia_api::list::LIMIT_MAX;
use dromia_api::{ApprovalId, ApprovalState, ListPage, RunId, escape_hidden};

use super::Cli;
use crate::client::percent_encode;
use crate::error::Outcome;

/// How many characters of each other call are shown; `approval show` has all of a longer one.
const OTHER_SHOWN: usize = 160;

/// The most pages of open approvals that are looked through: as many as a tenant has.
const PAGES_MAX: usize = 4;

/// The step that asked for a call.
fn step_key(approval: &ApprovalResource) -> (RunId, u32) {
    (approval.source.run, approval.source.call.step)
}

/// How many of the last digits of a run's id are in the mark of its steps.
const RUN_DIGITS: usize = 6;

/// Marks the steps of a listing that asked for more than one of its calls: the same in each listing.
pub(super) struct StepMarks(Vec<(RunId, u32)>);

impl StepMarks {
    pub(super) fn from_listing(list: &[ApprovalResource]) -> Self {
        let mut several = Vec::new();
        for (place, approval) in list.iter().enumerate() {
            let asked = step_key(approval);
            let is_one = !list[place + 1..].iter().any(|other| step_key(other) == asked);
            if !is_one && !several.contains(&asked) {
                several.push(asked);
            }
        }
        Self(several)
    }

    /// Returns the mark of a call's step; nothing for a call that is alone.
    pub(super) fn step_mark(&self, approval: &ApprovalResource) -> String {
        let (run, number) = step_key(approval);
        if !self.0.contains(&(run, number)) {
            return String::new();
        }
        let run = run.to_string();
        let digits = run.get(run.len().saturating_sub(RUN_DIGITS)..).unwrap_or_default();
        format!("#{digits}.{number}")
    }
}

/// Reads the other calls of an approval's step that wait for an answer, in their order.
pub(super) async fn fetch_other_calls(
    cli: &Cli<'_>,
    approval: &ApprovalResource,
) -> Outcome<Vec<ApprovalResource>> {
    let mut others = Vec::new();
    let mut after = String::new();
    for _ in 0..PAGES_MAX {
        let agent = percent_encode(&approval.source.agent.to_string());
        let path = format!("/v1/approvals?open=true&agent={agent}&limit={LIMIT_MAX}{after}");
        let list: ListPage<ApprovalResource> = cli.client.get(&path).await?;
        others.extend(list.items.into_iter().filter(|other| is_other(approval, other)));
        let Some(next) = list.next else { break };
        after = format!("&after={}", percent_encode(&next));
    }
    others.sort_by_key(|other| other.source.call);
    Ok(others)
}

fn is_other(approval: &ApprovalResource, other: &ApprovalResource) -> bool {
    step_key(other) == step_key(approval) && other.id != approval.id
}

/// Says which other calls wait, and the command that approves all that is shown whole; nothing where there are none.
pub(super) fn other_calls_notice(approval: &ApprovalResource, others: &[ApprovalResource]) -> Option<String> {
    if others.is_empty() {
        return None;
    }
    let waits = matches!(approval.state, ApprovalState::Holding | ApprovalState::Waiting);
    let head = if waits {
        "the same step also asks for these calls:"
    } else {
        "other calls of the same step that still wait:"
    };
    let mut lines = vec![head.to_owned()];
    let mut whole = Vec::new();
    for other in others {
        let call =
            format!("{} {}", escape_hidden(&other.judged.tool), escape_hidden(&other.judged.arguments));
        let short = truncate_text(&call, OTHER_SHOWN);
        lines.push(format!("  {}  {short}", other.id));
        if short == call {
            whole.push(other.id);
        } else {
            // On a line of its own, which no call can begin: line breaks are spelled out.
            lines.push(format!("      read it first: `dromia approval show {}`", other.id));
        }
    }
    if !whole.is_empty() {
        // What was answered is in no command, so "all" would leave it out.
        let which = match (whole.len() == others.len(), waits, whole.len()) {
            (false, ..) => "the calls shown in full",
            (true, true, _) => "all of them",
            (true, false, 1) => "it",
            (true, false, _) => "them",
        };
        let ids: Vec<String> =
            waits.then_some(approval.id).into_iter().chain(whole).map(|id| id.to_string()).collect();
        lines.push(format!("approve {which}: dromia approval approve {}", ids.join(" ")));
    }
    Some(lines.join("\n"))
}

/// Cuts a text off, and marks where.
pub(super) fn truncate_text(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Says which approvals were answered with the first one.
pub(super) fn also_told(also: &[ApprovalId]) -> String {
    if also.is_empty() {
        return String::new();
    }
    let ids: Vec<String> = also.iter().map(ToString::to_string).collect();
    format!("; also answered: {}", ids.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An approval of a call, by its last digit.
    fn approval(id: u8, run: u8, call: &str) -> ApprovalResource {
        let of = |prefix: &str, byte: u8| format!("{prefix}_{}", format!("{byte:02x}").repeat(16));
        let digest = "0f".repeat(32);
        let time = "2026-01-01T00:00:00Z";
        let text = serde_json::json!({
            "id": of("apr", id), "state": "holding", "agent": of("agt", 1), "session": of("ses", 2),
            "run": of("run", run), "call": call, "author": "cli:ada", "tool": "file.write",
            "arguments": format!(r#"{{"path":"{}"}}"#, "x".repeat(usize::from(id))), "origins": [],
            "context": "trusted/actor", "action": digest, "binding": digest, "rule": "permission",
            "reason": "a person looks", "asked_at": time, "holds_until": time, "expires_at": time,
        });
        serde_json::from_value(text).expect("an approval")
    }

    #[test]
    fn only_calls_that_share_a_step_share_a_mark() {
        let list = [
            approval(1, 7, "call_1_0"),
            approval(2, 8, "call_1_0"),
            approval(3, 7, "call_1_2"),
            approval(4, 7, "call_2_0"),
            approval(5, 8, "call_1_1"),
        ];
        let steps = StepMarks::from_listing(&list);
        let marks: Vec<String> = list.iter().map(|approval| steps.step_mark(approval)).collect();
        assert_eq!(marks, ["#070707.1", "#080808.1", "#070707.1", "", "#080808.1"]);
        // Where others stand before them, they are marked no otherwise.
        let mut turned = list.clone();
        turned.reverse();
        let steps = StepMarks::from_listing(&turned);
        assert_eq!(turned.iter().rev().map(|approval| steps.step_mark(approval)).collect::<Vec<_>>(), marks);
    }

    #[test]
    fn the_batch_command_names_only_calls_shown_in_full() {
        let (first, second, third) =
            (approval(1, 7, "call_1_0"), approval(2, 7, "call_1_1"), approval(200, 7, "call_1_2"));
        assert!(is_other(&first, &second) && !is_other(&first, &first));
        assert!(!is_other(&first, &approval(4, 7, "call_2_0")), "another step");
        assert!(!is_other(&first, &approval(5, 8, "call_1_1")), "another run");
        assert_eq!(other_calls_notice(&first, &[]), None);
        let text = other_calls_notice(&first, std::slice::from_ref(&second)).expect("another waits");
        let command = format!("approve all of them: dromia approval approve {} {}", first.id, second.id);
        assert!(text.contains(r#"{"path":"xx"}"#) && text.ends_with(&command), "{text}");
        let text = other_calls_notice(&first, &[second.clone(), third.clone()]).expect("others wait");
        let command =
            format!("approve the calls shown in full: dromia approval approve {} {}", first.id, second.id);
        assert!(text.contains('…') && text.ends_with(&command), "{text}");
        assert!(text.contains(&format!("read it first: `dromia approval show {}`", third.id)), "{text}");
        let text = other_calls_notice(&first, &[third]).expect("another waits");
        assert!(!text.contains("approval approve"), "nobody was shown it: {text}");
        let answered = ApprovalResource { state: ApprovalState::Approved, ..first };
        let text = other_calls_notice(&answered, std::slice::from_ref(&second)).expect("another waits");
        assert!(!text.contains(&answered.id.to_string()) && !text.contains("also asks"), "{text}");
        assert!(text.ends_with(&format!("approve it: dromia approval approve {}", second.id)), "{text}");
    }
}
