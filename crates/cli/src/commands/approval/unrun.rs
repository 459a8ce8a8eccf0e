//! Why a call that was allowed never began. It is told from the journal of the run that judged the call last: the one that
//! asked, or a run of its own where that one went on without it. What cannot be found is left open, and no other run's reason
//! stands in for it.

use dromia_api::approval::Approval;
use dromia_api::list::LIMIT_MAX;
use dromia_api::run::{Decision, Run};
use dromia_api::session::Session;
use dromia_api::{ApprovalState, List, RunId, SessionId, shown};
use jiff::SignedDuration;

use super::Cli;

/// The platform of the session in which an approved call runs by itself. Nobody else opens one there.
const PLATFORM: &str = "approval";

/// The most pages of an agent's sessions that are looked through for it.
const PAGES_MAX: usize = 4;

/// How much later than the answer its session may say that it was opened.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

/// Said where no journal tells why.
const UNKNOWN: &str =
    "what was judged has changed since it was allowed, or its run or agent ended first; its session was told";

/// Says of a call that was allowed and never began why not; nothing of other calls, and of one that began by another right.
pub(super) async fn unrun(cli: &Cli<'_>, approval: &Approval) -> Option<String> {
    if approval.state != ApprovalState::Withdrawn || approval.answered_by.is_none() {
        return None;
    }
    let asked = decisions(cli, approval.run).await.into_iter().rfind(|known| known.call == approval.call);
    // Left waiting by its run, it was judged again by another one.
    let last = match asked {
        Some(asked) if asked.waits.is_some() => match worker(cli, approval).await {
            Some(run) => decisions(cli, run).await.pop(),
            None => None,
        },
        asked => asked,
    };
    match last {
        Some(last) if last.allowed => None,
        last => Some(told(last)),
    }
}

/// Says why a call was refused.
fn told(last: Option<Decision>) -> String {
    match last.and_then(|last| last.rule.map(|rule| (rule, last.why))) {
        Some((rule, why)) => format!("{}: {}", shown(&rule), shown(&why)),
        None => UNKNOWN.to_owned(),
    }
}

/// Reads what a run decided about its calls; what cannot be asked is left out.
async fn decisions(cli: &Cli<'_>, run: RunId) -> Vec<Decision> {
    let path = format!("/v1/runs/{run}/decisions?limit={LIMIT_MAX}");
    cli.client.get::<List<Decision>>(&path).await.map(|page| page.items).unwrap_or_default()
}

/// Finds the run that is all about the approved call, if there was one and it can be found.
async fn worker(cli: &Cli<'_>, approval: &Approval) -> Option<RunId> {
    let agent = approval.agent;
    // The newest come first, and its session was opened when it was answered.
    let until = RunId::earliest_at(approval.answered_at?.checked_add(SLACK).ok()?);
    let mut after = SessionId::from_bytes(*until.as_bytes()).to_string();
    for _ in 0..PAGES_MAX {
        let path = format!("/v1/sessions?agent={agent}&limit={LIMIT_MAX}&after={after}");
        let page = cli.client.get::<List<Session>>(&path).await.ok()?;
        if let Some(session) = page.items.iter().find(|session| is_its(session, approval)) {
            let path = format!("/v1/runs?session={}&limit=1", session.id);
            let runs = cli.client.get::<List<Run>>(&path).await.ok()?;
            return runs.items.first().map(|run| run.id);
        }
        if page.items.last().is_some_and(|last| last.id.as_bytes() < approval.id.as_bytes()) {
            // Older ones are older than the approval.
            return None;
        }
        after = page.next?;
    }
    None
}

/// Tells whether a session is the one of an approved call. What bounds the call may stand behind the approval.
fn is_its(session: &Session, approval: &Approval) -> bool {
    let id = approval.id.to_string();
    session.platform == PLATFORM && session.channel.split('/').next() == Some(id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rule: Option<&str>) -> Decision {
        let text = serde_json::json!({
            "entry": 3,
            "at": "2026-01-02T03:04:05Z",
            "call": "call_0_0",
            "tool": "look",
            "allowed": false,
            "by": "approval",
            "rule": rule,
            "why": "it is another one",
        });
        serde_json::from_value(text).expect("it is a decision")
    }

    #[test]
    fn a_reason_is_that_of_the_last_refusal_or_none_is_made_up() {
        assert_eq!(told(Some(refused(Some("approval-mismatch")))), "approval-mismatch: it is another one");
        for unknown in [None, Some(refused(None))] {
            assert_eq!(told(unknown), UNKNOWN);
        }
    }
}
