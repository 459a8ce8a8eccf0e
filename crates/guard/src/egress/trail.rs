//! What was judged on the way of one request, and whether anybody may have heard it.

use std::net::SocketAddr;

use dromia_contracts::egress::{Decision, Failure, Method};

use super::Refused;
use super::clearance::Way;
use super::hop::Hop;

/// What was judged so far, and whether anything went out.
#[derive(Default)]
pub(super) struct Trail {
    pub(super) decisions: Vec<Decision>,
    pub(super) is_sent: bool,
}

impl Trail {
    pub(super) fn let_out(&mut self, hop: &Hop, way: Way) {
        let to = hop.target.to_string();
        self.decisions.push(Decision {
            method: hop.method,
            to,
            address: None,
            allowed: true,
            rule: way.rule,
        });
        self.is_sent = true;
    }

    pub(super) fn connected(&mut self, address: Option<SocketAddr>) {
        if let Some(last) = self.decisions.last_mut() {
            last.address = address.map(|address| address.ip());
        }
    }

    /// Turns the last decision over: the name's addresses were refused.
    pub(super) fn take_back(&mut self, refused: Refused) -> Failure {
        if let Some(last) = self.decisions.last_mut() {
            last.allowed = false;
            refused.rule.clone_into(&mut last.rule);
        }
        failure(refused)
    }

    pub(super) fn refuse(&mut self, method: Method, to: String, refused: Refused) -> Failure {
        let rule = refused.rule.to_owned();
        self.decisions.push(Decision { method, to, address: None, allowed: false, rule });
        failure(refused)
    }
}

fn failure(Refused { rule, reason }: Refused) -> Failure {
    Failure::Refused { rule: rule.to_owned(), reason: reason.to_owned() }
}
