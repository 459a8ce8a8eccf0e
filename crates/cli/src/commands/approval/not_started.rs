//! Why an allowed call never began. The reason is read from the journal of the run that judged the call last: the one
//! that asked, or a run of its own where that one went on without it. A reason that cannot be found is left open; the
//! reason of another run is never shown instead.

use dromia_api::approval::ApprovalResource;
use dromia_api::list::LIMIT_MAX;
use dromia_api::run::{CallDecision, RunResource};
use dromia_api::session::SessionResource;
use dromia_api::{ApprovalState, ListPage, RunId, SessionId, escape_hidden};
use jiff::SignedDuration;

use super::Cli;

/// The platform of the session in which an approved call runs by itself. Only the server opens sessions there.
const PLATFORM: &str = "approval";

/// The most pages of an agent's sessions that are looked through for it.
const PAGES_MAX: usize = 4;

/// How much later than the answer its session may say that it was opened.
const SLACK: SignedDuration = SignedDuration::from_secs(60);

/// Said where no journal tells why.
const UNKNOWN: &str =
    "the judged call, its run or its agent changed or ended after the approval; the session has the reason";

/// Says of a call that was allowed and never began why not; nothing of other calls, and of one that began by another right.
pub(super) async fn not_run_reason(cli: &Cli<'_>, approval: &ApprovalResource) -> Option<String> {
    if approval.state != ApprovalState::Withdrawn || approval.answer.answered_by.is_none() {
        return None;
    }
    let asked = fetch_decisions(cli, approval.source.run)
        .await
        .into_iter()
        .rfind(|known| known.call == approval.source.call);
    // Left waiting by its run, it was judged again by another one.
    let last = match asked {
        Some(asked) if asked.waits.is_some() => match find_call_run(cli, approval).await {
            Some(run) => fetch_decisions(cli, run).await.pop(),
            None => None,
        },
        asked => asked,
    };
    match last {
        Some(last) if last.allowed => None,
        last => Some(refusal_reason(last)),
    }
}

/// Says why a call was refused.
fn refusal_reason(last: Option<CallDecision>) -> String {
    match last.and_then(|last| last.rule.map(|rule| (rule, last.why))) {
        Some((rule, why)) => format!("{}: {}", escape_hidden(&rule), escape_hidden(&why)),
        None => UNKNOWN.to_owned(),
    }
}

/// Reads what a run decided about its calls; what cannot be asked is left out.
async fn fetch_decisions(cli: &Cli<'_>, run: RunId) -> Vec<CallDecision> {
    let path = format!("/v1/runs/{run}/decisions?limit={LIMIT_MAX}");
    cli.client.get::<ListPage<CallDecision>>(&path).await.map(|page| page.items).unwrap_or_default()
}

/// Finds the run that is all about the approved call, if there was one and it can be found.
async fn find_call_run(cli: &Cli<'_>, approval: &ApprovalResource) -> Option<RunId> {
    let agent = approval.source.agent;
    // The newest come first, and its session was opened when it was answered.
    let until = RunId::earliest_at(approval.answer.answered_at?.checked_add(SLACK).ok()?);
    let mut after = SessionId::from_bytes(*until.as_bytes()).to_string();
    for _ in 0..PAGES_MAX {
        let path = format!("/v1/sessions?agent={agent}&limit={LIMIT_MAX}&after={after}");
        let page = cli.client.get::<ListPage<SessionResource>>(&path).await.ok()?;
        if let Some(session) = page.items.iter().find(|session| is_its(session, approval)) {
            let path = format!("/v1/runs?session={}&limit=1", session.id);
            let runs = cli.client.get::<ListPage<RunResource>>(&path).await.ok()?;
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

/// Tells whether a session is the one of an approved call. What follows the id bounds the call.
fn is_its(session: &SessionResource, approval: &ApprovalResource) -> bool {
    let id = approval.id.to_string();
    session.platform == PLATFORM && session.channel.split('/').next() == Some(id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rule: Option<&str>) -> CallDecision {
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
    fn the_reason_is_the_last_refusal_or_unknown() {
        assert_eq!(
            refusal_reason(Some(refused(Some("approval-mismatch")))),
            "approval-mismatch: it is another one"
        );
        for unknown in [None, Some(refused(None))] {
            assert_eq!(refusal_reason(unknown), UNKNOWN);
        }
    }
}
