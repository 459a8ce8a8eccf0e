//! The right to what is open: asked again with each piece of a tunnel or of an answer, and at each change of grants or
//! capabilities and at the expiry of one while a piece is awaited.
//!
//! It only takes away. A server that the configuration names is no agent's right, so nothing is watched for it.

use std::future::pending;
use std::sync::Arc;

use dromia_contracts::egress::{EgressFault, HttpMethod};

use super::clearance::EgressPolicy;
use super::client::GuardedLine;
use super::target::RequestTarget;
use super::{EgressContext, EgressDenied};
use crate::rights::await_denial;

/// The right by which an agent reached a host; nothing where it was none.
#[derive(Clone)]
pub(super) struct ReachRight(Option<Arc<JudgedReach>>);

/// What was judged when it was reached.
struct JudgedReach {
    method: HttpMethod,
    target: RequestTarget,
    grants: Vec<String>,
    clearance: Arc<EgressPolicy>,
    around: Arc<EgressContext>,
}

impl GuardedLine {
    /// Keeps by which right a host was reached.
    pub(super) fn reach_right(
        &self,
        method: HttpMethod,
        target: RequestTarget,
        grants: Vec<String>,
    ) -> ReachRight {
        let (clearance, around) = (Arc::clone(&self.clearance), Arc::clone(&self.around));
        let is_granted = self.clearance.named.is_none();
        ReachRight(is_granted.then(|| Arc::new(JudgedReach { method, target, grants, clearance, around })))
    }
}

impl ReachRight {
    /// Does something, unless the right is withdrawn before it is done.
    pub(super) async fn unless_withdrawn<T>(&self, work: impl Future<Output = T>) -> Result<T, EgressFault> {
        let withdrawn = async {
            let Some(JudgedReach { method, target, grants, clearance, around }) = self.0.as_deref() else {
                return pending().await;
            };
            let EgressContext { rights, capabilities, .. } = &**around;
            let judge = || clearance.judge_target(*method, target, grants, around);
            let capabilities = capabilities.get().map(|held| &**held);
            await_denial(judge, grants, rights.get_or_init(Arc::default), capabilities).await
        };
        tokio::select! {
            biased;
            EgressDenied { rule, .. } = withdrawn => Err(EgressFault::Refused {
                rule: rule.to_owned(),
                reason: "the right to reach that host was withdrawn, so the server closed the connection".to_owned(),
            }),
            done = work => Ok(done),
        }
    }
}
