//! What was judged on the way of one request, and whether a server may have received it.

use std::net::SocketAddr;

use dromia_contracts::egress::{EgressDecision, EgressFault, HttpMethod};

use super::EgressDenied;
use super::clearance::EgressPermission;
use super::hop::RedirectHop;

/// What was judged so far, and whether anything went out.
#[derive(Default)]
pub(super) struct DecisionTrail {
    pub(super) decisions: Vec<EgressDecision>,
    pub(super) is_sent: bool,
}

impl DecisionTrail {
    pub(super) fn let_out(&mut self, hop: &RedirectHop, way: EgressPermission) {
        let to = hop.target.to_string();
        self.decisions.push(EgressDecision {
            method: hop.method,
            to,
            address: None,
            allowed: true,
            rule: way.rule,
        });
        self.is_sent = true;
    }

    pub(super) fn note_connected(&mut self, address: Option<SocketAddr>) {
        if let Some(last) = self.decisions.last_mut() {
            last.address = address.map(|address| address.ip());
        }
    }

    /// Turns the last decision over: the name's addresses were refused.
    pub(super) fn take_back(&mut self, refused: EgressDenied) -> EgressFault {
        if let Some(last) = self.decisions.last_mut() {
            last.allowed = false;
            refused.rule.clone_into(&mut last.rule);
        }
        denied_failure(refused)
    }

    pub(super) fn note_denied(
        &mut self,
        method: HttpMethod,
        to: String,
        refused: EgressDenied,
    ) -> EgressFault {
        let rule = refused.rule.to_owned();
        self.decisions.push(EgressDecision { method, to, address: None, allowed: false, rule });
        denied_failure(refused)
    }
}

fn denied_failure(EgressDenied { rule, reason }: EgressDenied) -> EgressFault {
    EgressFault::Refused { rule: rule.to_owned(), reason: reason.to_owned() }
}
