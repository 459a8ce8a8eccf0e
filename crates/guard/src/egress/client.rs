//! A line: sends a request, judges every hop, and keeps the bounds of what comes back.
//!
//! Two clients, each with its own connections: one for which counts what the operator opens, and one for which it does
//! not. A kept connection was judged when it was made, and it is used again only for the same scheme, host and port; so
//! what a stricter grant must not reach has no connection there.
//!
//! The deadlines use the async runtime's monotonic timer: a jump of the wall clock must neither cut a request nor let one
//! hang.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::BoxFuture;
use dromia_contracts::egress::{
    EgressBody, EgressClient, EgressError, EgressFault, EgressRequest, EgressResponse, EgressTunnel,
    HttpMethod, LineLimits, OversizedPart, TimeoutPhase, TunnelRequest,
};
use dromia_contracts::vault::{LeakDetector as _, SecretPlacement};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use super::clearance::{EgressPermission, EgressPolicy};
use super::decisions::DecisionTrail;
use super::hop::{RedirectHop, redirect_location};
use super::pinning::{PinnedResolver, find_denied};
use super::slots::{RequestPermit, RequestSlots};
use super::target::RequestTarget;
use super::withdrawal::ReachRight;
use super::{EgressContext, EgressDenied, headers};
use crate::grant::Grant;
use crate::vault::StoreVault;

/// How long an idle connection is kept. Many servers (Node.js, uvicorn) close theirs after five seconds, and a request
/// that meets the close is lost: its effect is unknown.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// The longest total time; a longer one is this.
pub(super) const TOTAL_MAX: Duration = Duration::from_hours(24);

/// How a tool's request names its sender, where it does not say so itself.
const AGENT: &str = concat!("dromia/", env!("CARGO_PKG_VERSION"));

pub(super) const PLAIN: EgressDenied =
    EgressDenied { rule: "https only", reason: "only encrypted connections are made; use an https:// URL" };

const NO_VAULT: EgressDenied =
    EgressDenied { rule: "secret", reason: "this connection has no secrets; nothing was sent" };
const NOT_GRANTED: EgressDenied = EgressDenied {
    rule: "secret",
    reason: "this agent is not granted that secret; nothing was sent. Only an operator can add \"secret:\" and its name \
             to the agent's grants",
};
const UNSENDABLE: EgressDenied = EgressDenied {
    rule: "secret",
    reason: "the secret cannot be put at its place in this request; nothing was sent",
};
const TWICE: EgressDenied = EgressDenied {
    rule: "secret",
    reason: "the URL already has the parameter that the secret would set; nothing was sent",
};
const REDIRECTED: EgressDenied = EgressDenied {
    rule: "secret",
    reason: "it redirects a request with a secret to another host, which dromia does not follow",
};

/// A way out, for one purpose.
#[derive(Debug)]
pub(super) struct GuardedLine {
    pub(super) clearance: Arc<EgressPolicy>,
    pub(super) around: Arc<EgressContext>,
    pub(super) limits: LineLimits,
    pub(super) room: RequestSlots,
    open: Made,
    strict: Made,
    vault: Option<Arc<StoreVault>>,
}

/// A client that is made when it is needed: reading the system's certificates takes its time, and many a line is never
/// used.
type Made = OnceLock<Result<Client, String>>;

impl GuardedLine {
    pub(super) fn new(
        clearance: EgressPolicy,
        limits: LineLimits,
        room: RequestSlots,
        around: Arc<EgressContext>,
        vault: Option<Arc<StoreVault>>,
    ) -> Self {
        let clearance = Arc::new(clearance);
        Self { clearance, around, limits, room, open: Made::new(), strict: Made::new(), vault }
    }

