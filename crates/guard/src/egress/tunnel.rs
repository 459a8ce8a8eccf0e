//! Tunnels: a connection that is judged as a request is, and then carries bytes that are not inspected.
//!
//! The name is looked up once, every address of the answer is judged, and the connection goes to one of exactly these.
//! A tunnel is covered only by a grant of every method: the methods inside it are not visible. Where only encrypted
//! connections are made, the first byte that goes must begin TLS.
//!
//! The line bounds how many bytes may pass in each direction and how long a tunnel may be open. A tunnel whose right is
//! withdrawn carries nothing more.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dromia_contracts::BoxFuture;
use dromia_contracts::egress::{
    EgressBody, EgressError, EgressFault, EgressTunnel, HttpMethod, OversizedPart, TimeoutPhase,
    TunnelRequest, TunnelUpload,
};
use reqwest::header::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout, timeout_at};

use super::client::{GuardedLine, PLAIN, TOTAL_MAX};
use super::decisions::DecisionTrail;
use super::hop::RedirectHop;
use super::pinning::{ResolveError, look_up};
use super::slots::RequestPermit;
use super::target::RequestTarget;
use super::withdrawal::ReachRight;

/// The most bytes of one piece.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// What every message of TLS begins with that a client sends first.
const TLS_HANDSHAKE: u8 = 0x16;

impl GuardedLine {
    /// Opens a tunnel.
    pub(super) async fn open_tunnel(&self, request: TunnelRequest) -> Result<EgressTunnel, EgressError> {
        let deadline = Instant::now() + self.limits.total.min(TOTAL_MAX);
        let mut trail = DecisionTrail::default();
        let ended = match timeout_at(deadline, self.connect_tunnel(request, &mut trail)).await {
            Ok(ended) => ended,
            Err(_) => Err(EgressFault::Late(TimeoutPhase::Total)),
        };
        let DecisionTrail { decisions, .. } = trail;
        match ended {
            Ok(OpenTunnel { stream, place, right }) => {
                let (from, to) = stream.into_split();
                let place = Arc::new(place);
                let down = TunnelReader {
                    from,
                    deadline,
                    bytes_max: self.limits.response_bytes_max,
                    taken: 0,
                    right: right.clone(),
                    _place: Arc::clone(&place),
                };
                let up = TunnelWriter {
                    to,
                    deadline,
                    bytes_max: self.limits.request_bytes_max as u64,
                    given: 0,
                    tls_only: self.limits.https_only,
                    right,
                    _place: place,
                };
                Ok(EgressTunnel { decisions, down: Box::new(down), up: Box::new(up) })
            }
            // Whatever happened, no byte was sent.
            Err(failure) => Err(EgressError { failure, is_sent: false, decisions }),
        }
    }

    async fn connect_tunnel(
        &self,
        request: TunnelRequest,
        trail: &mut DecisionTrail,
    ) -> Result<OpenTunnel, EgressFault> {
        let TunnelRequest { to, grants, share } = request;
        let method = HttpMethod::Connect;
        let target = RequestTarget::read_authority(&to)
            .map_err(|refused| trail.note_denied(method, String::new(), refused))?;
        let Some(place) = self.room.acquire_permit(&share).await else {
            return Err(EgressFault::Unreachable);
        };
        let way = self
            .clearance
            .judge_target(method, &target, &grants, &self.around)
            .map_err(|refused| trail.note_denied(method, target.to_string(), refused))?;
        let is_strict = way.is_strict;
        let hop = RedirectHop {
            method,
            target,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            secrets: Vec::new(),
        };
        trail.let_out(&hop, way);
        let Ok(reached) = timeout(self.limits.connect, self.connect_target(&hop.target, is_strict)).await
        else {
            return Err(EgressFault::Late(TimeoutPhase::Connect));
        };
        match reached {
            Ok(stream) => {
                trail.note_connected(stream.peer_addr().ok());
                let right = self.reach_right(method, hop.target, grants);
                Ok(OpenTunnel { stream, place, right })
            }
            Err(ResolveError::Refused(refused)) => Err(trail.take_back(refused)),
            Err(ResolveError::Unresolved(_)) => Err(EgressFault::Unreachable),
        }
    }

    /// Connects to the first address of a target that takes it.
    async fn connect_target(
        &self,
        target: &RequestTarget,
        is_strict: bool,
    ) -> Result<TcpStream, ResolveError> {
        let addresses = match target.address() {
            // The request spells the address, which was judged with it.
            Some(address) => vec![address],
            None => look_up(target.host(), &self.clearance, &self.around, is_strict).await?,
        };
        let mut problem = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in addresses {
            match TcpStream::connect((address, target.port())).await {
                Ok(stream) => {
                    // It is slower without, and nothing else.
                    drop(stream.set_nodelay(true));
                    return Ok(stream);
                }
                Err(refused) => problem = refused,
            }
        }
        Err(ResolveError::Unresolved(problem))
    }
}

/// A connection that was judged.
struct OpenTunnel {
    stream: TcpStream,
    place: RequestPermit,
    right: ReachRight,
}

/// What comes out of a tunnel.
struct TunnelReader {
    from: OwnedReadHalf,
    deadline: Instant,
    bytes_max: u64,
    taken: u64,
    right: ReachRight,
    /// A tunnel counts until both halves are dropped.
    _place: Arc<RequestPermit>,
}

impl EgressBody for TunnelReader {
    fn next_chunk(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, EgressFault>> {
        Box::pin(async move {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES_MAX);
            let read = timeout_at(self.deadline, self.from.read_buf(&mut piece));
            match self.right.unless_withdrawn(read).await? {
                Err(_) => Err(EgressFault::Late(TimeoutPhase::Total)),
                Ok(Err(_)) => Err(EgressFault::Broken),
                Ok(Ok(0)) => Ok(None),
                Ok(Ok(count)) => {
                    self.taken += count as u64;
                    let bytes_max = self.bytes_max;
                    if self.taken > bytes_max {
                        return Err(EgressFault::TooLarge { part: OversizedPart::Response, bytes_max });
                    }
                    Ok(Some(piece.freeze()))
                }
            }
        })
    }
}

/// What goes into a tunnel.
struct TunnelWriter {
    to: OwnedWriteHalf,
    deadline: Instant,
    bytes_max: u64,
    given: u64,
    tls_only: bool,
    right: ReachRight,
    _place: Arc<RequestPermit>,
}

impl TunnelUpload for TunnelWriter {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), EgressFault>> {
        Box::pin(async move {
            let Some(first) = bytes.first() else { return Ok(()) };
            if self.tls_only && self.given == 0 && *first != TLS_HANDSHAKE {
                let (rule, reason) = (PLAIN.rule.to_owned(), PLAIN.reason.to_owned());
                return Err(EgressFault::Refused { rule, reason });
            }
            self.given += bytes.len() as u64;
            let bytes_max = self.bytes_max;
            if self.given > bytes_max {
                return Err(EgressFault::TooLarge { part: OversizedPart::Request, bytes_max });
            }
            let written = timeout_at(self.deadline, self.to.write_all(&bytes));
            send_result(&self.right.unless_withdrawn(written).await?)
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), EgressFault>> {
        Box::pin(async move { send_result(&timeout_at(self.deadline, self.to.shutdown()).await) })
    }
}

/// What became of sending.
fn send_result(done: &Result<std::io::Result<()>, tokio::time::error::Elapsed>) -> Result<(), EgressFault> {
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(EgressFault::Broken),
        Err(_) => Err(EgressFault::Late(TimeoutPhase::Total)),
    }
}
