//! Reads requests: path segments, query parameters and JSON bodies, each refused in words that name the place.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use bytes::{Bytes, BytesMut};
use dromia_api::list::{LIMIT_DEFAULT, LIMIT_MAX};
use dromia_contracts::ErrorCode;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::time::timeout;

use crate::core::{Core, Shared};
use crate::failure::{Answer, Failure};
use crate::metrics::Refused;

/// What to do about a request that is not what its route takes.
const NEXT: &str = "`GET /openapi.json` says what each route takes";

/// What the library says of a number that is none, and what we say.
const NUMBERS: [(&str, &str); 3] = [
    ("invalid digit found in string", "it must be a whole number, 0 or greater"),
    ("cannot parse integer from empty string", "it must be a whole number, and is empty"),
    ("number too large to fit in target type", "the number is too great"),
];

/// The variable segments of the path.
#[derive(Debug, FromRequestParts)]
#[from_request(via(Path), rejection(Failure))]
pub(crate) struct Segments<T>(pub(crate) T);

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}

/// The query parameters.
#[derive(Debug, FromRequestParts)]
#[from_request(via(Query), rejection(Failure))]
pub(crate) struct Params<T>(pub(crate) T);

impl From<QueryRejection> for Failure {
    fn from(rejection: QueryRejection) -> Self {
        let text = rejection.body_text();
        // What a library says of itself says nothing to whoever asked.
        let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
        let mut text = text.to_owned();
        for (theirs, ours) in NUMBERS {
            text = text.replace(theirs, ours);
        }
        Self::invalid(format!("the query is not what this route takes: {text}")).with_hint(NEXT)
    }
}

/// A JSON body.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Shared> for JsonBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, core: &Shared) -> Result<Self, Failure> {
        json(&read_body(request, core, core.config.body_bytes_max).await?).map(Self)
    }
}

/// Reads the bytes of a JSON body.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    serde_json::from_slice(bytes).map_err(|error| unfit(bytes, &error))
}

/// Says of a body that does not fit what is wrong with it, and where.
fn unfit(bytes: &[u8], error: &serde_json::Error) -> Failure {
    let Some(at) = bytes.iter().position(|byte| !byte.is_ascii_whitespace()) else {
        return Failure::invalid("the body is empty, and this route takes a JSON object").with_hint(NEXT);
    };
    let text = match error.classify() {
        Category::Data if bytes[at] == b'{' => told(error),
        Category::Data => {
            let line = bytes[..at].split(|byte| *byte == b'\n').count();
            let column = bytes[..=at].rsplit(|byte| *byte == b'\n').next().map_or(0, <[u8]>::len);
            format!("it must be a JSON object, and is none, at line {line} column {column}")
        }
        Category::Eof => {
            format!("its JSON ends too early, at line {} column {}", error.line(), error.column())
        }
        Category::Syntax | Category::Io => format!("it is not JSON: {}", told(error)),
    };
    Failure::invalid(format!("the body is not what this route takes: {text}")).with_hint(NEXT)
}

/// The words of an error, none of them about this program, and the line and column of the byte that does not fit.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!("at line {} column {}", error.line(), error.column());
    let Some(words) = text.strip_suffix(&place) else { return text };
    let words = words.trim_end();
    match words.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected an object, {place}"),
        None => format!("{words}, {place}"),
    }
}

/// A JSON body of another API: what does not fit is named by its path, such as `messages[3].content`.
#[derive(Debug)]
pub(crate) struct PathedBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Shared> for PathedBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, core: &Shared) -> Result<Self, Failure> {
        pathed(&read_body(request, core, core.config.body_bytes_max).await?).map(Self)
    }
}

/// Reads the bytes of a JSON body of another API.
pub(crate) fn pathed<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = error.path().to_string();
        let problem = error.into_inner();
        if place == "." {
            return unfit(bytes, &problem);
        }
        Failure::invalid(format!("`{place}`: {}", told(&problem))).at(place)
    })?;
    json.end().map_err(|error| unfit(bytes, &error))?;
    Ok(read)
}

/// Reads a body within limits of length and time. One that is compressed is refused: it would be read as something else.
pub(crate) async fn read_body(request: Request, core: &Core, bytes_max: usize) -> Answer<Bytes> {
    check_encoding(request.headers())?;
    let too_large = || too_large(bytes_max, bytes_max == core.config.body_bytes_max);
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > bytes_max as u64) {
        return Err(too_large());
    }
    let whole = timeout(core.config.body_time(), collect(request.into_body(), bytes_max, too_large));
    whole.await.unwrap_or_else(|_| {
        core.meters.refused(Refused::SlowBody);
        Err(Failure::invalid("the body did not arrive in time")
            .with_status(408)
            .with_hint("send it faster, or raise limits.body_ms in dromia.yaml"))
    })
}

fn check_encoding(headers: &HeaderMap) -> Answer<()> {
    for encoding in headers.get_all(CONTENT_ENCODING) {
        if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
            return Err(Failure::invalid("the body has a Content-Encoding, and this server reads none")
                .with_status(415)
                .with_hint("send the body as it is, without the header"));
        }
    }
    Ok(())
}

async fn collect(body: Body, bytes_max: usize, too_large: impl Fn() -> Failure) -> Answer<Bytes> {
    let mut pieces = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Failure::invalid(format!("the body broke off: {error}")))?;
        if whole.len() + piece.len() > bytes_max {
            return Err(too_large());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Not every limit is one that an operator sets.
fn too_large(bytes_max: usize, is_configured: bool) -> Failure {
    let text = format!("the body is longer than {bytes_max} bytes");
    let failure = Failure::new(ErrorCode::BodyTooLarge, text);
    if is_configured {
        failure.with_hint("send less at a time, or raise limits.body_bytes_max in dromia.yaml")
    } else {
        failure
    }
}

/// Reads the `limit` of a listing.
pub(crate) fn page_limit(limit: Option<u32>) -> Answer<usize> {
    match limit.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit as usize),
        limit => Err(Failure::invalid(format!("`limit` must be from 1 to {LIMIT_MAX}, and is {limit}"))),
    }
}

/// Reads an id.
pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Answer<T> {
    text.parse().map_err(|error: T::Err| Failure::invalid(error.to_string()))
}
