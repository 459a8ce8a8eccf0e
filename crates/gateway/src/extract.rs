//! Reads requests: path segments, query parameters and JSON bodies, each refused in words that name the place.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH};
use bytes::{Bytes, BytesMut};
use dromia_api::list::{LIMIT_DEFAULT, LIMIT_MAX};
use dromia_contracts::ErrorCode;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::time::timeout;

use crate::body_budget::{BodyPayer, BodyShare};
use crate::core::{GatewayCore, Shared};
use crate::edge_refusal::EdgeRefusal;
use crate::failure::{Answer, ApiError};

/// What to do about a request that is not what its route takes.
const NEXT: &str = "`GET /openapi.json` describes what each route accepts";

/// The library's messages about numbers that it cannot parse, and ours.
const NUMBERS: [(&str, &str); 3] = [
    ("invalid digit found in string", "it must be a whole number, 0 or greater"),
    ("cannot parse integer from empty string", "it must be a whole number, and it is empty"),
    ("number too large to fit in target type", "the number is too large"),
];

/// The variable segments of the path.
#[derive(Debug, FromRequestParts)]
#[from_request(via(Path), rejection(ApiError))]
pub(crate) struct PathSegments<T>(pub(crate) T);

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid_request(rejection.body_text())
    }
}

/// The query parameters.
#[derive(Debug, FromRequestParts)]
#[from_request(via(Query), rejection(ApiError))]
pub(crate) struct QueryParams<T>(pub(crate) T);

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        let text = rejection.body_text();
        // The library's own prefix means nothing to the client.
        let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
        let mut text = text.to_owned();
        for (theirs, ours) in NUMBERS {
            text = text.replace(theirs, ours);
        }
        Self::invalid_request(format!("the query does not match this route: {text}")).with_hint(NEXT)
    }
}

/// A JSON object as a body.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Shared> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, core: &Shared) -> Result<Self, ApiError> {
        let bytes = read_shared(request, core).await?;
        // A list could stand for the fields of an object in their order.
        match bytes.iter().position(|byte| !byte.is_ascii_whitespace()) {
            Some(at) if bytes[at] == b'[' => Err(invalid_body(&not_an_object(&bytes, at))),
            Some(_) | None => parse_json_body(&bytes).map(Self),
        }
    }
}

/// A JSON body that may be any value.
#[derive(Debug)]
pub(crate) struct JsonValue<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Shared> for JsonValue<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, core: &Shared) -> Result<Self, ApiError> {
        parse_json_body(&read_shared(request, core).await?).map(Self)
    }
}

/// Reads the bytes of a JSON body.
pub(crate) fn parse_json_body<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    serde_json::from_slice(bytes).map_err(|error| json_body_error(bytes, &error))
}

fn invalid_body(problem: &str) -> ApiError {
    ApiError::invalid_request(format!("the body does not match this route: {problem}")).with_hint(NEXT)
}

/// Says where a body begins that is no object.
fn not_an_object(bytes: &[u8], at: usize) -> String {
    let line = bytes[..at].split(|byte| *byte == b'\n').count();
    let column = bytes[..=at].rsplit(|byte| *byte == b'\n').next().map_or(0, <[u8]>::len);
    format!("it is not a JSON object, at line {line} column {column}")
}

/// Says of a body that does not fit what is wrong with it, and where.
fn json_body_error(bytes: &[u8], error: &serde_json::Error) -> ApiError {
    let Some(at) = bytes.iter().position(|byte| !byte.is_ascii_whitespace()) else {
        return ApiError::invalid_request("the body is empty, but this route needs a JSON object")
            .with_hint(NEXT);
    };
    let text = match error.classify() {
        Category::Data if bytes[at] == b'{' => describe_json_error(error),
        Category::Data => not_an_object(bytes, at),
        Category::Eof => {
            format!("the JSON ends too early, at line {} column {}", error.line(), error.column())
        }
        Category::Syntax | Category::Io => format!("it is not JSON: {}", describe_json_error(error)),
    };
    invalid_body(&text)
}

