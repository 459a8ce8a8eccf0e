//! The line of a program that looks for secrets in what the program sends.
//!
//! A program is given no secret, but what it works on may hold one. A request that holds the value of a secret is refused
//! before the line hears of it, and so is one at which nobody can look. What goes through a tunnel nobody looks at.

use std::sync::Arc;

use dromia_contracts::BoxFuture;
use dromia_contracts::egress::{
    Decision, EgressError, Failure, Line, Request, Response, Tunnel, TunnelRequest,
};
use dromia_contracts::scope::Scope;
use dromia_contracts::vault::Leaks;

use super::exchange::place;

/// How the refusal of what holds a secret is called.
const RULE: &str = "leak scan";

/// A line with somebody before it who looks for the secrets of one tenant.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) line: Arc<dyn Line>,
    pub(crate) leaks: Arc<dyn Leaks>,
    pub(crate) scope: Scope,
}

impl Watched {
    /// Says why a request may not leave, if it holds a secret or nobody can look.
    async fn problem(&self, request: &Request) -> Option<String> {
        let mut text = request.url.as_bytes().to_vec();
        for (name, value) in &request.headers {
            for part in ["\n", name, ": ", value] {
                text.extend_from_slice(part.as_bytes());
            }
        }
        text.push(b'\n');
        text.extend_from_slice(&request.body);
        match self.leaks.find(&self.scope, &text).await {
            Ok(leaks) => leaks
                .first()
                .map(|leak| format!("it holds the value of the secret {:?}; nothing was sent", leak.secret)),
            Err(_) => Some("nobody can look now whether it holds a secret; nothing was sent".to_owned()),
        }
    }
}

impl Line for Watched {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, EgressError>> {
        Box::pin(async move {
            let Some(reason) = self.problem(&request).await else {
                return self.line.send(request).await;
            };
            let (method, to, rule) = (request.method, place(&request.url), RULE.to_owned());
            let decision = Decision { method, to, address: None, allowed: false, rule: rule.clone() };
            let failure = Failure::Refused { rule, reason };
            Err(EgressError { failure, is_sent: false, decisions: vec![decision] })
        })
    }

    fn tunnel(&self, request: TunnelRequest) -> BoxFuture<'_, Result<Tunnel, EgressError>> {
        self.line.tunnel(request)
    }
}
