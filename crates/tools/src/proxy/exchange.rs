//! One connection of a program to its proxy: what it asks, asked, and the answer.
//!
//! A refusal is an answer of the proxy with the reason as its text: 403 for what may not be reached, 502 and 504 for what
//! could not be. The head of an answer is written once the line has it; if its body breaks off, so does what the program
//! gets, without the end that would make it look whole.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dromia_contracts::egress::{
    EgressError, Failure, Method, Oversized, Request, Response, Tunnel, TunnelRequest, header,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use super::desk::{DECISIONS_MAX, Desk, Shut};
use super::head::{self, Asked, Problem};

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

/// What ended a connection before its time: the program hears no more.
struct Torn;

/// Answers one connection.
pub(super) async fn answer(mut stream: TcpStream, desk: &Desk) {
    let read = tokio::time::timeout(ASK_WAIT, asked(&mut stream)).await;
    let refused = match read {
        // It went away, or is over.
        Ok(Ok(None)) => return,
        Ok(Ok(Some(Whole { asked: Asked::Tunnel { to }, rest }))) => {
            match tunnel(desk, to).await {
                Ok(opened) => {
                    // However it ended, nobody is left to be told.
                    let _torn = carry(stream, desk, opened, rest).await;
                    return;
                }
                Err(refused) => refused,
            }
        }
        Ok(Ok(Some(Whole { asked: Asked::Request { method, url, headers, .. }, rest: body }))) => {
            match request(desk, method, url, headers, body).await {
                Ok(response) => {
                    let _torn = pass_on(stream, desk, method, response).await;
                    return;
                }
                Err(refused) => refused,
            }
        }
        Ok(Err(Problem(status, text))) => Refusal { status, text: text.to_owned() },
        Err(_) => Refusal { status: 408, text: "the request did not come in time".to_owned() },
    };
    // A program that does not listen is not told.
    let _torn = refuse(&mut stream, &refused).await;
}

/// What a program asked for, with its body or with what it said too early for a tunnel.
struct Whole {
    asked: Asked,
    rest: Bytes,
}

/// What a program is told instead of an answer.
struct Refusal {
    status: u16,
    text: String,
}

/// Reads what is asked, as a whole.
async fn asked(stream: &mut TcpStream) -> Result<Option<Whole>, Problem> {
    let Some((asked, rest)) = head::read(stream).await? else { return Ok(None) };
    let (length, waits) = match asked {
        Asked::Request { length, waits, .. } => (length, waits),
        Asked::Tunnel { .. } => return Ok(Some(Whole { asked, rest })),
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
    // What comes behind it would be a second request, which nobody answers.
    body.truncate(length);
    Ok(Some(Whole { asked, rest: body.freeze() }))
}

async fn tunnel(desk: &Desk, to: String) -> Result<Tunnel, Refusal> {
    let asked = desk.begin(Method::Connect, place(&format!("https://{to}")))?;
    let (grants, share) = (desk.way.grants.clone(), desk.way.share.clone());
    match desk.way.line.tunnel(TunnelRequest { to, grants, share }).await {
        Ok(tunnel) => {
            desk.end(asked, &tunnel.decisions);
            Ok(tunnel)
        }
        Err(error) => {
            desk.end(asked, &error.decisions);
            Err(error.into())
        }
    }
}

async fn request(
    desk: &Desk,
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Bytes,
) -> Result<Response, Refusal> {
    if !desk.spend(body.len()) {
        return Err(Refusal {
            status: 403,
            text: "this program has sent and got all that it may".to_owned(),
        });
    }
    let asked = desk.begin(method, place(&url))?;
    let (grants, share) = (desk.way.grants.clone(), desk.way.share.clone());
    // A program names no secret, so the line has none to put in.
    let request = Request { method, url, headers, body, grants, share, secrets: Vec::new() };
    match desk.way.line.send(request).await {
        Ok(response) => {
            desk.end(asked, &response.decisions);
            Ok(response)
        }
        Err(error) => {
            desk.end(asked, &error.decisions);
            Err(error.into())
        }
    }
}

/// The scheme, the host and the port of a URL; nothing if it cannot be read. The path may hold a secret.
pub(super) fn place(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return String::new() };
    match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) if host.len() <= HOST_BYTES_MAX => {
            format!("{}://{host}:{port}", url.scheme())
        }
        _ => String::new(),
    }
}

