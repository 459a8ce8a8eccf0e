//! Prints to stderr what a followed run waits for: a person's answer to a call, the end of a call's delay, a model that
//! is asked again later, an agent that is paused, a person who must look.
//!
//! The entry that says so comes with the stream of the run; only then is anything asked. A stream also has entries of
//! waits that are long over, so only a wait that still goes on is printed. Nothing here ends the wait: what cannot be
//! asked is left out.

use dromia_api::approval::ApprovalResource;
use dromia_api::run::{JournalEntryResource, JournalPage, RunExplanation, RunResource};
use dromia_api::{ApprovalId, ApprovalState, ErrorCode, RunId, RunStatus, escape_hidden, quantity};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::Cli;
use super::approval_prompt::ApprovalPrompts;
use crate::error::{Error, Outcome};
use crate::output::{CommandOutput, format_time};

/// How many characters a call has; `approval show` has all of it.
const CALL_SHOWN: usize = 160;

/// The shortest pause before a model is asked again that is printed; a shorter one is over before it is read.
const RETRY_TOLD: SignedDuration = SignedDuration::from_secs(2);

/// Prints what a run waits for, and remembers what it printed.
#[derive(Debug)]
pub(super) struct WaitReporter {
    run: RunId,
    /// The approvals that were looked at; those that were open then.
    looked_at: Vec<ApprovalId>,
    open: Vec<ApprovalId>,
    /// What it waited for last, of what is no approval.
    because: Option<String>,
    /// Whether what follows the run shows by itself that a model is asked again.
    pub(super) leaves_retries: bool,
    /// Asks a person, if what follows the run hears what they type.
    pub(super) prompts: Option<ApprovalPrompts>,
}

/// What is read of the fields of a `run_parked`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case")]
enum ParkedFields {
    Approval {
        approval: ApprovalId,
        /// When it starts by itself, if it is delayed.
        #[serde(default)]
        cools_until: Option<Timestamp>,
    },
    Retry {
        until: Timestamp,
    },
    /// Something else, of which a newer server may know more.
    #[serde(other)]
    Other,
}

/// What is read of the fields of a `tool_refused`.
#[derive(Debug, Deserialize)]
struct ToolRefusedFields {
    status: String,
    #[serde(default)]
    approval: Option<ApprovalId>,
}

impl WaitReporter {
    /// Whether an approval that was looked at was open then.
    pub(super) fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn for_run(run: RunId) -> Self {
        Self {
            run,
            looked_at: Vec::new(),
            open: Vec::new(),
            because: None,
            leaves_retries: false,
            prompts: None,
        }
    }

    /// Tells what the run waits for since an entry, if it waits for that now.
    pub(super) async fn report_entry(
        &mut self,
        cli: &Cli<'_>,
        entry: &JournalEntryResource,
        output: &mut CommandOutput<'_>,
    ) -> Outcome {
        match entry.kind.as_str() {
            "run_parked" => match serde_json::from_str(entry.fields.get()).unwrap_or(ParkedFields::Other) {
                ParkedFields::Approval { approval, .. } => self.report_approval(cli, approval, output).await,
                ParkedFields::Retry { .. } if self.leaves_retries => Ok(()),
                ParkedFields::Retry { until } if until.duration_since(entry.at) < RETRY_TOLD => Ok(()),
                rest => self.report_other_wait(cli, &rest, output).await,
            },
            "run_held" => self.report_other_wait(cli, &ParkedFields::Other, output).await,
            "tool_refused" => self.report_refused(entry, output),
            _ => Ok(()),
        }
    }

    /// Prints an approval, once.
    async fn report_approval(
        &mut self,
        cli: &Cli<'_>,
        id: ApprovalId,
        output: &mut CommandOutput<'_>,
    ) -> Outcome {
        if self.looked_at.contains(&id) {
            return Ok(());
        }
        self.looked_at.push(id);
        let text = match cli.client.get::<ApprovalResource>(&format!("/v1/approvals/{id}")).await {
            Ok(asked) if is_open(asked.state) => {
                if let Some(prompts) = &mut self.prompts
                    && prompts.take_approval(cli, &asked, output).await
                {
                    self.open.push(id);
                    return Ok(());
                }
                waiting_call_text(&asked)
            }
            Ok(_) => return Ok(()),
            Err(Error::Problem(problem)) if problem.error_code() == Some(ErrorCode::ApprovalNotFound) => {
                return Ok(());
            }
            // The approval cannot be read: the run is taken to wait, and `approval show` says more.
            Err(_) => format!("a call waits for approval ({id})"),
        };
        let is_first = self.open.is_empty();
        self.open.push(id);
        output.print_notice(&text)?;
        if !is_first {
            // The commands are the same, and the line has the id.
            return Ok(());
        }
        output.print_notice(&format!(
            "hint: `dromia approval show {id}` shows the whole call; answer with `dromia approval approve \
             {id}` or `dromia approval deny {id}`"
        ))
    }

