//! The head of what a program asks its proxy: read within a bound, and taken for what it says or refused.

use bytes::{Bytes, BytesMut};
use dromia_contracts::egress::HttpMethod;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The most bytes of a head.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// The most headers; the line takes as many.
const HEADERS_MAX: usize = 100;

/// The longest body of a request, which is held in memory. What goes through a tunnel is not.
const BODY_BYTES_MAX: usize = 512 << 10;

/// Headers that are a connection's own, or that the line sets.
const OWN: [&str; 10] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a program asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestHead {
    /// A tunnel.
    Tunnel {
        /// The host and the port.
        to: String,
    },
    /// A request.
    Request {
        /// What is asked.
        method: HttpMethod,
        /// Of what.
        url: String,
        /// What goes with it.
        headers: Vec<(String, String)>,
        /// How long its body is.
        length: usize,
        /// Whether the body comes only after `100 Continue`.
        waits: bool,
    },
}

/// Why a head is not taken: a status, and words for the author of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadError(pub(super) u16, pub(super) &'static str);

const NO_HTTP: HeadError = HeadError(400, "this is an HTTP proxy, and the request is not HTTP");
const TOO_LONG: HeadError =
    HeadError(431, "the head of the request has more than 32768 bytes or 100 headers");
const NO_URL: HeadError = HeadError(
    400,
    "this is a proxy: ask for CONNECT HOST:PORT, or for a URL that begins with http:// or https://",
);
const METHOD: HeadError =
    HeadError(501, "only GET, HEAD, POST, PUT, PATCH and DELETE are supported; use CONNECT for others");
const OLD: HeadError = HeadError(505, "a request needs HTTP/1.1, so that a truncated answer is noticed");
const LENGTH: HeadError = HeadError(411, "send the length of the body in content-length, or use CONNECT");
const NO_LENGTH: HeadError = HeadError(400, "the length of the body cannot be read");
const BODY: HeadError = HeadError(413, "a body may have at most 524288 bytes; use CONNECT for more");

/// Reads a head, and gives back what came behind it. Nothing if the connection ends before there is one.
pub(super) async fn read_head<R: AsyncRead + Unpin>(
    from: &mut R,
) -> Result<Option<(RequestHead, Bytes)>, HeadError> {
    let mut read = BytesMut::with_capacity(4 << 10);
    loop {
        if let Some((asked, length)) = parse_head(&read)? {
            let behind = read.split_off(length);
            return Ok(Some((asked, behind.freeze())));
        }
        if read.len() >= HEAD_BYTES_MAX {
            return Err(TOO_LONG);
        }
        match from.read_buf(&mut read).await {
            Ok(count) if count > 0 => {}
            Ok(_) | Err(_) => return Ok(None),
        }
    }
}

/// Parses a head, and returns how long it is; `None` if it is not complete yet.
fn parse_head(text: &[u8]) -> Result<Option<(RequestHead, usize)>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(text) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LONG),
        Err(_) => return Err(NO_HTTP),
    };
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(NO_HTTP);
    };
    if method == HttpMethod::Connect.as_str() {
        return Ok(Some((RequestHead::Tunnel { to: target.to_owned() }, length)));
    }
    if version == 0 {
        return Err(OLD);
    }
    let method = HttpMethod::ALL.into_iter().find(|known| known.as_str() == method).ok_or(METHOD)?;
    let is_url = ["http://", "https://"]
        .iter()
        .any(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    if !is_url {
        return Err(NO_URL);
    }
    interpret_head(method, target, request.headers).map(|asked| Some((asked, length)))
}

fn interpret_head(
    method: HttpMethod,
    url: &str,
    headers: &[httparse::Header<'_>],
) -> Result<RequestHead, HeadError> {
    let values = |name: &'static str| {
        headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    if values("transfer-encoding").next().is_some() {
        return Err(LENGTH);
    }
    let mut lengths = values("content-length").map(parse_number);
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => 0,
        (Some(length), None) => length.ok_or(NO_LENGTH)?,
        (Some(_), Some(_)) => return Err(NO_LENGTH),
    };
    if length > BODY_BYTES_MAX {
        return Err(BODY);
    }
    // What the program says is its connection's own goes no further than the connection.
    let named: Vec<_> = values("connection")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|name| name.trim_ascii().to_ascii_lowercase())
        .collect();
    let is_own = |name: &str| {
        OWN.contains(&name)
            || name.starts_with("proxy-")
            || named.iter().any(|known| known == name.as_bytes())
    };
    let kept = headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned()))
        .filter(|(name, _)| !is_own(name))
        .collect();
    let waits = values("expect").any(|value| value.eq_ignore_ascii_case(b"100-continue"));
    Ok(RequestHead::Request { method, url: url.to_owned(), headers: kept, length, waits })
}

fn parse_number(text: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<RequestHead>, HeadError> {
        parse_head(text.as_bytes()).map(|parsed| parsed.map(|(asked, _)| asked))
    }

    #[test]
    fn a_head_is_taken_for_what_it_says() {
        let tunnel = of("CONNECT h:443 HTTP/1.0\r\n\r\n").expect("it is one");
        assert_eq!(tunnel, Some(RequestHead::Tunnel { to: "h:443".to_owned() }));
        let text = "POST HTTP://h/p?q HTTP/1.1\r\nHost: other\r\nX-A: 1\r\nConnection: close, X-B\r\nX-B: 2\r\nProxy-Connection: keep-alive\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
        let request = of(text).expect("it is one");
        let asked = RequestHead::Request {
            method: HttpMethod::Post,
            url: "HTTP://h/p?q".to_owned(),
            headers: vec![("x-a".to_owned(), "1".to_owned())],
            length: 3,
            waits: true,
        };
        assert_eq!(request, Some(asked));
        for cut in 0..text.len() {
            assert_eq!(of(&text[..cut]), Ok(None), "{cut} bytes are no head");
        }
    }

    #[test]
    fn an_invalid_proxy_request_is_refused_with_its_reason() {
        let many = format!("GET http://h/ HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        for (text, problem) in [
            ("GET / HTTP/1.1\r\n\r\n", NO_URL),
            ("GET ftp://h/ HTTP/1.1\r\n\r\n", NO_URL),
            ("TRACE http://h/ HTTP/1.1\r\n\r\n", METHOD),
            ("get http://h/ HTTP/1.1\r\n\r\n", METHOD),
            ("GET http://h/ HTTP/1.0\r\n\r\n", OLD),
            ("POST http://h/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", LENGTH),
            ("POST http://h/ HTTP/1.1\r\nContent-Length: +1\r\n\r\n", NO_LENGTH),
            ("POST http://h/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", NO_LENGTH),
            ("POST http://h/ HTTP/1.1\r\nContent-Length: 524289\r\n\r\n", BODY),
            ("\u{16}\u{3}\u{1}hello", NO_HTTP),
            (many.as_str(), TOO_LONG),
        ] {
            assert_eq!(of(text), Err(problem), "{text:?}");
        }
    }
}