/// Passes an answer on.
async fn pass_on(mut stream: TcpStream, desk: &Desk, method: Method, response: Response) -> Result<(), Torn> {
    let Response { status, headers, mut body, .. } = response;
    let mut head = format!("HTTP/1.1 {status} \r\nconnection: close\r\n");
    for (name, value) in &headers {
        if !OWN.contains(&name.as_str()) && !name.starts_with("proxy-") {
            // Writing to a string cannot fail.
            let _infallible = write!(head, "{name}: {value}\r\n");
        }
    }
    let is_empty = method == Method::Head || status == 204 || status == 304;
    let in_chunks = !is_empty && header(&headers, "content-length").is_none();
    head.push_str(if in_chunks { "transfer-encoding: chunked\r\n\r\n" } else { "\r\n" });
    write(&mut stream, head.as_bytes()).await?;
    if !is_empty {
        while let Some(piece) = body.chunk().await.map_err(|_| Torn)? {
            if !desk.spend(piece.len()) {
                return Err(Torn);
            }
            if in_chunks && !piece.is_empty() {
                write(&mut stream, format!("{:x}\r\n", piece.len()).as_bytes()).await?;
                write(&mut stream, &piece).await?;
                write(&mut stream, b"\r\n").await?;
            } else {
                write(&mut stream, &piece).await?;
            }
        }
        if in_chunks {
            write(&mut stream, b"0\r\n\r\n").await?;
        }
    }
    stream.shutdown().await.map_err(|_| Torn)
}

/// Carries bytes through a tunnel, until both ends have said all or one of them is torn.
async fn carry(stream: TcpStream, desk: &Desk, tunnel: Tunnel, rest: Bytes) -> Result<(), Torn> {
    let Tunnel { mut down, mut up, .. } = tunnel;
    let (mut from, mut to) = stream.into_split();
    to.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.map_err(|_| Torn)?;
    let outward = async {
        let mut piece = rest;
        loop {
            if !desk.spend(piece.len()) {
                return Err(Torn);
            }
            up.write(piece).await.map_err(|_| Torn)?;
            let mut next = BytesMut::with_capacity(PIECE_BYTES_MAX);
            if from.read_buf(&mut next).await.map_err(|_| Torn)? == 0 {
                return up.finish().await.map_err(|_| Torn);
            }
            piece = next.freeze();
        }
    };
    let inward = async {
        while let Some(piece) = down.chunk().await.map_err(|_| Torn)? {
            if !desk.spend(piece.len()) {
                return Err(Torn);
            }
            to.write_all(&piece).await.map_err(|_| Torn)?;
        }
        to.shutdown().await.map_err(|_| Torn)
    };
    tokio::try_join!(outward, inward).map(|((), ())| ())
}

/// Tells a program why it gets nothing else, and hears it out, so that the answer is not lost with what nobody read.
async fn refuse(stream: &mut TcpStream, refusal: &Refusal) -> Result<(), Torn> {
    let Refusal { status, text } = refusal;
    let length = text.len() + 1;
    let head = "content-type: text/plain; charset=utf-8\r\nconnection: close";
    let answer = format!("HTTP/1.1 {status} \r\n{head}\r\ncontent-length: {length}\r\n\r\n{text}\n");
    write(stream, answer.as_bytes()).await?;
    stream.shutdown().await.map_err(|_| Torn)?;
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

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), Torn> {
    stream.write_all(bytes).await.map_err(|_| Torn)
}

impl From<EgressError> for Refusal {
    fn from(error: EgressError) -> Self {
        let status = match &error.failure {
            Failure::Refused { .. } => 403,
            Failure::Malformed { .. } => 400,
            Failure::TooLarge { part: Oversized::Request | Oversized::Headers, .. } if !error.is_sent => 413,
            Failure::Late(_) => 504,
            Failure::Unreachable
            | Failure::Unusable { .. }
            | Failure::Broken
            | Failure::TooLarge { .. }
            | Failure::Packed
            | Failure::Redirects { .. } => 502,
        };
        Self { status, text: error.failure.to_string() }
    }
}

impl From<Shut> for Refusal {
    fn from(shut: Shut) -> Self {
        let text = match shut {
            Shut::Over => "the program is over".to_owned(),
            Shut::Full => {
                format!("this program has asked for {DECISIONS_MAX} different things, and no more is judged")
            }
        };
        Self { status: 403, text }
    }
}
