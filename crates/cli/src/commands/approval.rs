//! `approval`: calls that wait for a person, or for a time until which a person may refuse them. What is shown of a call is
//! what would be executed, with everything that could hide in it spelled out, and each argument painted by where it comes
//! from.

mod batch;
mod card;
mod not_started;
mod rules;
mod suggestions;

use dromia_api::approval::{AnswerApproval, ApprovalResource, ReachKind};
use dromia_api::list::LIMIT_MAX;
use dromia_api::{ApprovalId, ApprovalState, ListPage, escape_hidden};

use super::agent_names::AgentHandles;
use super::{Cli, listing_path, print_narrow};
use crate::args::{self, IdReference};
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{ColumnShrink, CommandOutput, RowStyle};

pub(super) use self::card::{argument_lines, card_text};
pub(super) use self::suggestions::{RuleProposal, may_stand};

use self::batch::{StepMarks, also_told, fetch_other_calls, other_calls_notice, truncate_text};
use self::card::print_card;
use self::not_started::not_run_reason;
use self::suggestions::propose_rules;

/// The columns of a listing; what has no bound of its own comes last.
const HEADS: [&str; 7] = ["id", "state", "agent", "run waits until", "answer until", "step", "call"];

/// How it shrinks on a narrow terminal: what is asked stays.
const WAYS: [ColumnShrink; 10] = [
    ColumnShrink::WithoutNought("step"),
    ColumnShrink::WithoutNought("run waits until"),
    ColumnShrink::Short("answer until"),
    ColumnShrink::Short("run waits until"),
    ColumnShrink::Cut("call", 30),
    // Where runs wait, theirs is the end that comes first.
    ColumnShrink::Without("answer until"),
    ColumnShrink::Cut("call", 20),
    ColumnShrink::Without("step"),
    ColumnShrink::Without("agent"),
    ColumnShrink::Cut("call", 12),
];

/// How many characters a call has in a list; `approval show` has all of it.
const CALL_SHOWN: usize = 40;

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::ApprovalCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::ApprovalCommand::List(list) => {
            let filters =
                [("agent", cli.global.agent.clone()), ("open", (!list.all).then(|| "true".to_owned()))];
            let path = listing_path("/v1/approvals", &list.page, &filters);
            let list: ListPage<ApprovalResource> = cli.client.get(&path).await?;
            print_approvals(cli, &list, output).await
        }
        args::ApprovalCommand::Show(name) => {
            let id = cli.resolve_id(name.id, output).await?;
            let approval: ApprovalResource = cli.client.get(&approval_path(id)).await?;
            let handles = AgentHandles::fetch_page(cli, output).await;
            let unrun = not_run_reason(cli, &approval).await;
            print_card(&approval, &handles, unrun, output)?;
            if !output.is_json()
                && let Some(text) = other_calls_notice(&approval, &fetch_other_calls(cli, &approval).await?)
            {
                let text = output.add_global_flags(&text).into_owned();
                output.painted_lines(&format!("\n{text}"))?;
            }
            Ok(CommandExit::Done)
        }
        args::ApprovalCommand::Approve(approve) => {
            let (reach, rule) = match approve.always {
                Some(rule) => (ReachKind::Always, Some(rule)),
                None if approve.session => (ReachKind::Session, None),
                None => (ReachKind::Once, None),
            };
            let body = AnswerApproval { approve: true, reach, rule, reason: None, also: Vec::new() };
            answer_approvals(cli, &approve.ids, body, output).await
        }
        args::ApprovalCommand::Deny(deny) => {
            let (reach, reason) = (ReachKind::Once, deny.reason);
            let body = AnswerApproval { approve: false, reach, rule: None, reason, also: Vec::new() };
            answer_approvals(cli, &deny.ids, body, output).await
        }
        args::ApprovalCommand::Rule(command) => rules::run(cli, command, output).await,
        args::ApprovalCommand::Suggest => propose_rules(cli, output).await,
    }
}

