//! One connection of a program to its proxy: what it asks, asked, and the answer.
//!
//! A refusal is an answer of the proxy with the reason as its text: 403 for what may not be reached, 502 and 504 for what
//! could not be. The head of an answer is written once the line has it; if its body breaks off, so does what the program
//! gets, without the end that would make it look whole.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dromia_contracts::egress::{
    EgressError, EgressFault, EgressRequest, EgressResponse, EgressTunnel, HttpMethod, OversizedPart,
    TunnelRequest, find_header,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use super::head::{self, HeadError, RequestHead};
use super::session::{BrokenConnection, DECISIONS_MAX, ProxySession, SessionDenial};

/// How long a program may take to say what it asks for, its body included.
const ASK_WAIT: Duration = Duration::from_secs(30);

/// How long and how much of what a refused program still sends is heard, so that it hears the refusal.
const HEAR_OUT: Duration = Duration::from_millis(500);
const HEAR_OUT_BYTES: usize = 64 << 10;

/// The most bytes that are carried into a tunnel at once.
const PIECE_BYTES_MAX: usize = 16 << 10;

/// The longest host there is.
const HOST_BYTES_MAX: usize = 253;

/// What says how a message of another connection ends.
const OWN: [&str; 6] = ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// Answers one connection.
pub(super) async fn serve_connection(mut stream: TcpStream, desk: &ProxySession) {
    let read = tokio::time::timeout(ASK_WAIT, read_request(&mut stream)).await;
    let refused = match read {
        // It went away, or is over.
        Ok(Ok(None)) => return,
        Ok(Ok(Some(ProxyRequest { asked: RequestHead::Tunnel { to }, rest }))) => {
            let origin = url_origin(&format!("https://{to}"));
            match open_tunnel(desk, to).await {
                Ok(opened) => {
                    // However it ended, there is no caller left to report to.
                    let _torn = relay_tunnel(stream, desk, (opened, &origin), rest).await;
                    return;
                }
                Err(refused) => refused,
            }
        }
        Ok(Ok(Some(ProxyRequest {
            asked: RequestHead::Request { method, url, headers, .. },
            rest: body,
        }))) => match forward_request(desk, method, url, headers, body).await {
            Ok(response) => {
                let _torn = pass_on(stream, desk, method, response).await;
                return;
            }
            Err(refused) => refused,
        },
        Ok(Err(HeadError(status, text))) => ProxyRefusal { status, text: text.to_owned() },
        Err(_) => ProxyRefusal { status: 408, text: "the request did not arrive in time".to_owned() },
    };
    // A program that does not listen misses the refusal.
    let _torn = write_refusal(&mut stream, &refused).await;
}

/// What a program asked for, with its body or with what it said too early for a tunnel.
struct ProxyRequest {
    asked: RequestHead,
    rest: Bytes,
}

/// What a program gets instead of an answer.
struct ProxyRefusal {
    status: u16,
    text: String,
}

/// Reads what is asked, as a whole.
async fn read_request(stream: &mut TcpStream) -> Result<Option<ProxyRequest>, HeadError> {
    let Some((asked, rest)) = head::read_head(stream).await? else { return Ok(None) };
    let (length, waits) = match asked {
        RequestHead::Request { length, waits, .. } => (length, waits),
        RequestHead::Tunnel { .. } => return Ok(Some(ProxyRequest { asked, rest })),
    };
    if waits && rest.len() < length {
        let go_on = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        if go_on.is_err() {
            return Ok(None);
        }
    }
    let mut body = BytesMut::from(&rest[..]);
    while body.len() < length {
        match stream.read_buf(&mut body).await {
            Ok(count) if count > 0 => {}
            Ok(_) | Err(_) => return Ok(None),
        }
    }
    // What comes behind it would be a second request, which is never answered.
    body.truncate(length);
    Ok(Some(ProxyRequest { asked, rest: body.freeze() }))
}

async fn open_tunnel(desk: &ProxySession, to: String) -> Result<EgressTunnel, ProxyRefusal> {
    let asked = desk.begin_request(HttpMethod::Connect, url_origin(&format!("https://{to}")))?;
    let (grants, share) = (desk.way.grants.clone(), desk.way.share.clone());
    match desk.way.line.request_tunnel(TunnelRequest { to, grants, share }).await {
        Ok(tunnel) => {
            desk.end_request(asked, &tunnel.decisions);
            Ok(tunnel)
        }
        Err(error) => {
            desk.end_request(asked, &error.decisions);
            Err(error.into())
        }
    }
}

async fn forward_request(
    desk: &ProxySession,
    method: HttpMethod,
    url: String,
    headers: Vec<(String, String)>,
    body: Bytes,
) -> Result<EgressResponse, ProxyRefusal> {
    if !desk.try_spend(body.len()) {
        return Err(ProxyRefusal {
            status: 403,
            text: "this program has used up its network limit".to_owned(),
        });
    }
    let asked = desk.begin_request(method, url_origin(&url))?;
    let (grants, share) = (desk.way.grants.clone(), desk.way.share.clone());
    // A program names no secret, so the line has none to put in.
    let request = EgressRequest { method, url, headers, body, grants, share, secrets: Vec::new() };
    match desk.way.line.send_request(request).await {
        Ok(response) => {
            desk.end_request(asked, &response.decisions);
            Ok(response)
        }
        Err(error) => {
            desk.end_request(asked, &error.decisions);
            Err(error.into())
        }
    }
}

