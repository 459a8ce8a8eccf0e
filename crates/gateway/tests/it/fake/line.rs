//! A line to hosts that a test sets up. It reaches what the grants of a request name, unless it is made to pass by the
//! guard.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use dromia_contracts::BoxFuture;
use dromia_contracts::egress::{
    EgressBody, EgressClient, EgressDecision, EgressError, EgressFault, EgressRequest, EgressResponse,
    EgressTunnel, TunnelRequest,
};

/// The hosts, and what was asked.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// Statuses and bodies by URL; each body comes in two pieces.
    pub pages: Mutex<BTreeMap<String, (u16, Bytes)>>,
    /// What was asked, in order.
    pub asked: Mutex<Vec<EgressRequest>>,
    /// Whether grants count for nothing.
    pub is_beside_the_guard: Mutex<bool>,
}

struct Pieces(Vec<Bytes>);

impl EgressBody for Pieces {
    fn next_chunk(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, EgressFault>> {
        Box::pin(std::future::ready(Ok(self.0.pop())))
    }
}

impl Line {
    fn answer(&self, request: &EgressRequest) -> Result<EgressResponse, EgressError> {
        let url = request.url.clone();
        let host = url.split('/').nth(2).unwrap().to_owned();
        let granted = request.grants.contains(&format!("net.read:{host}"));
        let allowed = granted || *self.is_beside_the_guard.lock().unwrap();
        self.asked.lock().unwrap().push(request.clone());
        let rule = if allowed { format!("grant net.read:{host}") } else { "default deny".to_owned() };
        let to = format!("https://{host}:443");
        let decisions =
            vec![EgressDecision { method: request.method, to, address: None, allowed, rule: rule.clone() }];
        if !allowed {
            let failure = EgressFault::Refused { rule, reason: "no grant".to_owned() };
            return Err(EgressError { failure, is_sent: false, decisions });
        }
        let page = self.pages.lock().unwrap().get(&url).cloned();
        let (status, body) = page.unwrap_or((404, Bytes::from_static(b"not here")));
        let at = body.len().min(3);
        let pieces = vec![body.slice(at..), body.slice(..at)];
        Ok(EgressResponse { status, headers: Vec::new(), url, decisions, body: Box::new(Pieces(pieces)) })
    }
}

impl EgressClient for Line {
    fn send_request(&self, request: EgressRequest) -> BoxFuture<'_, Result<EgressResponse, EgressError>> {
        Box::pin(std::future::ready(self.answer(&request)))
    }

    fn request_tunnel(&self, _: TunnelRequest) -> BoxFuture<'_, Result<EgressTunnel, EgressError>> {
        panic!("no tunnel is dug for a picture")
    }
}