/// Answers one approval, or several of one run by one request: all of them, or none.
async fn answer_approvals(
    cli: &Cli<'_>,
    typed: &[IdReference<ApprovalId>],
    mut body: AnswerApproval,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let mut ids = Vec::with_capacity(typed.len());
    for typed in typed {
        ids.push(cli.resolve_id(*typed, output).await?);
    }
    let Some((first, also)) = ids.split_first() else {
        return Err(Error::Usage("name an approval; `dromia approval list` shows them".to_owned()));
    };
    if !also.is_empty() && body.reach == ReachKind::Always {
        let text =
            "--always takes one approval only: its rule would also answer calls that you have not seen";
        return Err(Error::Usage(text.to_owned()));
    }
    body.also = also.to_vec();
    let answered: ApprovalResource =
        cli.client.post_json(&format!("{}/answer", approval_path(*first)), &body).await?;
    output.print_result(&answered, |answered| {
        let by = escape_hidden(answered.answer.answered_by.as_deref().unwrap_or("no one"));
        let (tool, with) = (escape_hidden(&answered.judged.tool), also_told(&body.also));
        match answered.state {
            // The same answer again, after the call that it was about.
            ApprovalState::Used => {
                format!("{by} approved {}, and {tool} has started{with}", answered.id)
            }
            state => format!("{} is {state} by {by}: {tool}{with}", answered.id),
        }
    })?;
    Ok(CommandExit::Done)
}

/// The newest approvals, whether they need an answer or not.
async fn newest_approvals(cli: &Cli<'_>) -> Outcome<Vec<ApprovalResource>> {
    let list: ListPage<ApprovalResource> =
        cli.client.get(&format!("/v1/approvals?limit={LIMIT_MAX}")).await?;
    Ok(list.items)
}

/// Prints approvals, one per row.
async fn print_approvals(
    cli: &Cli<'_>,
    list: &ListPage<ApprovalResource>,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let (handles, steps) =
        (AgentHandles::fetch_page(cli, output).await, StepMarks::from_listing(&list.items));
    let style = output.row_style();
    print_narrow(output, list, &HEADS, &WAYS, |approval| approval_row(approval, &handles, &steps, &style))
}

fn approval_row(
    approval: &ApprovalResource,
    handles: &AgentHandles,
    steps: &StepMarks,
    style: &RowStyle,
) -> Vec<String> {
    let call = truncate_text(
        &format!("{} {}", escape_hidden(&approval.judged.tool), escape_hidden(&approval.judged.arguments)),
        CALL_SHOWN,
    );
    let until = match approval.deadlines.cools_in_seconds {
        // Until then it may be refused.
        Some(seconds) => format!("begins in {}", time_span(seconds)),
        None if approval.state.is_open() => style.format_time(approval.deadlines.expires_at),
        None => String::new(),
    };
    let waits = match (approval.state, approval.deadlines.cools_in_seconds) {
        (ApprovalState::Holding, None) => style.format_time(approval.deadlines.holds_until),
        _ => String::new(),
    };
    let (id, state) = (style.format_id(approval.id), state_text(approval.state).to_owned());
    // Calls of one step have one mark.
    vec![
        id,
        state,
        handles.display_name(approval.source.agent),
        waits,
        until,
        steps.step_mark(approval),
        call,
    ]
}

/// The state of an approval, for people; of an open one, what its run does.
const fn state_text(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Holding => "run waits",
        ApprovalState::Waiting => "run continued",
        ApprovalState::Approved
        | ApprovalState::Denied
        | ApprovalState::Used
        | ApprovalState::Withdrawn
        | ApprovalState::Expired => state.as_str(),
    }
}

/// Writes a span of time in its two greatest units.
pub(super) fn time_span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

pub(super) fn approval_path(id: ApprovalId) -> String {
    format!("/v1/approvals/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_span_is_shown_in_its_two_largest_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m 0s"), (599, "9m 59s"), (3_660, "1h 1m"), (90_000, "1d 1h")]
        {
            assert_eq!(time_span(seconds), text);
        }
    }
}
