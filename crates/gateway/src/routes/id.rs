//! Ids by their first or last digits, as people type them. What the caller's scope does not see is not found, so a part of a
//! stranger's id answers as a part of no id does.

use axum::Json;
use axum::extract::State;
use dromia_api::id::{IdMatch, IdMatches, MATCHES_MAX};
use dromia_contracts::id_fragment::{IdFragment, IdKind};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::PageRequest;
use dromia_contracts::{ApprovalId, CapabilityId, DeliveryId, ErrorCode, RunId, Scope, SessionId, TokenId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, QueryParams};
use crate::failure::{Answer, ApiError};
use crate::question::{first_words, read_question};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdQuery {
    /// Whose ids are meant; may be absent where the digits have the prefix of their noun.
    kind: Option<IdKind>,
}

pub(crate) async fn find_ids(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(typed): PathSegments<String>,
    QueryParams(query): QueryParams<IdQuery>,
) -> Answer<Json<IdMatches>> {
    let (prefixed, digits) = match IdKind::split_prefix(&typed) {
        Some((kind, digits)) => (Some(kind), digits),
        None => (None, typed.as_str()),
    };
    let kind = match (prefixed, query.kind) {
        (Some(prefixed), Some(asked)) if prefixed != asked => {
            let text =
                format!("`kind` is {}, but {typed:?} is the id of a {}", asked.as_str(), prefixed.as_str());
            return Err(ApiError::invalid_request(text));
        }
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => return Err(ApiError::invalid_request("`kind` is missing, such as kind=run")),
    };
    let fragment: IdFragment = digits
        .parse()
        .map_err(|error| ApiError::invalid_request(format!("{typed:?} is no part of an id: {error}")))?;
    // One more than is given says whether there are more.
    let ids = core.ports.store.ids_like(&caller.scope, kind, fragment, MATCHES_MAX + 1).await?;
    let more = ids.len() > MATCHES_MAX;
    let mut matches = Vec::new();
    for id in ids.into_iter().take(MATCHES_MAX) {
        // What was erased since is absent.
        if let Some((at, text)) = describe_id(&core, &caller.scope, kind, id).await? {
            matches.push(IdMatch { id: kind.format_id(id), at, text });
        }
    }
    if matches.is_empty() {
        let text = format!("there is no {} whose id begins or ends with {typed:?}", kind.as_str());
        return Err(ApiError::new(absent_code(kind), text));
    }
    Ok(Json(IdMatches { kind, matches, more }))
}

const fn absent_code(kind: IdKind) -> ErrorCode {
    match kind {
        IdKind::Run => ErrorCode::RunNotFound,
        IdKind::Session => ErrorCode::SessionNotFound,
        IdKind::Approval => ErrorCode::ApprovalNotFound,
        IdKind::Delivery => ErrorCode::DeliveryNotFound,
        IdKind::Capability => ErrorCode::CapabilityNotFound,
        IdKind::Token => ErrorCode::TokenNotFound,
    }
}

/// Says when what has an id was made, and what people know it by.
async fn describe_id(
    core: &GatewayCore,
    scope: &Scope,
    kind: IdKind,
    id: [u8; 16],
) -> Answer<Option<(Timestamp, String)>> {
    let store = &core.ports.store;
    Ok(match kind {
        IdKind::Run => match store.run(scope, RunId::from_bytes(id)).await? {
            Some(run) => {
                let question = read_question(core, scope, InboxOwner::Run(run.id)).await?;
                Some((run.started_at, question.unwrap_or_default()))
            }
            None => None,
        },
        IdKind::Session => match store.session(scope, SessionId::from_bytes(id)).await? {
            Some(session) => {
                let question = read_question(core, scope, InboxOwner::Session(session.id)).await?;
                Some((session.opened_at, question.unwrap_or_default()))
            }
            None => None,
        },
        IdKind::Approval => store.approval(scope, ApprovalId::from_bytes(id)).await?.map(|approval| {
            (
                approval.deadlines.asked_at,
                first_words(&format!("{} {}", approval.judged.tool, approval.judged.arguments)),
            )
        }),
        IdKind::Delivery => {
            let record = store.delivery_record(scope, DeliveryId::from_bytes(id)).await?;
            record.map(|record| (record.delivery.prepared_at, record.delivery.target))
        }
        IdKind::Capability => {
            // The page behind the id before it begins with it.
            let before = u128::from_be_bytes(id).wrapping_sub(1).to_be_bytes();
            let page = PageRequest { after: Some(CapabilityId::from_bytes(before)), limit: 1 };
            let found = store.capabilities(scope, page).await?.into_iter().next();
            found
                .filter(|found| *found.id.as_bytes() == id)
                .map(|found| (found.created_at, first_words(&found.rights.join(" "))))
        }
        IdKind::Token => {
            let token = store.token_by_id(scope, TokenId::from_bytes(id)).await?;
            token.map(|token| (token.created_at, first_words(&token.name)))
        }
    })
}