/// The words of an error, none of them about this program, and the line and column of the byte that does not fit.
fn describe_json_error(error: &serde_json::Error) -> String {
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
    type Rejection = ApiError;

    async fn from_request(request: Request, core: &Shared) -> Result<Self, ApiError> {
        parse_json_with_path(&read_shared(request, core).await?).map(Self)
    }
}

/// Reads the bytes of a JSON body of another API.
pub(crate) fn parse_json_with_path<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let place = error.path().to_string();
        let problem = error.into_inner();
        if place == "." {
            return json_body_error(bytes, &problem);
        }
        ApiError::invalid_request(format!("`{place}`: {}", describe_json_error(&problem))).at_field(place)
    })?;
    json.end().map_err(|error| json_body_error(bytes, &error))?;
    Ok(read)
}

/// Reads a body of which many may be on their way: its bytes are taken from the shares of its sender.
pub(crate) async fn read_shared(request: Request, core: &GatewayCore) -> Answer<Bytes> {
    let payer = request.extensions().get::<BodyPayer>().copied().unwrap_or_default();
    let share = core.limits.bodies.begin_body(payer);
    read_within(request, core, core.live().capacity.body_bytes_max, Some(share)).await
}

/// Reads a body that has another bound of how many there are at a time.
pub(crate) async fn read_body(request: Request, core: &GatewayCore, bytes_max: usize) -> Answer<Bytes> {
    read_within(request, core, bytes_max, None).await
}

/// Reads a body within limits of length and time. One that is compressed is refused: it would be read as something else.
async fn read_within(
    request: Request,
    core: &GatewayCore,
    bytes_max: usize,
    share: Option<BodyShare>,
) -> Answer<Bytes> {
    check_encoding(request.headers())?;
    let config = core.live();
    let too_large = || too_large(bytes_max, bytes_max == config.capacity.body_bytes_max);
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > bytes_max as u64) {
        return Err(too_large());
    }
    let whole =
        timeout(config.body_time(), collect_body(core, request.into_body(), bytes_max, share, too_large));
    whole.await.unwrap_or_else(|_| {
        core.meters.count_refusal(EdgeRefusal::SlowBody);
        Err(ApiError::invalid_request("the body did not arrive in time")
            .with_status(408)
            .with_hint("send it faster, or raise limits.body_ms in dromia.yaml"))
    })
}

fn check_encoding(headers: &HeaderMap) -> Answer<()> {
    for encoding in headers.get_all(CONTENT_ENCODING) {
        if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
            return Err(ApiError::invalid_request(
                "the body has a Content-Encoding, which this server does not support",
            )
            .with_status(415)
            .with_hint("send the body without an encoding and without the header"));
        }
    }
    Ok(())
}

async fn collect_body(
    core: &GatewayCore,
    body: Body,
    bytes_max: usize,
    mut share: Option<BodyShare>,
    too_large: impl Fn() -> ApiError,
) -> Answer<Bytes> {
    let mut pieces = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            ApiError::invalid_request(format!("the connection broke before the body was complete: {error}"))
        })?;
        if whole.len() + piece.len() > bytes_max {
            return Err(too_large());
        }
        if let Some(share) = &mut share {
            share.grow(piece.len()).inspect_err(|_| core.meters.count_refusal(EdgeRefusal::BodyBytes))?;
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Not every limit is one that an operator sets.
fn too_large(bytes_max: usize, is_configured: bool) -> ApiError {
    let text = format!("the body is longer than {bytes_max} bytes");
    let failure = ApiError::new(ErrorCode::BodyTooLarge, text);
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
        limit => {
            Err(ApiError::invalid_request(format!("`limit` must be from 1 to {LIMIT_MAX}, and is {limit}")))
        }
    }
}

/// Reads an id.
pub(crate) fn parse_id<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Answer<T> {
    text.parse().map_err(|error: T::Err| ApiError::invalid_request(error.to_string()))
}

/// Tells whether a client asks for a stream of events.
pub(crate) fn accepts_event_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(','));
    kinds.any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/event-stream"))
}
