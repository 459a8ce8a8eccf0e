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
    Body, EgressError, Failure, Line, LineLimits, Method, Oversized, Phase, Request, Response, Tunnel,
    TunnelRequest,
};
use dromia_contracts::vault::{Leaks as _, Placement};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use tokio::time::{Instant, timeout, timeout_at};
use zeroize::Zeroizing;

use super::clearance::{Clearance, Way};
use super::hop::{Hop, location};
use super::pinning::{Pinning, refusal};
use super::room::{Place, Room};
use super::target::Target;
use super::trail::Trail;
use super::{Refused, Surroundings, headers};
use crate::grant::Grant;
use crate::vault::StoreVault;

/// How long an idle connection is kept. Many servers (Node.js, uvicorn) close theirs after five seconds, and a request
/// that meets the close is lost: nobody knows what became of it.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// The longest total time; a longer one is this.
pub(super) const TOTAL_MAX: Duration = Duration::from_hours(24);

/// How a tool's request names its sender, where it does not say so itself.
const AGENT: &str = concat!("dromia/", env!("CARGO_PKG_VERSION"));

pub(super) const PLAIN: Refused =
    Refused { rule: "https only", reason: "only encrypted connections are made; use an https:// URL" };

const NO_VAULT: Refused = Refused { rule: "secret", reason: "this line has no secrets; nothing was sent" };
const NOT_GRANTED: Refused = Refused {
    rule: "secret",
    reason: "this agent is not granted that secret; nothing was sent. Only an operator can add \"secret:\" and its name \
             to the agent's grants",
};
const UNSENDABLE: Refused =
    Refused { rule: "secret", reason: "the secret cannot stand at its place of a request; nothing was sent" };
const TWICE: Refused = Refused {
    rule: "secret",
    reason: "the URL has a parameter already that the secret would be; nothing was sent",
};
const REDIRECTED: Refused =
    Refused { rule: "secret", reason: "it redirects with a secret to another host, which is not followed" };

/// A way out, for one purpose.
#[derive(Debug)]
pub(super) struct GuardedLine {
    pub(super) clearance: Arc<Clearance>,
    pub(super) around: Arc<Surroundings>,
    pub(super) limits: LineLimits,
    pub(super) room: Room,
    open: Made,
    strict: Made,
    vault: Option<Arc<StoreVault>>,
}

/// A client that is made when it is needed: reading the system's certificates takes its time, and many a line is never
/// used.
type Made = OnceLock<Result<Client, String>>;

impl GuardedLine {
    pub(super) fn new(
        clearance: Clearance,
        limits: LineLimits,
        room: Room,
        around: Arc<Surroundings>,
        vault: Option<Arc<StoreVault>>,
    ) -> Self {
        let clearance = Arc::new(clearance);
        Self { clearance, around, limits, room, open: Made::new(), strict: Made::new(), vault }
    }

