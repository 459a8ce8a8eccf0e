//! The egress client of a program that scans what the program sends for secrets.
//!
//! A program is given no secret, but what it works on may hold one. A request that holds the value of a secret, or
//! that cannot be scanned, is refused before the upstream gets it. What goes through a tunnel is not scanned.

use std::sync::Arc;

use dromia_contracts::BoxFuture;
use dromia_contracts::egress::{
    EgressClient, EgressDecision, EgressError, EgressFault, EgressRequest, EgressResponse, EgressTunnel,
    TunnelRequest,
};
use dromia_contracts::scope::Scope;
use dromia_contracts::vault::LeakDetector;

use super::exchange::url_origin;

/// How the refusal of what holds a secret is called.
const RULE: &str = "leak scan";

/// An egress client that first scans requests for the secrets of one tenant.
#[derive(Debug)]
pub(crate) struct ScannedUpstream {
    pub(crate) line: Arc<dyn EgressClient>,
    pub(crate) leaks: Arc<dyn LeakDetector>,
    pub(crate) scope: Scope,
}

impl ScannedUpstream {
    /// Says why a request may not leave, if it holds a secret or cannot be scanned.
    async fn leak_refusal(&self, request: &EgressRequest) -> Option<String> {
        let mut text = request.url.as_bytes().to_vec();
        for (name, value) in &request.headers {
            for part in ["\n", name, ": ", value] {
                text.extend_from_slice(part.as_bytes());
            }
        }
        text.push(b'\n');
        text.extend_from_slice(&request.body);
        match self.leaks.scan_text(&self.scope, &text).await {
            Ok(leaks) => leaks.first().map(|leak| {
                format!("the request contains the value of the secret {:?}; nothing was sent", leak.secret)
            }),
            Err(_) => Some(
                "the server cannot check now whether the request contains a secret; nothing was sent"
                    .to_owned(),
            ),
        }
    }
}

impl EgressClient for ScannedUpstream {
    fn send_request(&self, request: EgressRequest) -> BoxFuture<'_, Result<EgressResponse, EgressError>> {
        Box::pin(async move {
            let Some(reason) = self.leak_refusal(&request).await else {
                return self.line.send_request(request).await;
            };
            let (method, to, rule) = (request.method, url_origin(&request.url), RULE.to_owned());
            let decision = EgressDecision { method, to, address: None, allowed: false, rule: rule.clone() };
            let failure = EgressFault::Refused { rule, reason };
            Err(EgressError { failure, is_sent: false, decisions: vec![decision] })
        })
    }

    fn request_tunnel(&self, request: TunnelRequest) -> BoxFuture<'_, Result<EgressTunnel, EgressError>> {
        self.line.request_tunnel(request)
    }
}