    /// Prints that the run no longer waits for a call whose approval stays open.
    fn report_refused(&self, entry: &JournalEntryResource, output: &mut CommandOutput<'_>) -> Outcome {
        let Ok(refused) = serde_json::from_str::<ToolRefusedFields>(entry.fields.get()) else {
            return Ok(());
        };
        match refused.approval.filter(|id| refused.status == "awaiting" && self.open.contains(id)) {
            Some(id) => output.print_notice(&format!(
                "the run continues without the call, which still waits for its approval ({id})"
            )),
            None => Ok(()),
        }
    }

    /// Prints another reason to wait, as `run why` does.
    async fn report_other_wait(
        &mut self,
        cli: &Cli<'_>,
        rest: &ParkedFields,
        output: &mut CommandOutput<'_>,
    ) -> Outcome {
        let path = format!("/v1/runs/{}/why", self.run);
        let Ok(why) = cli.client.get::<RunExplanation>(&path).await else { return Ok(()) };
        let rests = matches!(why.status, RunStatus::Parked | RunStatus::Held);
        if !rests || self.because.as_ref() == Some(&why.waits_for) {
            return Ok(());
        }
        output.print_notice(&format!("the run waits for {}", escape_hidden(&why.waits_for)))?;
        self.because = Some(why.waits_for);
        match (rest, why.command) {
            (ParkedFields::Other, Some(command)) => {
                output.print_notice(&format!("hint: continue with `{command}`"))
            }
            // Time moves it.
            _ => Ok(()),
        }
    }
}

/// Whether a run waits for a person now; false where that cannot be asked. A delayed call begins by itself.
pub(super) async fn is_waiting_for_person(cli: &Cli<'_>, run: RunId) -> bool {
    let Ok(found) = cli.client.get::<RunResource>(&format!("/v1/runs/{run}")).await else { return false };
    if found.status != RunStatus::Parked {
        return false;
    }
    let path = format!("/v1/runs/{run}/journal?after={}&limit=1", found.last_seq.saturating_sub(1));
    let Ok(page) = cli.client.get::<JournalPage>(&path).await else { return false };
    page.entries.last().is_some_and(parks_for_person)
}

/// Whether an entry says that the run waits for a person.
pub(super) fn parks_for_person(entry: &JournalEntryResource) -> bool {
    let parked = serde_json::from_str(entry.fields.get());
    entry.kind == "run_parked" && matches!(parked, Ok(ParkedFields::Approval { cools_until: None, .. }))
}

/// Tells whether a call waits for an answer, or for its time.
const fn is_open(state: ApprovalState) -> bool {
    match state {
        ApprovalState::Holding | ApprovalState::Waiting => true,
        ApprovalState::Approved
        | ApprovalState::Denied
        | ApprovalState::Used
        | ApprovalState::Withdrawn
        | ApprovalState::Expired => false,
    }
}

/// Says which call waits, and for what.
fn waiting_call_text(approval: &ApprovalResource) -> String {
    let whole =
        format!("{} {}", escape_hidden(&approval.judged.tool), escape_hidden(&approval.judged.arguments));
    let mut call: String = whole.chars().take(CALL_SHOWN).collect();
    if call.len() < whole.len() {
        call.push('…');
    }
    let id = approval.id;
    match (approval.deadlines.cools_in_seconds, approval.deadlines.cools_until) {
        (Some(seconds), until) => {
            let left = quantity::format_millis(seconds.saturating_mul(1000));
            let at = until.map(|at| format!(", at {}", format_time(at))).unwrap_or_default();
            format!("a call is delayed; it starts by itself in {left}{at} ({id}): {call}")
        }
        (None, _) => format!("a call waits for approval ({id}): {call}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_entry_is_parsed_and_unknown_kinds_are_other() {
        let read = |text: &str| serde_json::from_str::<ParkedFields>(text).expect("it is read");
        let id = "apr_0199c0de000000000000000000000000";
        let parked = format!(r#"{{"on":"approval","approval":"{id}","call":"call_1_0","until":"x"}}"#);
        assert_eq!(
            read(&parked),
            ParkedFields::Approval { approval: id.parse().expect("an id"), cools_until: None }
        );
        let until = "2026-01-02T03:04:05Z";
        let retry = format!(r#"{{"on":"retry","until":"{until}"}}"#);
        assert_eq!(read(&retry), ParkedFields::Retry { until: until.parse().expect("a time") });
        assert_eq!(read(r#"{"on":"agent_paused"}"#), ParkedFields::Other);
        assert_eq!(read(r#"{"on":"tide","until":7}"#), ParkedFields::Other);
    }
}