    fn http_client(&self, is_strict: bool) -> Result<&Client, EgressFault> {
        // Where nothing is opened, both are the same.
        let is_strict = is_strict && self.clearance.opens_names(&self.around);
        let made = if is_strict { &self.strict } else { &self.open };
        let client = made.get_or_init(|| {
            let (clearance, around) = (Arc::clone(&self.clearance), Arc::clone(&self.around));
            Client::builder()
                .dns_resolver(PinnedResolver { clearance, around, is_strict })
                .connect_timeout(self.limits.connect)
                .pool_max_idle_per_host(self.limits.idle_connections_max)
                .pool_idle_timeout(IDLE_MAX)
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .no_proxy()
                .build()
                .map_err(|error| error.to_string())
        });
        client.as_ref().map_err(|cause| EgressFault::Unusable { cause: cause.clone() })
    }

    async fn send_guarded(&self, request: EgressRequest) -> Result<EgressResponse, EgressError> {
        let deadline = Instant::now() + self.limits.total.min(TOTAL_MAX);
        let mut trail = DecisionTrail::default();
        let ended = match timeout_at(deadline, self.follow_redirects(request, deadline, &mut trail)).await {
            Ok(ended) => ended,
            Err(_) => Err(EgressFault::Late(TimeoutPhase::Total)),
        };
        let DecisionTrail { decisions, is_sent } = trail;
        match ended {
            Ok(GuardedResponse { status, headers, url, body }) => {
                Ok(EgressResponse { status, headers, url, decisions, body: Box::new(body) })
            }
            Err(failure) => Err(EgressError { failure, is_sent, decisions }),
        }
    }

    async fn follow_redirects(
        &self,
        request: EgressRequest,
        deadline: Instant,
        trail: &mut DecisionTrail,
    ) -> Result<GuardedResponse, EgressFault> {
        let EgressRequest { method, url, headers, body, grants, share, secrets } = request;
        if method == HttpMethod::Connect {
            let problem = "CONNECT is not a request method; ask for a tunnel instead".to_owned();
            return Err(EgressFault::Malformed { problem });
        }
        if body.len() > self.limits.request_bytes_max {
            let bytes_max = self.limits.request_bytes_max as u64;
            return Err(EgressFault::TooLarge { part: OversizedPart::Request, bytes_max });
        }
        let agent = self.clearance.named.is_none().then_some(AGENT);
        let headers = headers::of_request(&headers, self.limits.header_bytes_max, agent)?;
        let target = RequestTarget::parse_url(&url)
            .map_err(|refused| trail.note_denied(method, String::new(), refused))?;
        let Some(place) = self.room.acquire_permit(&share).await else {
            return Err(EgressFault::Unreachable);
        };
        if Instant::now() >= deadline {
            // The permit came too late; no server is contacted.
            return Err(EgressFault::Late(TimeoutPhase::Total));
        }
        let mut hop = RedirectHop { method, target, headers, body, secrets };
        let mut followed = 0;
        loop {
            let way = self
                .judge_hop(&hop, &grants)
                .map_err(|refused| trail.note_denied(hop.method, hop.target.to_string(), refused))?;
            let response = self.send_hop(&hop, way, &grants, trail).await?;
            let leads_on = if self.limits.redirects_max == 0 { None } else { redirect_location(&response) };
            let Some(location) = leads_on else {
                let right = self.reach_right(hop.method, hop.target.clone(), grants);
                return self.guarded_response(&hop, response, deadline, (place, right));
            };
            if followed == self.limits.redirects_max {
                return Err(EgressFault::Redirects { max: followed });
            }
            followed += 1;
            let next = hop.next(response.status(), &location);
            let next = next.map_err(|(to, refused)| trail.note_denied(method, to, refused))?;
            if self.leaks_secret(&hop, &next).await {
                return Err(trail.note_denied(method, next.target.to_string(), REDIRECTED));
            }
            hop = next;
        }
    }

    fn judge_hop(&self, hop: &RedirectHop, grants: &[String]) -> Result<EgressPermission, EgressDenied> {
        if self.limits.https_only && !hop.target.is_encrypted() {
            return Err(PLAIN);
        }
        self.clearance.judge_target(hop.method, &hop.target, grants, &self.around)
    }

