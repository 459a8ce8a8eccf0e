//! Credentials of a tenant: list, make, take back; and who asks.
//!
//! A token is taken back on this server at once: what was looked up of it is forgotten before the answer goes out,
//! and also if the client does not wait for the answer.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dromia_api::List;
use dromia_api::token::{CreateToken, EXPIRES_IN_SECONDS_MAX, Token, TokenCreated, Whoami};
use dromia_contracts::runs::NewToken;
use dromia_contracts::store::Page;
use dromia_contracts::token::{ROLES, TokenScopes, role};
use dromia_contracts::{ErrorCode, Scope, TokenId};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caller::Caller;
use crate::core::{Core, Shared};
use crate::extract::{JsonBody, Params, Segments, page_limit};
use crate::failure::{Answer, Failure};
use crate::wire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// Only tokens after this one.
    after: Option<TokenId>,
    /// The most tokens of the page.
    #[schemars(range(min = 1, max = dromia_api::list::LIMIT_MAX))]
    limit: Option<u32>,
}

pub(crate) async fn list(
    State(core): State<Shared>,
    caller: Caller,
    Params(listing): Params<Listing>,
) -> Answer<Json<List<Token>>> {
    let limit = page_limit(listing.limit)?;
    let page = Page { after: listing.after, limit };
    let tokens = core.ports.store.tokens(&caller.scope, None, page).await?;
    let now = core.ports.runtime.clock.now();
    let items = tokens.into_iter().map(|token| wire::token(token, now)).collect();
    Ok(Json(List::page(items, limit, |token| token.id.to_string())))
}

pub(crate) async fn create(
    State(core): State<Shared>,
    caller: Caller,
    JsonBody(new): JsonBody<CreateToken>,
) -> Answer<Response> {
    let scopes = scopes(&core, &new)?;
    caller.must_cover(scopes)?;
    let now = core.ports.runtime.clock.now();
    let expires_at = new.expires_in_seconds.map(|seconds| end(now, seconds)).transpose()?;
    let new = NewToken { name: new.name, scopes, expires_at };
    let (token, secret) = core.ports.runs.token_create(caller.scope, new).await?;
    core.strangers.forget_all();
    let created = TokenCreated { record: wire::token(token, now), token: secret };
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

/// Finds what a token may do that is wanted with scopes, or with a role.
fn scopes(core: &Core, new: &CreateToken) -> Answer<TokenScopes> {
    match &new.role {
        None if new.scopes.is_empty() => {
            Err(Failure::invalid("a token has `scopes` or a `role`, and this one has neither"))
        }
        None => Ok(new.scopes),
        Some(_) if !new.scopes.is_empty() => {
            Err(Failure::invalid("a token has `scopes` or a `role`, and this one has both").at("role"))
        }
        Some(name) => {
            let own = core.config.roles.get(name).copied();
            role(name).or(own).ok_or_else(|| {
                let known = ROLES.map(|(known, _)| known).into_iter();
                let known: Vec<_> = known.chain(core.config.roles.keys().map(String::as_str)).collect();
                Failure::invalid(format!("no role has this name; there are {}", known.join(", ")))
                    .at("role")
                    .with_hint(
                        "the server reads `roles` of dromia.yaml when it starts; restart it after a change",
                    )
            })
        }
    }
}

pub(super) fn end(now: Timestamp, seconds: u64) -> Answer<Timestamp> {
    let life = i64::try_from(seconds).ok().filter(|_| (1..=EXPIRES_IN_SECONDS_MAX).contains(&seconds));
    let end = life.and_then(|seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok());
    end.ok_or_else(|| {
        Failure::invalid(format!(
            "`expires_in_seconds` must be from 1 to {EXPIRES_IN_SECONDS_MAX}, and is {seconds}"
        ))
    })
}

pub(crate) async fn revoke(
    State(core): State<Shared>,
    caller: Caller,
    Segments(name): Segments<String>,
) -> Answer<Json<Token>> {
    let id = find(&core, &caller.scope, &name).await?;
    let now = core.ports.runtime.clock.now();
    let shared = Shared::clone(&core);
    // With what follows it: a client that goes away must not leave the commit done and the cache untouched.
    let revoked = core.ports.runtime.carried_through(async move {
        let revoked = shared.ports.runs.token_revoke(caller.scope, id).await;
        // Whatever came of it: a token that may be revoked is looked up anew.
        shared.tokens.forget(|known| known.token().is_some_and(|token| token.id == id));
        revoked
    });
    Ok(Json(wire::token(revoked.await?, now)))
}

/// Finds a token by its id or name. Of several that share a name the one that is not revoked is meant.
async fn find(core: &Core, scope: &Scope, name: &str) -> Answer<TokenId> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let (mut standing, mut revoked) = (None, None);
    let mut page = Page::first(Page::<TokenId>::LIMIT_MAX);
    loop {
        let tokens = core.ports.store.tokens(scope, Some(name), page).await?;
        for token in &tokens {
            if token.revoked_at.is_some() {
                revoked = Some(token.id);
            } else if standing.replace(token.id).is_some() {
                return Err(Failure::invalid("several tokens carry this name; name one by its id")
                    .with_hint("`dromia token list` shows the ids"));
            }
        }
        match tokens.last() {
            Some(last) if tokens.len() == page.limit => page.after = Some(last.id),
            _ => break,
        }
    }
    // Not repeated: somebody may have written the token itself.
    let absent = || Failure::new(ErrorCode::TokenNotFound, "there is no token of this name or id");
    standing.or(revoked).ok_or_else(absent)
}

pub(crate) async fn whoami(State(core): State<Shared>, caller: Caller) -> Json<Whoami> {
    let token = caller.token();
    Json(Whoami {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tenant: caller.scope.tenant(),
        tenant_handle: caller.tenant_handle().clone(),
        default_agent: core.config.default_agent.clone(),
        actor: caller.scope.actor().as_str().to_owned(),
        credential: caller.kind(),
        token: token.map(|token| token.id),
        scopes: caller.scopes(),
        expires_at: token.and_then(|token| token.expires_at),
    })
}