    fn client(&self, is_strict: bool) -> Result<&Client, Failure> {
        // Where nothing is opened, both are the same.
        let is_strict = is_strict && self.clearance.opens_names();
        let made = if is_strict { &self.strict } else { &self.open };
        let client = made.get_or_init(|| {
            let (clearance, around) = (Arc::clone(&self.clearance), Arc::clone(&self.around));
            Client::builder()
                .dns_resolver(Pinning { clearance, around, is_strict })
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
        client.as_ref().map_err(|cause| Failure::Unusable { cause: cause.clone() })
    }

    async fn exchange(&self, request: Request) -> Result<Response, EgressError> {
        let deadline = Instant::now() + self.limits.total.min(TOTAL_MAX);
        let mut trail = Trail::default();
        let ended = match timeout_at(deadline, self.hops(request, deadline, &mut trail)).await {
            Ok(ended) => ended,
            Err(_) => Err(Failure::Late(Phase::Total)),
        };
        let Trail { decisions, is_sent } = trail;
        match ended {
            Ok(Answer { status, headers, url, body }) => {
                Ok(Response { status, headers, url, decisions, body: Box::new(body) })
            }
            Err(failure) => Err(EgressError { failure, is_sent, decisions }),
        }
    }

    async fn hops(&self, request: Request, deadline: Instant, trail: &mut Trail) -> Result<Answer, Failure> {
        let Request { method, url, headers, body, grants, share, secrets } = request;
        if method == Method::Connect {
            let problem = "CONNECT is no request; a tunnel is asked for as one".to_owned();
            return Err(Failure::Malformed { problem });
        }
        if body.len() > self.limits.request_bytes_max {
            let bytes_max = self.limits.request_bytes_max as u64;
            return Err(Failure::TooLarge { part: Oversized::Request, bytes_max });
        }
        let agent = self.clearance.named.is_none().then_some(AGENT);
        let headers = headers::of_request(&headers, self.limits.header_bytes_max, agent)?;
        let target = Target::read(&url).map_err(|refused| trail.refuse(method, String::new(), refused))?;
        let Some(place) = self.room.enter(&share).await else { return Err(Failure::Unreachable) };
        if Instant::now() >= deadline {
            // Its place came too late; nobody is bothered with it.
            return Err(Failure::Late(Phase::Total));
        }
        let mut hop = Hop { method, target, headers, body, secrets };
        let mut followed = 0;
        loop {
            let way = self
                .judge(&hop, &grants)
                .map_err(|refused| trail.refuse(hop.method, hop.target.to_string(), refused))?;
            let response = self.ask(&hop, way, &grants, trail).await?;
            let leads_on = if self.limits.redirects_max == 0 { None } else { location(&response) };
            let Some(location) = leads_on else { return self.answer(&hop, response, deadline, place) };
            if followed == self.limits.redirects_max {
                return Err(Failure::Redirects { max: followed });
            }
            followed += 1;
            let next = hop.next(response.status(), &location);
            let next = next.map_err(|(to, refused)| trail.refuse(method, to, refused))?;
            if self.carries(&hop, &next).await {
                return Err(trail.refuse(method, next.target.to_string(), REDIRECTED));
            }
            hop = next;
        }
    }

    fn judge(&self, hop: &Hop, grants: &[String]) -> Result<Way, Refused> {
        if self.limits.https_only && !hop.target.is_encrypted() {
            return Err(PLAIN);
        }
        self.clearance.judge(hop.method, &hop.target, grants, &self.around)
    }

    /// Sends one hop's request and waits for the head of its answer.
    async fn ask(
        &self,
        hop: &Hop,
        mut way: Way,
        grants: &[String],
        trail: &mut Trail,
    ) -> Result<reqwest::Response, Failure> {
        let client = self.client(way.is_strict)?;
        let dressed = self.dressed(hop, grants).await;
        let (url, headers) =
            dressed.map_err(|refused| trail.refuse(hop.method, hop.target.to_string(), refused))?;
        for used in &hop.secrets {
            way.rule.extend([" and secret:", used.name.as_str()]);
        }
        let mut request = client.request(wire(hop.method), url).headers(headers);
        if !hop.body.is_empty() || !matches!(hop.method, Method::Get | Method::Head | Method::Delete) {
            request = request.body(hop.body.clone());
        }
        let was_sent = trail.is_sent;
        trail.let_out(hop, way);
        let Ok(sent) = timeout(self.limits.first_byte, request.send()).await else {
            return Err(Failure::Late(Phase::FirstByte));
        };
        match sent {
            Ok(response) => {
                trail.connected(response.remote_addr());
                Ok(response)
            }
            Err(error) => {
                let unconnected = error.is_connect();
                if unconnected {
                    trail.is_sent = was_sent;
                }
                if let Some(refused) = refusal(&error) {
                    return Err(trail.take_back(refused));
                }
                Err(match (unconnected, error.is_timeout()) {
                    (true, true) => Failure::Late(Phase::Connect),
                    (true, false) => Failure::Unreachable,
                    (false, _) => Failure::Broken,
                })
            }
        }
    }

    /// Puts the secrets in that the request names, each where its own rule says; right before it is sent, and for this hop
    /// alone.
    async fn dressed(&self, hop: &Hop, grants: &[String]) -> Result<(Url, HeaderMap), Refused> {
        let (mut url, mut headers) = (hop.target.url().clone(), hop.headers.clone());
        for used in &hop.secrets {
            let vault = self.vault.as_ref().ok_or(NO_VAULT)?;
            let covers =
                |text: &String| Grant::parse(text).is_ok_and(|grant| grant.covers_secret(&used.name));
            if !grants.iter().any(covers) {
                return Err(NOT_GRANTED);
            }
            let (placement, value) = vault.open(used, &hop.target).await?;
            match placement {
                Placement::Header(name) => {
                    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| UNSENDABLE)?;
                    headers.insert(name, sensitive(value.expose())?);
                }
                Placement::Bearer => {
                    let value = Zeroizing::new(format!("Bearer {}", value.expose()));
                    headers.insert(AUTHORIZATION, sensitive(&value)?);
                }
                Placement::Query(name) => {
                    if url.query_pairs().any(|(known, _)| known == name.as_str()) {
                        return Err(TWICE);
                    }
                    url.query_pairs_mut().append_pair(&name, value.expose());
                }
                // The vault opens none of these for a request; whatever it does, none is sent.
                Placement::Signature => return Err(UNSENDABLE),
            }
        }
        Ok((url, headers))
    }

    /// Tells whether a redirect would tell another server what this one was given, or may: where nobody can look, it does.
    async fn carries(&self, hop: &Hop, next: &Hop) -> bool {
        let Some(used) = hop.secrets.first().filter(|_| !hop.target.is_at(&next.target)) else {
            return false;
        };
        let Some(vault) = &self.vault else { return true };
        let found = vault.find(&used.scope, next.target.as_str().as_bytes()).await;
        !found.is_ok_and(|leaks| leaks.is_empty())
    }

    fn answer(
        &self,
        hop: &Hop,
        response: reqwest::Response,
        deadline: Instant,
        place: Place,
    ) -> Result<Answer, Failure> {
        let headers = headers::of_answer(response.headers(), self.limits.header_bytes_max)?;
        let bytes_max = self.limits.response_bytes_max;
        // Whoever wants the status only has it, whatever the body is.
        let unwanted = if headers::is_packed(response.headers()) {
            Some(Failure::Packed)
        } else if response.content_length().is_some_and(|length| length > bytes_max) {
            Some(Failure::TooLarge { part: Oversized::Response, bytes_max })
        } else {
            None
        };
        // An answer to HEAD has the headers of a body, and no body.
        let unwanted = unwanted.filter(|_| hop.method != Method::Head);
        let status = response.status().as_u16();
        let url = hop.target.as_str().to_owned();
        let stall = self.limits.stall;
        let body = LineBody { response, unwanted, stall, deadline, bytes_max, taken: 0, _place: place };
        Ok(Answer { status, headers, url, body })
    }
}

impl Line for GuardedLine {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, EgressError>> {
        Box::pin(self.exchange(request))
    }