    /// Sends one hop's request and waits for the head of its answer.
    async fn send_hop(
        &self,
        hop: &RedirectHop,
        mut way: EgressPermission,
        grants: &[String],
        trail: &mut DecisionTrail,
    ) -> Result<reqwest::Response, EgressFault> {
        let client = self.http_client(way.is_strict)?;
        let dressed = self.with_secrets(hop, grants).await;
        let (url, headers) =
            dressed.map_err(|refused| trail.note_denied(hop.method, hop.target.to_string(), refused))?;
        for used in &hop.secrets {
            way.rule.extend([" and secret:", used.name.as_str()]);
        }
        let mut request = client.request(reqwest_method(hop.method), url).headers(headers);
        if !hop.body.is_empty()
            || !matches!(hop.method, HttpMethod::Get | HttpMethod::Head | HttpMethod::Delete)
        {
            request = request.body(hop.body.clone());
        }
        let was_sent = trail.is_sent;
        trail.let_out(hop, way);
        let Ok(sent) = timeout(self.limits.first_byte, request.send()).await else {
            return Err(EgressFault::Late(TimeoutPhase::FirstByte));
        };
        match sent {
            Ok(response) => {
                trail.note_connected(response.remote_addr());
                Ok(response)
            }
            Err(error) => {
                let unconnected = error.is_connect();
                if unconnected {
                    trail.is_sent = was_sent;
                }
                if let Some(refused) = find_denied(&error) {
                    return Err(trail.take_back(refused));
                }
                Err(match (unconnected, error.is_timeout()) {
                    (true, true) => EgressFault::Late(TimeoutPhase::Connect),
                    (true, false) => EgressFault::Unreachable,
                    (false, _) => EgressFault::Broken,
                })
            }
        }
    }

    /// Puts the secrets in that the request names, each where its own rule says; right before it is sent, and for this hop
    /// alone.
    async fn with_secrets(
        &self,
        hop: &RedirectHop,
        grants: &[String],
    ) -> Result<(Url, HeaderMap), EgressDenied> {
        let (mut url, mut headers) = (hop.target.url().clone(), hop.headers.clone());
        let grants = self.around.narrow_grants(grants);
        for used in &hop.secrets {
            let vault = self.vault.as_ref().ok_or(NO_VAULT)?;
            let covers =
                |text: &String| Grant::parse(text).is_ok_and(|grant| grant.covers_secret(&used.name));
            if !grants.iter().any(covers) {
                return Err(NOT_GRANTED);
            }
            let (placement, value) = vault.open_secret(used, &hop.target).await?;
            match placement {
                SecretPlacement::Header(name) => {
                    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| UNSENDABLE)?;
                    headers.insert(name, sensitive_header(value.expose_secret())?);
                }
                SecretPlacement::Bearer => {
                    let value = Zeroizing::new(format!("Bearer {}", value.expose_secret()));
                    headers.insert(AUTHORIZATION, sensitive_header(&value)?);
                }
                SecretPlacement::Query(name) => {
                    if url.query_pairs().any(|(known, _)| known == name.as_str()) {
                        return Err(TWICE);
                    }
                    url.query_pairs_mut().append_pair(&name, value.expose_secret());
                }
                // The vault opens none of these for a request; whatever it does, none is sent.
                SecretPlacement::Signature => return Err(UNSENDABLE),
            }
        }
        Ok((url, headers))
    }

    /// Tells whether a redirect would give another server what this one was given; where no scan can answer, it
    /// would.
    async fn leaks_secret(&self, hop: &RedirectHop, next: &RedirectHop) -> bool {
        let Some(used) = hop.secrets.first().filter(|_| !hop.target.is_at(&next.target)) else {
            return false;
        };
        let Some(vault) = &self.vault else { return true };
        let found = vault.scan_text(&used.scope, next.target.as_str().as_bytes()).await;
        !found.is_ok_and(|leaks| leaks.is_empty())
    }

    fn guarded_response(
        &self,
        hop: &RedirectHop,
        response: reqwest::Response,
        deadline: Instant,
        (place, right): (RequestPermit, ReachRight),
    ) -> Result<GuardedResponse, EgressFault> {
        let headers = headers::of_answer(response.headers(), self.limits.header_bytes_max)?;
        let bytes_max = self.limits.response_bytes_max;
        // A caller that wants the status only has it, whatever the body is.
        let unwanted = if headers::is_packed(response.headers()) {
            Some(EgressFault::Packed)
        } else if response.content_length().is_some_and(|length| length > bytes_max) {
            Some(EgressFault::TooLarge { part: OversizedPart::Response, bytes_max })
        } else {
            None
        };
        // An answer to HEAD has the headers of a body, and no body.
        let unwanted = unwanted.filter(|_| hop.method != HttpMethod::Head);
        let status = response.status().as_u16();
        let url = hop.target.as_str().to_owned();
        let stall = self.limits.stall;
        let body =
            LineBody { response, unwanted, stall, deadline, bytes_max, taken: 0, right, _place: place };
        Ok(GuardedResponse { status, headers, url, body })
    }
}

