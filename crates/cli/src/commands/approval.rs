//! `approval`: calls that wait for a person, or for a time until which a person may refuse them. What is shown of a call is
//! what would be executed, with everything that could hide in it spelled out, and each argument painted by where it comes
//! from.

mod card;
mod proposed;
mod rules;
mod together;
mod unrun;

use dromia_api::approval::{AnswerApproval, Approval, ReachKind};
use dromia_api::list::LIMIT_MAX;
use dromia_api::{ApprovalId, ApprovalState, List, shown};

use super::handles::Handles;
use super::{Cli, listing, print_narrow};
use crate::args;
use crate::client::encoded;
use crate::error::{Error, Outcome};
use crate::exit::Exit;
use crate::output::{Output, Way, time};

pub(super) use self::proposed::Proposed;

use self::card::card;
use self::proposed::propose;
use self::together::{Steps, also_told, cut, others, told};
use self::unrun::unrun;

/// The columns of a listing; what has no bound of its own comes last.
const HEADS: [&str; 7] = ["id", "state", "agent", "run waits until", "answer until", "step", "call"];

/// How it gives way on a narrow terminal: what is asked stays.
const WAYS: [Way; 10] = [
    Way::WithoutNought("step"),
    Way::WithoutNought("run waits until"),
    Way::Short("answer until"),
    Way::Short("run waits until"),
    Way::Cut("call", 30),
    // Where runs wait, theirs is the end that comes first.
    Way::Without("answer until"),
    Way::Cut("call", 20),
    Way::Without("step"),
    Way::Without("agent"),
    Way::Cut("call", 12),
];

/// How many characters a call has in a list; `approval show` has all of it.
const CALL_SHOWN: usize = 40;

pub(super) async fn run(cli: &Cli<'_>, command: args::Approval, output: &mut Output<'_>) -> Outcome<Exit> {
    match command {
        args::Approval::List(list) => {
            let filters =
                [("agent", cli.global.agent.clone()), ("open", (!list.all).then(|| "true".to_owned()))];
            let path = listing("/v1/approvals", &list.page, &filters);
            let list: List<Approval> = cli.client.get(&path).await?;
            print(cli, &list, output).await
        }
        args::Approval::Show(name) => {
            let approval: Approval = cli.client.get(&path(&name.id)).await?;
            let handles = Handles::read(cli, output).await;
            let unrun = unrun(cli, &approval).await;
            card(&approval, &handles, unrun, output)?;
            if !output.is_json()
                && let Some(text) = told(&approval, &others(cli, &approval).await?)
            {
                let text = output.placed(&text).into_owned();
                output.painted_lines(&format!("\n{text}"))?;
            }
            Ok(Exit::Done)
        }
        args::Approval::Approve(approve) => {
            let (reach, rule) = match approve.always {
                Some(rule) => (ReachKind::Always, Some(rule)),
                None if approve.session => (ReachKind::Session, None),
                None => (ReachKind::Once, None),
            };
            let body = AnswerApproval { approve: true, reach, rule, reason: None, also: Vec::new() };
            answer(cli, &approve.ids, body, output).await
        }
        args::Approval::Deny(deny) => {
            let (reach, reason) = (ReachKind::Once, deny.reason);
            let body = AnswerApproval { approve: false, reach, rule: None, reason, also: Vec::new() };
            answer(cli, &deny.ids, body, output).await
        }
        args::Approval::Rule(command) => rules::run(cli, command, output).await,
        args::Approval::Suggest => propose(cli, output).await,
    }
}

/// Answers one approval, or several of one run by one request: all of them, or none.
async fn answer(
    cli: &Cli<'_>,
    ids: &[String],
    mut body: AnswerApproval,
    output: &mut Output<'_>,
) -> Outcome<Exit> {
    let Some((first, also)) = ids.split_first() else {
        return Err(Error::Usage("name an approval: `dromia approval list` has them".to_owned()));
    };
    if !also.is_empty() && body.reach == ReachKind::Always {
        let text = "--always goes with one approval: its rule answers calls that nobody saw";
        return Err(Error::Usage(text.to_owned()));
    }
    let also = also.iter().map(|id| id.parse::<ApprovalId>());
    body.also = also.collect::<Result<Vec<_>, _>>().map_err(|error| Error::Usage(error.to_string()))?;
    let answered: Approval = cli.client.post_json(&format!("{}/answer", path(first)), &body).await?;
    output.show(&answered, |answered| {
        let by = shown(answered.answered_by.as_deref().unwrap_or("nobody"));
        let (tool, with) = (shown(&answered.tool), also_told(&body.also));
        match answered.state {
            // The same answer again, after the call that it was about.
            ApprovalState::Used => {
                format!("{} was approved by {by}, and {tool} has begun{with}", answered.id)
            }
            state => format!("{} is {state} by {by}: {tool}{with}", answered.id),
        }
    })?;
    Ok(Exit::Done)
}

/// The newest approvals, whether they need an answer or not.
async fn newest(cli: &Cli<'_>) -> Outcome<Vec<Approval>> {
    let list: List<Approval> = cli.client.get(&format!("/v1/approvals?limit={LIMIT_MAX}")).await?;
    Ok(list.items)
}

/// Prints approvals, one per row.
async fn print(cli: &Cli<'_>, list: &List<Approval>, output: &mut Output<'_>) -> Outcome<Exit> {
    let (handles, steps) = (Handles::read(cli, output).await, Steps::of(&list.items));
    print_narrow(output, list, &HEADS, &WAYS, |approval| row(approval, &handles, &steps))
}

fn row(approval: &Approval, handles: &Handles, steps: &Steps) -> Vec<String> {
    let call = cut(&format!("{} {}", shown(&approval.tool), shown(&approval.arguments)), CALL_SHOWN);
    let until = match approval.cools_in_seconds {
        // Until then it may be refused.
        Some(seconds) => format!("begins in {}", span(seconds)),
        None if approval.state.is_open() => time(approval.expires_at),
        None => String::new(),
    };
    let waits = match (approval.state, approval.cools_in_seconds) {
        (ApprovalState::Holding, None) => time(approval.holds_until),
        _ => String::new(),
    };
    let (id, state) = (approval.id.to_string(), standing(approval.state).to_owned());
    // Calls of one step have one mark.
    vec![id, state, handles.of(approval.agent), waits, until, steps.mark(approval), call]
}

/// How an approval stands, for people: of an open one it counts what its run does.
const fn standing(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Holding => "run waits",
        ApprovalState::Waiting => "run went on",
        ApprovalState::Approved
        | ApprovalState::Denied
        | ApprovalState::Used
        | ApprovalState::Withdrawn
        | ApprovalState::Expired => state.as_str(),
    }
}

/// Writes a span of time in its two greatest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

fn path(id: &str) -> String {
    format!("/v1/approvals/{}", encoded(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_its_two_greatest_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m 0s"), (599, "9m 59s"), (3_660, "1h 1m"), (90_000, "1d 1h")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