    fn tunnel(&self, request: TunnelRequest) -> BoxFuture<'_, Result<Tunnel, EgressError>> {
        Box::pin(self.dig(request))
    }
}

/// The head of an answer with its body.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    url: String,
    body: LineBody,
}

/// A body within its bounds.
struct LineBody {
    response: reqwest::Response,
    /// Why none of it is read.
    unwanted: Option<Failure>,
    stall: Duration,
    deadline: Instant,
    bytes_max: u64,
    taken: u64,
    /// Its request counts until it is read or dropped.
    _place: Place,
}

impl Body for LineBody {
    fn chunk(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
        Box::pin(async move {
            if let Some(failure) = &self.unwanted {
                return Err(failure.clone());
            }
            let stalled = Instant::now() + self.stall.min(TOTAL_MAX);
            let (until, phase) =
                if stalled < self.deadline { (stalled, Phase::Stall) } else { (self.deadline, Phase::Total) };
            let chunk = match timeout_at(until, self.response.chunk()).await {
                Err(_) => return Err(Failure::Late(phase)),
                Ok(Err(_)) => return Err(Failure::Broken),
                Ok(Ok(None)) => return Ok(None),
                Ok(Ok(Some(chunk))) => chunk,
            };
            self.taken = self.taken.saturating_add(chunk.len() as u64);
            if self.taken > self.bytes_max {
                return Err(Failure::TooLarge { part: Oversized::Response, bytes_max: self.bytes_max });
            }
            Ok(Some(chunk))
        })
    }
}

fn sensitive(value: &str) -> Result<HeaderValue, Refused> {
    let mut value = HeaderValue::from_str(value).map_err(|_| UNSENDABLE)?;
    value.set_sensitive(true);
    Ok(value)
}

const fn wire(method: Method) -> reqwest::Method {
    match method {
        Method::Connect => reqwest::Method::CONNECT,
        Method::Delete => reqwest::Method::DELETE,
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Patch => reqwest::Method::PATCH,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
    }
}
