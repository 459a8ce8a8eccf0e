//! What a run waits for, told on stderr to whoever waits for the run: a person's answer to a call, the time that a call is
//! put off for, a model that is asked again later, an agent that is paused, a person who must look.
//!
//! The entry that says so comes with the stream of the run; only then is anything asked. A stream tells of what is long
//! over, too, so what does not wait any more is not told. Nothing here ends the wait: what cannot be asked is left out.

use dromia_api::approval::Approval;
use dromia_api::run::{Entry, Why};
use dromia_api::{ApprovalId, ApprovalState, ErrorCode, RunId, RunStatus, quantity, shown};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::Cli;
use crate::error::{Error, Outcome};
use crate::output::{Output, time};

/// How many characters a call has; `approval show` has all of it.
const CALL_SHOWN: usize = 160;

/// The shortest rest before a model is asked again that is told; what is shorter is over before it is read.
const RETRY_TOLD: SignedDuration = SignedDuration::from_secs(2);

/// What was told of the rests of a run.
#[derive(Debug)]
pub(super) struct Waits {
    run: RunId,
    /// The approvals that were looked at; those that were open then.
    looked_at: Vec<ApprovalId>,
    open: Vec<ApprovalId>,
    /// What it waited for last, of what is no approval.
    because: Option<String>,
}

/// What is read of the fields of a `run_parked`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case")]
enum Rest {
    Approval {
        approval: ApprovalId,
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
struct Refused {
    status: String,
    #[serde(default)]
    approval: Option<ApprovalId>,
}

impl Waits {
    pub(super) fn of(run: RunId) -> Self {
        Self { run, looked_at: Vec::new(), open: Vec::new(), because: None }
    }

    /// Tells what the run waits for since an entry, if it waits for that now.
    pub(super) async fn entry(&mut self, cli: &Cli<'_>, entry: &Entry, output: &mut Output<'_>) -> Outcome {
        match entry.kind.as_str() {
            "run_parked" => match serde_json::from_str(entry.fields.get()).unwrap_or(Rest::Other) {
                Rest::Approval { approval } => self.approval(cli, approval, output).await,
                Rest::Retry { until } if until.duration_since(entry.at) < RETRY_TOLD => Ok(()),
                rest => self.other(cli, &rest, output).await,
            },
            "run_held" => self.other(cli, &Rest::Other, output).await,
            "tool_refused" => self.refused(entry, output),
            _ => Ok(()),
        }
    }

    /// Tells of an approval, once.
    async fn approval(&mut self, cli: &Cli<'_>, id: ApprovalId, output: &mut Output<'_>) -> Outcome {
        if self.looked_at.contains(&id) {
            return Ok(());
        }
        self.looked_at.push(id);
        let text = match cli.client.get::<Approval>(&format!("/v1/approvals/{id}")).await {
            Ok(asked) if is_open(asked.state) => called(&asked),
            Ok(_) => return Ok(()),
            Err(Error::Problem(problem)) if problem.error_code() == Some(ErrorCode::ApprovalNotFound) => {
                return Ok(());
            }
            // It waits for all we know, and whoever looks at it sees more.
            Err(_) => format!("a call waits for approval ({id})"),
        };
        let is_first = self.open.is_empty();
        self.open.push(id);
        output.notice_wrapped(&text)?;
        if !is_first {
            // The commands are the same, and the id stands in the line.
            return Ok(());
        }
        output.notice_wrapped(&format!(
            "hint: `dromia approval show {id}` shows all of it; answer with `dromia approval approve {id}` or \
             `dromia approval deny {id}`"
        ))
    }

    /// Tells that the run does not wait for a call any more that waits on.
    fn refused(&self, entry: &Entry, output: &mut Output<'_>) -> Outcome {
        let Ok(refused) = serde_json::from_str::<Refused>(entry.fields.get()) else { return Ok(()) };
        match refused.approval.filter(|id| refused.status == "awaiting" && self.open.contains(id)) {
            Some(id) => output.notice(&format!("the run goes on without that call, which waits on ({id})")),
            None => Ok(()),
        }
    }

    /// Tells of another rest, as `run why` does.
    async fn other(&mut self, cli: &Cli<'_>, rest: &Rest, output: &mut Output<'_>) -> Outcome {
        let path = format!("/v1/runs/{}/why", self.run);
        let Ok(why) = cli.client.get::<Why>(&path).await else { return Ok(()) };
        let rests = matches!(why.status, RunStatus::Parked | RunStatus::Held);
        if !rests || self.because.as_ref() == Some(&why.waits_for) {
            return Ok(());
        }
        output.notice_wrapped(&format!("the run waits for {}", shown(&why.waits_for)))?;
        self.because = Some(why.waits_for);
        match (rest, why.command) {
            (Rest::Other, Some(command)) => output.notice(&format!("hint: go on with `{command}`")),
            // Time moves it.
            _ => Ok(()),
        }
    }
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
fn called(approval: &Approval) -> String {
    let whole = format!("{} {}", shown(&approval.tool), shown(&approval.arguments));
    let mut call: String = whole.chars().take(CALL_SHOWN).collect();
    if call.len() < whole.len() {
        call.push('…');
    }
    let id = approval.id;
    match (approval.cools_in_seconds, approval.cools_until) {
        (Some(seconds), until) => {
            let left = quantity::time(seconds.saturating_mul(1000));
            let at = until.map(|at| format!(", at {}", time(at))).unwrap_or_default();
            format!("a call is put off, and begins by itself in {left}{at} ({id}): {call}")
        }
        (None, _) => format!("a call waits for approval ({id}): {call}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_read_off_its_entry_and_a_newer_one_is_another() {
        let read = |text: &str| serde_json::from_str::<Rest>(text).expect("it is read");
        let id = "apr_0199c0de000000000000000000000000";
        let parked = format!(r#"{{"on":"approval","approval":"{id}","call":"call_1_0","until":"x"}}"#);
        assert_eq!(read(&parked), Rest::Approval { approval: id.parse().expect("an id") });
        let until = "2026-01-02T03:04:05Z";
        let retry = format!(r#"{{"on":"retry","until":"{until}"}}"#);
        assert_eq!(read(&retry), Rest::Retry { until: until.parse().expect("a time") });
        assert_eq!(read(r#"{"on":"agent_paused"}"#), Rest::Other);
        assert_eq!(read(r#"{"on":"tide","until":7}"#), Rest::Other);
    }
}
