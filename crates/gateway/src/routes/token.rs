//! Credentials of a tenant: list, make, take back; and who asks.
//!
//! A token is taken back on this server at once: what was looked up of it is forgotten before the answer goes out,
//! and also if the client does not wait for the answer.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dromia_api::ListPage;
use dromia_api::token::{CreateToken, EXPIRES_IN_SECONDS_MAX, TokenCreated, TokenResource, WhoamiResponse};
use dromia_contracts::runs::NewToken;
use dromia_contracts::store::PageRequest;
use dromia_contracts::token::{ROLES, TokenScopes, find_role};
use dromia_contracts::{ErrorCode, Scope, TokenId};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{JsonBody, PathSegments, QueryParams, page_limit};
use crate::failure::{Answer, ApiError};
use crate::wire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenListQuery {
    /// Only tokens after this one.
    after: Option<TokenId>,
    /// The most tokens of the page.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list_tokens(
    State(core): State<Shared>,
    caller: Caller,
    QueryParams(listing): QueryParams<TokenListQuery>,
) -> Answer<Json<ListPage<TokenResource>>> {
    let limit = page_limit(listing.limit)?;
    let page = PageRequest { after: listing.after, limit };
    let tokens = core.ports.store.tokens(&caller.scope, None, page).await?;
    let now = core.ports.runtime.clock.now();
    let items = tokens.into_iter().map(|token| wire::api_token(token, now)).collect();
    Ok(Json(ListPage::from_limited(items, limit, |token| token.id.to_string())))
}

pub(crate) async fn create_token(
    State(core): State<Shared>,
    caller: Caller,
    JsonBody(new): JsonBody<CreateToken>,
) -> Answer<Response> {
    let scopes = resolve_scopes(&core, &new)?;
    caller.must_cover(scopes)?;
    let now = core.ports.runtime.clock.now();
    let expires_at = new.expires_in_seconds.map(|seconds| expiry_time(now, seconds)).transpose()?;
    let new = NewToken { name: new.name, scopes, expires_at };
    let (token, secret) = core.ports.runs.token_create(caller.scope, new).await?;
    core.caches.strangers.forget_all();
    let created = TokenCreated { record: wire::api_token(token, now), token: secret };
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

/// Finds what a token may do that is wanted with scopes, or with a role.
fn resolve_scopes(core: &GatewayCore, new: &CreateToken) -> Answer<TokenScopes> {
    match &new.role {
        None if new.scopes.is_empty() => {
            Err(ApiError::invalid_request("a token needs `scopes` or a `role`, and this one has neither"))
        }
        None => Ok(new.scopes),
        Some(_) if !new.scopes.is_empty() => {
            Err(ApiError::invalid_request("a token needs `scopes` or a `role`, and this one has both")
                .at_field("role"))
        }
        Some(name) => {
            let live = core.live();
            let own = live.roles.get(name).copied();
            find_role(name).or(own).ok_or_else(|| {
                let known = ROLES.map(|(known, _)| known).into_iter();
                let known: Vec<_> = known.chain(live.roles.keys().map(String::as_str)).collect();
                ApiError::invalid_request(format!(
                    "there is no role of this name; the roles are {}",
                    known.join(", ")
                ))
                .at_field("role")
                .with_hint("add it under `roles` in dromia.yaml")
            })
        }
    }
}

pub(super) fn expiry_time(now: Timestamp, seconds: u64) -> Answer<Timestamp> {
    let life = i64::try_from(seconds).ok().filter(|_| (1..=EXPIRES_IN_SECONDS_MAX).contains(&seconds));
    let end = life.and_then(|seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok());
    end.ok_or_else(|| {
        ApiError::invalid_request(format!(
            "`expires_in_seconds` must be from 1 to {EXPIRES_IN_SECONDS_MAX}, and is {seconds}"
        ))
    })
}

pub(crate) async fn revoke_token(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(name): PathSegments<String>,
) -> Answer<Json<TokenResource>> {
    let id = find_token(&core, &caller.scope, &name).await?;
    let now = core.ports.runtime.clock.now();
    let shared = Shared::clone(&core);
    // With what follows it: a client that goes away must not leave the commit done and the cache untouched.
    let revoked = core.ports.runtime.carried_through(async move {
        let revoked = shared.ports.runs.token_revoke(caller.scope, id).await;
        // Whatever the outcome: a token that may be revoked is looked up again.
        shared.caches.tokens.forget_matching(|known| known.token().is_some_and(|token| token.id == id));
        revoked
    });
    Ok(Json(wire::api_token(revoked.await?, now)))
}

/// Finds a token by its id or name. Of several that share a name the one that is not revoked is meant.
async fn find_token(core: &GatewayCore, scope: &Scope, name: &str) -> Answer<TokenId> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let (mut standing, mut revoked) = (None, None);
    let mut page = PageRequest::first_page(PageRequest::<TokenId>::LIMIT_MAX);
    loop {
        let tokens = core.ports.store.tokens(scope, Some(name), page).await?;
        for token in &tokens {
            if token.revoked_at.is_some() {
                revoked = Some(token.id);
            } else if standing.replace(token.id).is_some() {
                return Err(ApiError::invalid_request("several tokens have this name; use an id")
                    .with_hint("`dromia token list` shows the ids"));
            }
        }
        match tokens.last() {
            Some(last) if tokens.len() == page.limit => page.after = Some(last.id),
            _ => break,
        }
    }
    // Not repeated: the caller may have written the token itself.
    let absent = || ApiError::new(ErrorCode::TokenNotFound, "there is no token with this name or id");
    standing.or(revoked).ok_or_else(absent)
}

pub(crate) async fn whoami(State(core): State<Shared>, caller: Caller) -> Json<WhoamiResponse> {
    let token = caller.token();
    Json(WhoamiResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tenant: caller.scope.tenant(),
        tenant_handle: caller.tenant_handle().clone(),
        suspended_at: caller.tenant_record().suspended_at,
        default_agent: core.live().default_agent.clone(),
        actor: caller.scope.actor().as_str().to_owned(),
        credential: caller.credential_kind(),
        token: token.map(|token| token.id),
        scopes: caller.granted_scopes(),
        expires_at: token.and_then(|token| token.expires_at),
    })
}
