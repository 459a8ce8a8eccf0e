//! One approval as a person reads it before he answers: the exact call, and where each argument comes from.
//!
//! What is shown is what would be executed, with everything that could hide in it spelled out. Nothing is asked of the server
//! here, and nothing is left out because it is long.

use anstyle::{AnsiColor, Style};
use dromia_api::approval::{ApprovalResource, ArgumentOrigin};
use dromia_api::{BoundFiles, ExecutableFiles, OriginKind, escape_hidden};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::time_span;
use crate::commands::agent_names::AgentHandles;
use crate::error::Outcome;
use crate::output::{CommandOutput, draw_pairs, format_time};

/// The style of an argument that occurs word for word in trusted input.
const SAID: Style = AnsiColor::Green.on_default();
/// What the model wrote.
const WRITTEN: Style = AnsiColor::Yellow.on_default();
/// The style of an argument that occurs in untrusted content.
const FOUND: Style = AnsiColor::Red.on_default().bold();

/// How a word is written in a style.
type PaintWord<'paint> = &'paint dyn Fn(Style, &str) -> String;

/// Shows the exact call.
pub(super) fn print_card(
    approval: &ApprovalResource,
    handles: &AgentHandles,
    unrun: Option<String>,
    output: &mut CommandOutput<'_>,
) -> Outcome {
    if output.is_json() {
        return output.print_document(approval);
    }
    let context = output.context_mut();
    let columns = context.columns.filter(|_| context.out_is_terminal);
    let text = card_text(approval, handles, unrun, columns, &|style, word| output.paint(style, word));
    output.painted_lines(&text)
}

/// Writes all that there is to know before an answer.
pub(in crate::commands) fn card_text(
    approval: &ApprovalResource,
    handles: &AgentHandles,
    unrun: Option<String>,
    columns: Option<u16>,
    paint: PaintWord<'_>,
) -> String {
    let answered = approval.answer.answered_by.as_ref().map(|by| {
        let at = approval.answer.answered_at.map(|at| format!(", {}", format_time(at))).unwrap_or_default();
        let reason = approval.answer.answer_reason.as_deref().map(|why| format!(": {}", escape_hidden(why)));
        format!("{}{at}{}", escape_hidden(by), reason.unwrap_or_default())
    });
    let who = if approval.approvers.is_empty() {
        "any caller with the scope `approve`".to_owned()
    } else {
        escape_hidden(&approval.approvers.join(", "))
    };
    // A closed approval waits for no one and takes no answer.
    let while_open = |text: String| if approval.state.is_open() { text } else { String::new() };
    let refused = "at once, because no person attends the session (approvals.unattended)";
    let text = draw_pairs(&[
        ("approval", approval.id.to_string()),
        ("state", super::state_text(approval.state).to_owned()),
        ("agent", handles.name_with_id(approval.source.agent)),
        ("for", escape_hidden(&approval.source.author)),
        ("run", format!("{} {}", approval.source.run, approval.source.call)),
        ("asked by", format!("{}: {}", escape_hidden(&approval.rule), escape_hidden(&approval.reason))),
        (
            "second opinion",
            approval.opinion.as_ref().map(|told| escape_hidden(&told.opinion_text())).unwrap_or_default(),
        ),
        ("refused", if approval.answer.unattended { refused.to_owned() } else { String::new() }),
        ("run waits", while_open(format!("until {}", format_time(approval.deadlines.holds_until)))),
        (
            "starts by itself",
            while_open(
                approval.deadlines.cools_until.map(|at| start_time_text(at, approval)).unwrap_or_default(),
            ),
        ),
        ("answer", while_open(format!("until {}, by {who}", format_time(approval.deadlines.expires_at)))),
        ("answered", answered.unwrap_or_default()),
        ("did not run", unrun.unwrap_or_default()),
        ("call began", approval.answer.used_by.map(|run| run.to_string()).unwrap_or_default()),
        ("files", approval.judged.contents.map(bound_files_text).unwrap_or_default()),
        ("action", approval.judged.action.to_string()),
    ]);
    let mut lines = vec![text, String::new(), escape_hidden(&approval.judged.tool)];
    lines.extend(argument_lines(approval, paint));
    lines.push(String::new());
    lines.push(origin_legend(columns, paint));
    lines.join("\n")
}

