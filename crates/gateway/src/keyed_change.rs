//! `Idempotency-Key` on changes: the first request with a key is carried out, and a repeat gets the answer of the first.
//!
//! The key is claimed in the store before the handler acts, and the answer is kept with the claim after it. The process may
//! stop in between: the claim stays without an answer, and for a day a repeat is refused as `outcome_unknown`, because the
//! change may have been made. It is never made twice. A request that was refused gives its key back. A client that goes
//! away cuts nothing off: claim, change and answer are carried through.
//!
//! Not here: inputs, tasks, calls and revisions, whose keys are written in the commit of the change itself; the import of
//! a session, which its content names; a new tenant, which its handle names. Nothing that holds a secret is kept: of a key
//! and of a request only digests are, and a guess at a secret in a request needs the client's key too.

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{FromRequestParts as _, Request};
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dromia_api::{IDEMPOTENCY_HEADER, REPLAYED_HEADER};
use dromia_contracts::store::{AnswerPut, CommitOutcome, CommitRefusal, Mutation, WriteBatch};
use dromia_contracts::{Digest, ErrorCode, Scope};

use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::read_shared;
use crate::failure::{Answer, ApiError, commit_receipt};
use crate::idempotency_key::IdempotencyKey;

/// The longest body of an answer that is kept.
const KEPT_BYTES_MAX: usize = 64 * 1_024;

/// What a client's key does for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyUse {
    /// Nothing here: the route changes nothing, or what it writes is known by itself when it comes again.
    None,
    /// A repeat gets the first answer.
    AnswerKept,
    /// A repeat is refused, because the first answer holds a secret.
    AnswerDropped,
}

impl KeyUse {
    /// What the description of the interface says of the header.
    pub(crate) const fn description(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::AnswerKept => Some(
                "A repeated request with the same key is carried out once: for 24 hours it gets the first answer, \
                 with the header Idempotency-Replayed.",
            ),
            Self::AnswerDropped => Some(
                "A repeated request with the same key is carried out once: for 24 hours it is refused, because the \
                 first answer holds a secret, which is not kept.",
            ),
        }
    }
}