impl EgressClient for GuardedLine {
    fn send_request(&self, request: EgressRequest) -> BoxFuture<'_, Result<EgressResponse, EgressError>> {
        Box::pin(self.send_guarded(request))
    }

    fn request_tunnel(&self, request: TunnelRequest) -> BoxFuture<'_, Result<EgressTunnel, EgressError>> {
        Box::pin(self.open_tunnel(request))
    }
}

/// The head of an answer with its body.
struct GuardedResponse {
    status: u16,
    headers: Vec<(String, String)>,
    url: String,
    body: LineBody,
}

/// A body within its bounds.
struct LineBody {
    response: reqwest::Response,
    /// Why none of it is read.
    unwanted: Option<EgressFault>,
    stall: Duration,
    deadline: Instant,
    bytes_max: u64,
    taken: u64,
    right: ReachRight,
    /// Its request counts until it is read or dropped.
    _place: RequestPermit,
}

impl EgressBody for LineBody {
    fn next_chunk(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, EgressFault>> {
        Box::pin(async move {
            if let Some(failure) = &self.unwanted {
                return Err(failure.clone());
            }
            let stalled = Instant::now() + self.stall.min(TOTAL_MAX);
            let (until, phase) = if stalled < self.deadline {
                (stalled, TimeoutPhase::Stall)
            } else {
                (self.deadline, TimeoutPhase::Total)
            };
            let read = timeout_at(until, self.response.chunk());
            let chunk = match self.right.unless_withdrawn(read).await? {
                Err(_) => return Err(EgressFault::Late(phase)),
                Ok(Err(_)) => return Err(EgressFault::Broken),
                Ok(Ok(None)) => return Ok(None),
                Ok(Ok(Some(chunk))) => chunk,
            };
            self.taken = self.taken.saturating_add(chunk.len() as u64);
            if self.taken > self.bytes_max {
                return Err(EgressFault::TooLarge {
                    part: OversizedPart::Response,
                    bytes_max: self.bytes_max,
                });
            }
            Ok(Some(chunk))
        })
    }
}

fn sensitive_header(value: &str) -> Result<HeaderValue, EgressDenied> {
    let mut value = HeaderValue::from_str(value).map_err(|_| UNSENDABLE)?;
    value.set_sensitive(true);
    Ok(value)
}

const fn reqwest_method(method: HttpMethod) -> reqwest::Method {
    match method {
        HttpMethod::Connect => reqwest::Method::CONNECT,
        HttpMethod::Delete => reqwest::Method::DELETE,
        HttpMethod::Get => reqwest::Method::GET,
        HttpMethod::Head => reqwest::Method::HEAD,
        HttpMethod::Patch => reqwest::Method::PATCH,
        HttpMethod::Post => reqwest::Method::POST,
        HttpMethod::Put => reqwest::Method::PUT,
    }
}
