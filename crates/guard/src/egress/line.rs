//! A line: sends a request, judges every hop, and keeps the bounds of what comes back.
//!
//! Two clients, each with its own connections: one for which counts what the operator opens, and one for which it does
//! not. A kept connection was judged when it was made, and it is used again only for the same scheme, host and port; so
//! what a stricter grant must not reach has no connection there.
//!
//! The deadlines use the async runtime's monotonic timer: a jump of the wall clock must neither cut a request nor let one
//! hang. A redirect is followed only as a new request: what it may be told is what a stranger may be told, a body crosses
//! to no other host, and an encrypted request never goes on in the clear.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::BoxFuture;
use dromia_contracts::egress::{
    Body, Decision, EgressError, Failure, Line, LineLimits, Method, Oversized, Phase, Request, Response,
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Client, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::clearance::{Clearance, Way};
use super::target::Target;
use super::{Refused, Surroundings, headers};

/// How long an idle connection is kept. Many servers (Node.js, uvicorn) close theirs after five seconds, and a request
/// that meets the close is lost: nobody knows what became of it.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// The longest total time; a longer one is this.
const TOTAL_MAX: Duration = Duration::from_hours(24);

/// How a tool's request names its sender, where it does not say so itself.
const AGENT: &str = concat!("dromia/", env!("CARGO_PKG_VERSION"));

const NO_ADDRESS: Refused = Refused { rule: "no address", reason: "the name has no address" };
const PLAIN: Refused =
    Refused { rule: "https only", reason: "only encrypted connections are made; use an https:// URL" };
const DOWNGRADE: Refused =
    Refused { rule: "redirect", reason: "it redirects from https to http, which is not followed" };
const CARRIED: Refused =
    Refused { rule: "redirect", reason: "it redirects what was sent to another host, which is not followed" };

/// A way out, for one purpose.
#[derive(Debug)]
pub(super) struct GuardedLine {
    clearance: Arc<Clearance>,
    around: Arc<Surroundings>,
    limits: LineLimits,
    room: Arc<Semaphore>,
    open: Made,
    strict: Made,
}

/// A client that is made when it is needed: reading the system's certificates takes its time, and many a line is never
/// used.
type Made = OnceLock<Result<Client, String>>;

impl GuardedLine {
    pub(super) fn new(clearance: Clearance, limits: LineLimits, around: Arc<Surroundings>) -> Self {
        let room = Arc::new(Semaphore::new(limits.requests_max.clamp(1, Semaphore::MAX_PERMITS)));
        let clearance = Arc::new(clearance);
        Self { clearance, around, limits, room, open: Made::new(), strict: Made::new() }
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
        let Request { method, url, headers, body, grants } = request;
        if body.len() > self.limits.request_bytes_max {
            let bytes_max = self.limits.request_bytes_max as u64;
            return Err(Failure::TooLarge { part: Oversized::Request, bytes_max });
        }
        let agent = self.clearance.named.is_none().then_some(AGENT);
        let headers = headers::of_request(&headers, self.limits.header_bytes_max, agent)?;
        let target = Target::read(&url).map_err(|refused| trail.refuse(method, String::new(), refused))?;
        let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else { return Err(Failure::Broken) };
        let mut hop = Hop { method, target, headers, body };
        let mut followed = 0;
        loop {
            let way = self
                .judge(&hop, &grants)
                .map_err(|refused| trail.refuse(hop.method, hop.target.to_string(), refused))?;
            let response = self.ask(&hop, way, trail).await?;
            let leads_on = if self.limits.redirects_max == 0 { None } else { location(&response) };
            let Some(location) = leads_on else { return self.answer(&hop, response, deadline, permit) };
            if followed == self.limits.redirects_max {
                return Err(Failure::Redirects { max: followed });
            }
            followed += 1;
            let next = hop.next(response.status(), &location);
            hop = next.map_err(|(to, refused)| trail.refuse(method, to, refused))?;
        }
    }

    fn judge(&self, hop: &Hop, grants: &[String]) -> Result<Way, Refused> {
        if self.limits.https_only && !hop.target.is_encrypted() {
            return Err(PLAIN);
        }
        self.clearance.judge(hop.method, &hop.target, grants, &self.around)
    }

    /// Sends one hop's request and waits for the head of its answer.
    async fn ask(&self, hop: &Hop, way: Way, trail: &mut Trail) -> Result<reqwest::Response, Failure> {
        let client = self.client(way.is_strict)?;
        let mut request =
            client.request(wire(hop.method), hop.target.url().clone()).headers(hop.headers.clone());
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

    fn answer(
        &self,
        hop: &Hop,
        response: reqwest::Response,
        deadline: Instant,
        permit: OwnedSemaphorePermit,
    ) -> Result<Answer, Failure> {
        let headers = headers::of_answer(response.headers(), self.limits.header_bytes_max)?;
        let bytes_max = self.limits.response_bytes_max;
        if hop.method != Method::Head {
            if headers::is_packed(response.headers()) {
                return Err(Failure::Packed);
            }
            if response.content_length().is_some_and(|length| length > bytes_max) {
                return Err(Failure::TooLarge { part: Oversized::Response, bytes_max });
            }
        }
        let status = response.status().as_u16();
        let url = hop.target.as_str().to_owned();
        let stall = self.limits.stall;
        let body = LineBody { response, stall, deadline, bytes_max, taken: 0, _permit: permit };
        Ok(Answer { status, headers, url, body })
    }
}

impl Line for GuardedLine {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, EgressError>> {
        Box::pin(self.exchange(request))
    }
}

/// The head of an answer with its body.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    url: String,
    body: LineBody,
}

/// One request of a chain of redirects.
struct Hop {
    method: Method,
    target: Target,
    headers: HeaderMap,
    body: Bytes,
}

impl Hop {
    /// Makes the request that a redirect leads to, or says where it led to and why it is not followed.
    fn next(&self, status: StatusCode, location: &str) -> Result<Self, (String, Refused)> {
        let target = self.target.join(location).map_err(|refused| (String::new(), refused))?;
        if self.target.is_encrypted() && !target.is_encrypted() {
            return Err((target.to_string(), DOWNGRADE));
        }
        let turned = match status {
            StatusCode::SEE_OTHER => self.method != Method::Head,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::Post,
            _ => false,
        };
        let (mut headers, mut body, mut method) = (self.headers.clone(), self.body.clone(), self.method);
        if turned {
            (method, body) = (Method::Get, Bytes::new());
            headers::without_body(&mut headers);
        }
        if !self.target.is_at(&target) {
            if !method.is_safe() || !body.is_empty() {
                return Err((target.to_string(), CARRIED));
            }
            headers::cross(&mut headers);
        }
        Ok(Self { method, target, headers, body })
    }
}

/// What was judged so far, and whether anything went out.
#[derive(Default)]
struct Trail {
    decisions: Vec<Decision>,
    is_sent: bool,
}

impl Trail {
    fn let_out(&mut self, hop: &Hop, way: Way) {
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

    fn connected(&mut self, address: Option<SocketAddr>) {
        if let Some(last) = self.decisions.last_mut() {
            last.address = address.map(|address| address.ip());
        }
    }

    /// Turns the last decision over: the name's addresses were refused.
    fn take_back(&mut self, refused: Refused) -> Failure {
        if let Some(last) = self.decisions.last_mut() {
            last.allowed = false;
            refused.rule.clone_into(&mut last.rule);
        }
        failure(refused)
    }

    fn refuse(&mut self, method: Method, to: String, refused: Refused) -> Failure {
        let rule = refused.rule.to_owned();
        self.decisions.push(Decision { method, to, address: None, allowed: false, rule });
        failure(refused)
    }
}

fn failure(Refused { rule, reason }: Refused) -> Failure {
    Failure::Refused { rule: rule.to_owned(), reason: reason.to_owned() }
}

/// A body within its bounds.
struct LineBody {
    response: reqwest::Response,
    stall: Duration,
    deadline: Instant,
    bytes_max: u64,
    taken: u64,
    /// Its request counts until it is read or dropped.
    _permit: OwnedSemaphorePermit,
}

impl Body for LineBody {
    fn chunk(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
        Box::pin(async move {
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

/// The client's resolver: one look for a connection, and no address of it that was not judged.
#[derive(Debug)]
struct Pinning {
    clearance: Arc<Clearance>,
    around: Arc<Surroundings>,
    is_strict: bool,
}

impl Resolve for Pinning {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let (clearance, around, is_strict) =
            (Arc::clone(&self.clearance), Arc::clone(&self.around), self.is_strict);
        Box::pin(async move { look_up(&name, &clearance, &around, is_strict).await })
    }
}

async fn look_up(
    name: &str,
    clearance: &Clearance,
    around: &Surroundings,
    is_strict: bool,
) -> Result<Addrs, Box<dyn std::error::Error + Send + Sync>> {
    let addresses = around.names.resolve(name.to_owned()).await?;
    if addresses.is_empty() {
        return Err(NO_ADDRESS.into());
    }
    // One bad address spoils them all: an honest name has no public and private addresses at once.
    for address in &addresses {
        clearance.judge_address(Some(name), *address, is_strict, &*around.names)?;
    }
    // The port of the URL takes the place of 0.
    Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))))
}

/// Finds our own refusal among the causes of a failed connection.
fn refusal(error: &reqwest::Error) -> Option<Refused> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return Some(*refused);
        }
        source = cause.source();
    }
    None
}

/// Reads where an answer redirects to.
fn location(response: &reqwest::Response) -> Option<String> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let location = response.headers().get(LOCATION).filter(|_| is_redirect)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

const fn wire(method: Method) -> reqwest::Method {
    match method {
        Method::Delete => reqwest::Method::DELETE,
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Patch => reqwest::Method::PATCH,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
    }
}
