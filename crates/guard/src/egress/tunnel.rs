//! Tunnels: a connection that is judged as a request is, and then carries what nobody looks at.
//!
//! The name is looked up once, every address of the answer is judged, and the connection goes to one of exactly these. A
//! tunnel is covered only by a grant of every method: what goes through it cannot be told apart. Where only encrypted
//! connections are made, the first byte that goes must begin TLS.
//!
//! How many bytes there may be in each direction and how long it may stand are the line's bounds.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dromia_contracts::BoxFuture;
use dromia_contracts::egress::{
    Body, EgressError, Failure, Method, Oversized, Phase, Tunnel, TunnelRequest, Upload,
};
use reqwest::header::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout, timeout_at};

use super::hop::Hop;
use super::line::{GuardedLine, PLAIN, TOTAL_MAX};
use super::pinning::{Missed, look_up};
use super::room::Place;
use super::target::Target;
use super::trail::Trail;

/// The most bytes of one piece.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// What every message of TLS begins with that a client sends first.
const TLS_HANDSHAKE: u8 = 0x16;

impl GuardedLine {
    /// Opens a tunnel.
    pub(super) async fn dig(&self, request: TunnelRequest) -> Result<Tunnel, EgressError> {
        let deadline = Instant::now() + self.limits.total.min(TOTAL_MAX);
        let mut trail = Trail::default();
        let ended = match timeout_at(deadline, self.connect(request, &mut trail)).await {
            Ok(ended) => ended,
            Err(_) => Err(Failure::Late(Phase::Total)),
        };
        let Trail { decisions, .. } = trail;
        match ended {
            Ok((stream, place)) => {
                let (from, to) = stream.into_split();
                let place = Arc::new(place);
                let down = Down {
                    from,
                    deadline,
                    bytes_max: self.limits.response_bytes_max,
                    taken: 0,
                    _place: Arc::clone(&place),
                };
                let up = Up {
                    to,
                    deadline,
                    bytes_max: self.limits.request_bytes_max as u64,
                    given: 0,
                    tls_only: self.limits.https_only,
                    _place: place,
                };
                Ok(Tunnel { decisions, down: Box::new(down), up: Box::new(up) })
            }
            // Whatever happened, nobody got a byte.
            Err(failure) => Err(EgressError { failure, is_sent: false, decisions }),
        }
    }

    async fn connect(
        &self,
        request: TunnelRequest,
        trail: &mut Trail,
    ) -> Result<(TcpStream, Place), Failure> {
        let TunnelRequest { to, grants, share } = request;
        let method = Method::Connect;
        let target =
            Target::read_authority(&to).map_err(|refused| trail.refuse(method, String::new(), refused))?;
        let Some(place) = self.room.enter(&share).await else { return Err(Failure::Unreachable) };
        let way = self
            .clearance
            .judge(method, &target, &grants, &self.around)
            .map_err(|refused| trail.refuse(method, target.to_string(), refused))?;
        let is_strict = way.is_strict;
        let hop = Hop { method, target, headers: HeaderMap::new(), body: Bytes::new(), secrets: Vec::new() };
        trail.let_out(&hop, way);
        let Ok(reached) = timeout(self.limits.connect, self.reach(&hop.target, is_strict)).await else {
            return Err(Failure::Late(Phase::Connect));
        };
        match reached {
            Ok(stream) => {
                trail.connected(stream.peer_addr().ok());
                Ok((stream, place))
            }
            Err(Missed::Refused(refused)) => Err(trail.take_back(refused)),
            Err(Missed::Unresolved(_)) => Err(Failure::Unreachable),
        }
    }

    /// Connects to the first address of a target that takes it.
    async fn reach(&self, target: &Target, is_strict: bool) -> Result<TcpStream, Missed> {
        let addresses = match target.address() {
            // It stands in the request, and was judged with it.
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
        Err(Missed::Unresolved(problem))
    }
}

/// What comes out of a tunnel.
struct Down {
    from: OwnedReadHalf,
    deadline: Instant,
    bytes_max: u64,
    taken: u64,
    /// A tunnel counts until both halves are dropped.
    _place: Arc<Place>,
}

impl Body for Down {
    fn chunk(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
        Box::pin(async move {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES_MAX);
            match timeout_at(self.deadline, self.from.read_buf(&mut piece)).await {
                Err(_) => Err(Failure::Late(Phase::Total)),
                Ok(Err(_)) => Err(Failure::Broken),
                Ok(Ok(0)) => Ok(None),
                Ok(Ok(count)) => {
                    self.taken += count as u64;
                    let bytes_max = self.bytes_max;
                    if self.taken > bytes_max {
                        return Err(Failure::TooLarge { part: Oversized::Response, bytes_max });
                    }
                    Ok(Some(piece.freeze()))
                }
            }
        })
    }
}

/// What goes into a tunnel.
struct Up {
    to: OwnedWriteHalf,
    deadline: Instant,
    bytes_max: u64,
    given: u64,
    tls_only: bool,
    _place: Arc<Place>,
}

impl Upload for Up {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            let Some(first) = bytes.first() else { return Ok(()) };
            if self.tls_only && self.given == 0 && *first != TLS_HANDSHAKE {
                let (rule, reason) = (PLAIN.rule.to_owned(), PLAIN.reason.to_owned());
                return Err(Failure::Refused { rule, reason });
            }
            self.given += bytes.len() as u64;
            let bytes_max = self.bytes_max;
            if self.given > bytes_max {
                return Err(Failure::TooLarge { part: Oversized::Request, bytes_max });
            }
            sent(&timeout_at(self.deadline, self.to.write_all(&bytes)).await)
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move { sent(&timeout_at(self.deadline, self.to.shutdown()).await) })
    }
}

/// What became of sending.
fn sent(done: &Result<std::io::Result<()>, tokio::time::error::Elapsed>) -> Result<(), Failure> {
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Failure::Broken),
        Err(_) => Err(Failure::Late(Phase::Total)),
    }
}
