//! The briefing of a turn: what goes on beside its session, as the runtime knows it.
//!
//! It has facts of the runtime alone, no word of a model or a person, so it changes no label. The turn that begins reads it once and
//! keeps it in `run_started`, so every request of the turn has the same bytes. Only agents that branch get one.

use std::fmt::Write as _;

use dromia_contracts::approval::{ApprovalRequest, ApprovalState};
use dromia_contracts::mind::AgentMind;
use dromia_contracts::store::{ApprovalFilter, PageRequest};
use dromia_contracts::task::ChildSession;
use dromia_contracts::{AgentId, Scope, SessionId};
use jiff::Timestamp;

use crate::core::EngineCore;

/// The most children that it names.
const CHILDREN_MAX: usize = 16;

/// The most open approvals of the agent that are looked at.
const APPROVALS_MAX: usize = 64;

/// What goes on beside a session.
pub(crate) struct SessionBriefing {
    children: Vec<ChildSession>,
    /// Those of the session and of its children.
    approvals: Vec<ApprovalRequest>,
    now: Timestamp,
}

impl SessionBriefing {
    /// Reads what a turn that begins is told; `None` where there is nothing to say, or the store does not answer.
    pub(crate) async fn read_for_turn(
        core: &EngineCore,
        scope: &Scope,
        (agent, session): (AgentId, SessionId),
        mind: AgentMind,
    ) -> Option<Box<str>> {
        if mind.is_solo() {
            return None;
        }
        let (store, now) = (&core.ports.store, core.ports.runtime.clock.now());
        let children = store.session_children(scope, session, true, PageRequest::first_page(CHILDREN_MAX));
        let children = children.await.ok()?;
        let filter = ApprovalFilter { agent: Some(agent), open_at: Some(now) };
        let mut approvals =
            store.approvals(scope, filter, PageRequest::first_page(APPROVALS_MAX)).await.ok()?;
        approvals.retain(|asked| {
            let of_child = children.iter().any(|child| child.session == asked.source.session);
            asked.state == ApprovalState::Holding && (asked.source.session == session || of_child)
        });
        Self { children, approvals, now }.write()
    }

    fn write(&self) -> Option<Box<str>> {
        if self.children.is_empty() && self.approvals.is_empty() {
            return None;
        }
        let mut text = "[Beside this conversation:".to_owned();
        for child in &self.children {
            let origin = &child.origin;
            let _ = write!(text, "\n- {} {}, begun by {}", origin.kind.as_str(), child.session, origin.call);
            if origin.position > 0 {
                let _ = write!(text, " for input {}", origin.position);
            }
            match &child.run {
                None => text.push_str(", not begun yet"),
                Some(run) => {
                    let seconds = self.now.duration_since(run.started_at).as_secs().max(0);
                    let _ = write!(text, ", {} for {seconds} s", run.head.status.as_str());
                }
            }
        }
        for asked in &self.approvals {
            let ApprovalRequest { id, source, .. } = asked;
            let _ = write!(text, "\n- the call {} of {} waits for a person ({id})", source.call, source.run);
        }
        text.push(']');
        Some(text.into_boxed_str())
    }
}