/// The scheme, the host and the port of a URL; nothing if it cannot be read. The path may hold a secret.
pub(super) fn url_origin(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return String::new() };
    match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) if host.len() <= HOST_BYTES_MAX => {
            format!("{}://{host}:{port}", url.scheme())
        }
        _ => String::new(),
    }
}

/// Passes an answer on.
async fn pass_on(
    mut stream: TcpStream,
    desk: &ProxySession,
    method: HttpMethod,
    response: EgressResponse,
) -> Result<(), BrokenConnection> {
    let EgressResponse { status, headers, url, mut body, .. } = response;
    let broken = |fault| desk.note_broken(method, &url_origin(&url), fault);
    let mut head = format!("HTTP/1.1 {status} \r\nconnection: close\r\n");
    for (name, value) in &headers {
        if !OWN.contains(&name.as_str()) && !name.starts_with("proxy-") {
            // Writing to a string cannot fail.
            let _infallible = write!(head, "{name}: {value}\r\n");
        }
    }
    let is_empty = method == HttpMethod::Head || status == 204 || status == 304;
    let in_chunks = !is_empty && find_header(&headers, "content-length").is_none();
    head.push_str(if in_chunks { "transfer-encoding: chunked\r\n\r\n" } else { "\r\n" });
    write_bytes(&mut stream, head.as_bytes()).await?;
    if !is_empty {
        while let Some(piece) = body.next_chunk().await.map_err(broken)? {
            if !desk.try_spend(piece.len()) {
                return Err(BrokenConnection);
            }
            if in_chunks && !piece.is_empty() {
                write_bytes(&mut stream, format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                write_bytes(&mut stream, &piece).await?;
                write_bytes(&mut stream, b"\r\n").await?;
            } else {
                write_bytes(&mut stream, &piece).await?;
            }
        }
        if in_chunks {
            write_bytes(&mut stream, b"0\r\n\r\n").await?;
        }
    }
    stream.shutdown().await.map_err(|_| BrokenConnection)
}

/// Carries bytes through a tunnel, until both ends have said all or one of them is torn.
async fn relay_tunnel(
    stream: TcpStream,
    desk: &ProxySession,
    (tunnel, origin): (EgressTunnel, &str),
    rest: Bytes,
) -> Result<(), BrokenConnection> {
    let EgressTunnel { mut down, mut up, .. } = tunnel;
    let broken = |fault| desk.note_broken(HttpMethod::Connect, origin, fault);
    let (mut from, mut to) = stream.into_split();
    to.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.map_err(|_| BrokenConnection)?;
    let outward = async {
        let mut piece = rest;
        loop {
            if !desk.try_spend(piece.len()) {
                return Err(BrokenConnection);
            }
            up.write(piece).await.map_err(broken)?;
            let mut next = BytesMut::with_capacity(PIECE_BYTES_MAX);
            if from.read_buf(&mut next).await.map_err(|_| BrokenConnection)? == 0 {
                return up.finish().await.map_err(broken);
            }
            piece = next.freeze();
        }
    };
    let inward = async {
        while let Some(piece) = down.next_chunk().await.map_err(broken)? {
            if !desk.try_spend(piece.len()) {
                return Err(BrokenConnection);
            }
            to.write_all(&piece).await.map_err(|_| BrokenConnection)?;
        }
        to.shutdown().await.map_err(|_| BrokenConnection)
    };
    tokio::try_join!(outward, inward).map(|((), ())| ())
}

/// Tells a program why it gets nothing else, and reads it to its end: unread bytes could cost it the answer.
async fn write_refusal(stream: &mut TcpStream, refusal: &ProxyRefusal) -> Result<(), BrokenConnection> {
    let ProxyRefusal { status, text } = refusal;
    let length = text.len() + 1;
    let head = "content-type: text/plain; charset=utf-8\r\nconnection: close";
    let answer = format!("HTTP/1.1 {status} \r\n{head}\r\ncontent-length: {length}\r\n\r\n{text}\n");
    write_bytes(stream, answer.as_bytes()).await?;
    stream.shutdown().await.map_err(|_| BrokenConnection)?;
    let heard_out = async {
        let (mut heard, mut bytes) = ([0; 4096], 0);
        while bytes < HEAR_OUT_BYTES {
            match stream.read(&mut heard).await {
                Ok(count) if count > 0 => bytes += count,
                Ok(_) | Err(_) => return,
            }
        }
    };
    let _late = tokio::time::timeout(HEAR_OUT, heard_out).await;
    Ok(())
}

async fn write_bytes(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), BrokenConnection> {
    stream.write_all(bytes).await.map_err(|_| BrokenConnection)
}

impl From<EgressError> for ProxyRefusal {
    fn from(error: EgressError) -> Self {
        let status = match &error.failure {
            EgressFault::Refused { .. } => 403,
            EgressFault::Malformed { .. } => 400,
            EgressFault::TooLarge { part: OversizedPart::Request | OversizedPart::Headers, .. }
                if !error.is_sent =>
            {
                413
            }
            EgressFault::Late(_) => 504,
            EgressFault::Unreachable
            | EgressFault::Unusable { .. }
            | EgressFault::Broken
            | EgressFault::TooLarge { .. }
            | EgressFault::Packed
            | EgressFault::Redirects { .. } => 502,
        };
        Self { status, text: error.failure.to_string() }
    }
}

impl From<SessionDenial> for ProxyRefusal {
    fn from(shut: SessionDenial) -> Self {
        let text = match shut {
            SessionDenial::Over => "the program is over".to_owned(),
            SessionDenial::Full => {
                format!("this program has asked for {DECISIONS_MAX} different targets, which is the most")
            }
        };
        Self { status: 403, text }
    }
}