/// Writes the arguments, each with where it comes from.
pub(in crate::commands) fn argument_lines(approval: &ApprovalResource, paint: PaintWord<'_>) -> Vec<String> {
    let Ok(fields) = serde_json::from_str::<Map<String, Value>>(&approval.judged.arguments) else {
        // Arguments that are no JSON object are shown as they are.
        return vec![format!("  {}", escape_hidden(&approval.judged.arguments))];
    };
    let line = |(name, value): (&String, &Value)| {
        let origin = approval.judged.origins.iter().find(|known| known.name == *name);
        argument_line(name, value, origin, paint)
    };
    fields.iter().map(line).collect()
}

/// Says what the words behind the arguments mean; on a terminal as many of them in a line as there is place for.
fn origin_legend(columns: Option<u16>, paint: PaintWord<'_>) -> String {
    const BETWEEN: &str = " · ";
    let words = [
        (SAID, "[default]", "the tool's default"),
        (SAID, "[said]", "from trusted input"),
        (WRITTEN, "[written]", "written by the model"),
        (FOUND, "[found]", "from untrusted content"),
    ];
    let (mut told, mut column) = (String::new(), 0);
    for (style, word, meaning) in words {
        // What paints a word takes no place.
        let length = word.len() + 1 + meaning.len();
        let between = BETWEEN.chars().count();
        let fits = columns.is_none_or(|columns| column + between + length <= usize::from(columns));
        match column {
            0 => {}
            _ if fits => {
                told.push_str(BETWEEN);
                column += between;
            }
            _ => {
                told.push('\n');
                column = 0;
            }
        }
        told.extend([paint(style, word).as_str(), " ", meaning]);
        column += length;
    }
    told
}

/// Says to which files the approval of a program is bound.
fn bound_files_text(contents: ExecutableFiles) -> String {
    let ExecutableFiles { files, extent, .. } = contents;
    match (extent, files) {
        (BoundFiles::All, 0) => "none, while the workspace stays empty".to_owned(),
        (BoundFiles::All, 1) => "the 1 file of the workspace, as it was at the request".to_owned(),
        (BoundFiles::All, _) => format!("all {files} of the workspace, as they were at the request"),
        (BoundFiles::Named, 0) => {
            "none: the call names none, and the approval binds no others (approvals.files)".to_owned()
        }
        (BoundFiles::Named, _) => {
            format!("{files} that the call names, as they were at the request; no others (approvals.files)")
        }
    }
}

/// Says when a delayed call begins, and how long that is while it waits.
fn start_time_text(at: Timestamp, approval: &ApprovalResource) -> String {
    let left = approval.deadlines.cools_in_seconds.map(|seconds| format!(", in {}", time_span(seconds)));
    format!("{}{}", format_time(at), left.unwrap_or_default())
}

fn argument_line(name: &str, value: &Value, origin: Option<&ArgumentOrigin>, paint: PaintWord<'_>) -> String {
    let text = match value {
        Value::String(text) => escape_hidden(text),
        value => escape_hidden(&value.to_string()),
    };
    let (style, word) = match origin.map(|known| known.origin) {
        Some(OriginKind::Default) => (SAID, "default"),
        Some(OriginKind::Said) => (SAID, "said"),
        Some(OriginKind::Found) => (FOUND, "found"),
        Some(OriginKind::Written) | None => (WRITTEN, "written"),
    };
    let label = origin.map(|known| format!(" {}", known.label)).unwrap_or_default();
    // On a line of its own, which no value can begin: line breaks are spelled out.
    let quote = origin.and_then(|known| known.quote.as_deref());
    let quote = quote.map(|quote| format!("\n      found in: {}", escape_hidden(quote))).unwrap_or_default();
    // The mark goes first: behind the value, a value could end with a mark of its own.
    format!("  [{word}{label}]  {}  {}{quote}", escape_hidden(name), paint(style, &text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_legend_fits_the_terminal_width_in_any_style() {
        let plain = |_: Style, word: &str| word.to_owned();
        let wide = "[default] the tool's default · [said] from trusted input · [written] written by the \
                    model · [found] from untrusted content";
        assert_eq!(origin_legend(None, &plain), wide, "nothing is broken for a pipe");
        let painted = |_: Style, word: &str| format!("\u{1b}[1;31m{word}\u{1b}[0m");
        for (columns, lines) in [(160, 1), (80, 2), (50, 4)] {
            let told = origin_legend(Some(columns), &plain);
            assert!(told.lines().all(|line| line.chars().count() <= usize::from(columns)), "{told}");
            assert_eq!(told.replace('\n', " · "), wide);
            assert_eq!(told.lines().count(), lines, "{told}");
            assert_eq!(origin_legend(Some(columns), &painted).lines().count(), lines);
        }
    }
}