/// Has a handler answer a request, once for a key.
pub(crate) async fn carry_out_once<F>(
    core: &Shared,
    key_use: KeyUse,
    request: Request,
    act: impl FnOnce(Request) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = Response> + Send + 'static,
{
    if key_use == KeyUse::None || !request.headers().contains_key(IDEMPOTENCY_HEADER) {
        return act(request).await;
    }
    let (claim, request) = match KeyClaim::of_request(core, request).await {
        Ok(claimed) => claimed,
        Err(failure) => return failure.into_response(),
    };
    let shared = Shared::clone(core);
    let carried = core.ports.runtime.carried_through(async move {
        match claim.commit_claim(&shared).await {
            Ok(None) => claim.keep_answer(&shared, key_use, act(request).await).await,
            Ok(Some(earlier)) => earlier,
            Err(failure) => failure.into_response(),
        }
    });
    carried.await
}

/// The claim of a request on its key.
struct KeyClaim {
    scope: Scope,
    put: AnswerPut,
}

impl KeyClaim {
    async fn of_request(core: &Shared, request: Request) -> Answer<(Self, Request)> {
        let (mut parts, body) = request.into_parts();
        let key = IdempotencyKey::from_request_parts(&mut parts, core).await?.into_text().unwrap_or_default();
        let caller = parts.extensions.get::<Caller>();
        let caller = caller.ok_or_else(|| ApiError::new(ErrorCode::Internal, "the request has no caller"))?;
        let scope = caller.scope.clone();
        let body = read_shared(Request::from_parts(parts.clone(), body), core).await?;
        let mut request =
            blake3::Hasher::new_keyed(&blake3::derive_key("dromia keyed change", key.as_bytes()));
        let place = parts.uri.path_and_query().map_or("", |place| place.as_str());
        request.update(format!("{} {place}\n", parts.method).as_bytes()).update(&body);
        let put = AnswerPut {
            key: Digest::from_bytes(*blake3::hash(format!("{}\n{key}", scope.actor()).as_bytes()).as_bytes()),
            request: Digest::from_bytes(*request.finalize().as_bytes()),
            claim: core.ports.runtime.ids.new_uuid().as_u128(),
            at: core.ports.runtime.clock.now(),
            answer: None,
        };
        Ok((Self { scope, put }, Request::from_parts(parts, Body::from(body))))
    }

    async fn commit(&self, core: &GatewayCore, answer: Option<Bytes>) -> CommitOutcome {
        let put = Mutation::AnswerPut(AnswerPut { answer, ..self.put.clone() });
        core.ports.store.commit(WriteBatch::new(self.scope.tenant()).with_mutation(put)).await
    }

    /// Claims the key; gives the answer of the request that has it already.
    async fn commit_claim(&self, core: &GatewayCore) -> Answer<Option<Response>> {
        match self.commit(core, None).await {
            CommitOutcome::Refused(CommitRefusal::AnswerClaimed) => self.find_earlier(core).await.map(Some),
            outcome => commit_receipt(outcome).map(|_| None),
        }
    }

    async fn find_earlier(&self, core: &GatewayCore) -> Answer<Response> {
        let known = core.ports.store.kept_answer(&self.scope, self.put.key).await?;
        let conflict = |text: &str| Err(ApiError::new(ErrorCode::IdempotencyConflict, text));
        match known {
            Some(known) if known.request != self.put.request => {
                conflict("the idempotency key was used for a different request")
            }
            Some(AnswerPut { answer: None, at, .. }) => {
                let text = format!(
                    "a request with this idempotency key began at {at} and has no answer: it is still being carried out, \
                     or the server stopped meanwhile"
                );
                let hint = "send it again in a moment; if the answer stays the same, check whether the change was made, \
                            then use a new key";
                Err(ApiError::new(ErrorCode::OutcomeUnknown, text).with_hint(hint))
            }
            Some(AnswerPut { answer: Some(kept), .. }) if *kept == *AnswerPut::NOT_KEPT => conflict(
                "the request with this idempotency key was carried out, and its answer is not kept: it holds a secret or \
                 is too long, or an agent was erased since",
            )
            .map_err(|failure| failure.with_hint("look at what it changed; use a new key for a new request")),
            Some(AnswerPut { answer: Some(kept), .. }) if !kept.is_empty() => replay_answer(&kept),
            Some(_) | None => {
                Err(ApiError::new(ErrorCode::Overloaded, "a request with this idempotency key was just refused"))
            }
        }
    }

    /// Keeps what the handler answered, and gives it to the client. A refusal frees the key, unless the change may have
    /// been made all the same.
    async fn keep_answer(&self, core: &GatewayCore, key_use: KeyUse, response: Response) -> Response {
        let (answer, response) = match response.extensions().get::<ApiError>().map(ApiError::code) {
            Some(
                ErrorCode::OutcomeUnknown
                | ErrorCode::Internal
                | ErrorCode::StoreUnavailable
                | ErrorCode::JournalDamaged,
            ) => return response,
            Some(_) => (Bytes::new(), response),
            None if key_use == KeyUse::AnswerDropped => (Bytes::from_static(AnswerPut::NOT_KEPT), response),
            None => write_answer(response).await,
        };
        if let outcome @ (CommitOutcome::Refused(_) | CommitOutcome::Unknown { .. }) =
            self.commit(core, Some(answer)).await
        {
            tracing::warn!(?outcome, "the answer to a keyed change is not kept");
        }
        response
    }
}

/// Writes an answer as it is kept: a line of its status, a line of its entity tag, and its body.
async fn write_answer(response: Response) -> (Bytes, Response) {
    let (parts, body) = response.into_parts();
    let fits = body.size_hint().upper().is_some_and(|most| most <= KEPT_BYTES_MAX as u64);
    if !fits {
        return (Bytes::from_static(AnswerPut::NOT_KEPT), Response::from_parts(parts, body));
    }
    // Its whole length is known, so it is in memory already.
    let body = to_bytes(body, KEPT_BYTES_MAX).await.unwrap_or_default();
    let tag = parts.headers.get(ETAG).and_then(|tag| tag.to_str().ok()).unwrap_or_default();
    let kept = [format!("{}\n{tag}\n", parts.status.as_u16()).as_bytes(), &body].concat();
    (kept.into(), Response::from_parts(parts, Body::from(body)))
}

/// Makes the answer again that was kept.
fn replay_answer(kept: &Bytes) -> Answer<Response> {
    let mut lines = kept.splitn(3, |byte| *byte == b'\n');
    let (status, tag, body) = (lines.next(), lines.next(), lines.next().unwrap_or_default());
    let status = status.and_then(|status| StatusCode::from_bytes(status).ok());
    let status = status.ok_or_else(|| ApiError::new(ErrorCode::Internal, "a kept answer is unreadable"))?;
    let mut response = Response::new(Body::from(kept.slice_ref(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
    if let Some(tag) = tag.filter(|tag| !tag.is_empty()).and_then(|tag| HeaderValue::from_bytes(tag).ok()) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}
