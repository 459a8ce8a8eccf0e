//! Authentication: who asks, and for which tenant. This file alone issues scopes in this crate.
//!
//! Over TCP a bearer token names tenant and actor; over the Unix socket the kernel names the caller, who must own
//! this process or be root, and a header picks the tenant. A token is looked up by its BLAKE3 hash; the token
//! itself is neither kept nor logged. What was looked up is trusted for a moment, but never beyond its end: that is
//! judged at every request.
//!
//! On the socket root and the server's owner may do everything; a listed user and a token may do what their scopes say.
//! A token that was never issued, one that expired and one that was revoked are refused in the same words.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use dromia_api::{TENANT_DEFAULT, TENANT_HEADER};
use dromia_contracts::agent::{HandleSlug, TenantRecord};
use dromia_contracts::store::PageRequest;
use dromia_contracts::token::{TokenRecord, TokenState};
use dromia_contracts::{Actor, Digest, ErrorCode, Scope, TenantId};

use crate::caller::{Caller, CallerCredential, LocalUser, NodeOperator, Peer, refuse_suspended};
use crate::compat::Dialect;
use crate::config::SocketUser;
use crate::core::GatewayCore;
use crate::failure::{Answer, ApiError};
use crate::nearest_name::nearest_name;

/// The longest token that is hashed at all.
const TOKEN_BYTES_MAX: usize = 256;

/// Where clients of the Anthropic API put their token.
const API_KEY_HEADER: &str = "x-api-key";

impl Caller {
    /// Refuses a caller whose token was revoked or expired since it was let in. Where the store does not answer, nothing
    /// is known against the caller.
    pub(crate) async fn must_still_be_let_in(&self, core: &GatewayCore) -> Answer<()> {
        let CallerCredential::Token { hash, .. } = self.credential else { return Ok(()) };
        match let_in(core, hash).await {
            Err(failure) if failure.code() == ErrorCode::Unauthorized => Err(failure),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Returns a scope of any tenant, which only an operator has.
    pub(crate) fn scope_of_tenant(&self, core: &GatewayCore, tenant: TenantId) -> Answer<Scope> {
        if self.is_operator() {
            return Ok(core.authority().issue_scope(tenant, self.scope.actor().clone()));
        }
        Err(ApiError::new(ErrorCode::Forbidden, "only the operator sees all tenants")
            .with_hint("use the `dromia` command on the server's machine, or ask for one tenant"))
    }
}

/// Finds who asks, for a route that belongs to a tenant.
pub(crate) async fn tenant_caller(
    core: &GatewayCore,
    peer: Peer,
    dialect: Dialect,
    headers: &HeaderMap,
) -> Answer<Caller> {
    match peer {
        Peer::Tcp(_) => token_caller(core, request_token(dialect, headers)?).await,
        Peer::Unix { uid } => {
            let (local, seen) = find_local_user(core, uid)?;
            let picked = picked_tenant(core, headers).await;
            let tenant = match picked {
                // Only the owner may know which tenants there are.
                Err(failure) if seen.is_none() => return Err(suggest_tenant(core, headers, failure).await?),
                picked => picked?,
            };
            must_see(seen.as_ref(), &tenant.handle)?;
            let scope = core.authority().issue_scope(tenant.id, Actor::new(&format!("cli:{uid}")));
            Ok(Caller { scope, credential: CallerCredential::Socket { tenant, local } })
        }
    }
}

/// Finds who asks, for a route that belongs to the node.
pub(crate) async fn operator_caller(
    core: &GatewayCore,
    peer: Peer,
    headers: &HeaderMap,
) -> Answer<NodeOperator> {
    match peer {
        Peer::Tcp(_) => {
            // A wrong token is refused as such; only a good one learns that it is not enough.
            token_caller(core, bearer_token(headers)?).await?;
            Err(ApiError::new(ErrorCode::Forbidden, "the server offers this route on the Unix socket only")
                .with_hint("use the `dromia` command on the server's machine"))
        }
        Peer::Unix { uid } => match find_local_user(core, uid)? {
            (LocalUser::Owner, _) => Ok(NodeOperator(core.operator.clone())),
            (LocalUser::Listed(_), _) => {
                Err(ApiError::new(ErrorCode::Forbidden, format!("user {uid} does not own this server")))
            }
        },
    }
}

/// Finds what a user of this machine is here, and the one tenant that a listed one sees.
fn find_local_user(core: &GatewayCore, uid: u32) -> Answer<(LocalUser, Option<HandleSlug>)> {
    let live = core.live();
    let known = local_user_access(core.owner_uid.get().copied(), &live.socket_users, uid);
    let known = known.map(|(local, tenant)| (local, tenant.cloned()));
    known.ok_or_else(|| ApiError::new(ErrorCode::Forbidden, format!("user {uid} does not own this server")))
}

/// Returns the rights of a user of this machine: root, the owner and the listed users have some, others have none.
fn local_user_access(
    owner: Option<u32>,
    users: &BTreeMap<u32, SocketUser>,
    uid: u32,
) -> Option<(LocalUser, Option<&HandleSlug>)> {
    if uid == 0 || owner == Some(uid) {
        return Some((LocalUser::Owner, None));
    }
    users.get(&uid).map(|user| (LocalUser::Listed(user.scopes), Some(&user.tenant)))
}

/// Keeps a listed user to its one tenant: every other is not found.
fn must_see(seen: Option<&HandleSlug>, picked: &HandleSlug) -> Answer<()> {
    if seen.is_none_or(|seen| seen == picked) { Ok(()) } else { Err(unknown_tenant()) }
}

/// Reads the token from where the clients of a dialect put it.
fn request_token(dialect: Dialect, headers: &HeaderMap) -> Answer<&str> {
    let refused = |message: &str| Err(ApiError::new(ErrorCode::Unauthorized, message));
    let mut keys = headers.get_all(API_KEY_HEADER).iter();
    let key = keys.next().filter(|_| dialect == Dialect::Anthropic);
    let Some(key) = key else { return bearer_token(headers) };
    if keys.next().is_some() {
        return refused("the request has more than one token");
    }
    let key = match key.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= TOKEN_BYTES_MAX => key,
        _ => return refused("the x-api-key header is not a token"),
    };
    // Some clients send the same token in both places.
    if headers.contains_key(AUTHORIZATION) && bearer_token(headers)? != key {
        return refused("the request has more than one token");
    }
    Ok(key)
}

fn bearer_token(headers: &HeaderMap) -> Answer<&str> {
    let refused = |message: &str| Err(ApiError::new(ErrorCode::Unauthorized, message));
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return refused("the request has no token");
    };
    if values.next().is_some() {
        return refused("the request has more than one token");
    }
    let token =
        value.to_str().ok().and_then(|text| text.split_once(' ')).and_then(|(scheme, token)| {
            (scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim_matches(' '))
        });
    match token {
        Some(token) if !token.is_empty() && token.len() <= TOKEN_BYTES_MAX => Ok(token),
        _ => refused("the Authorization header is not `Bearer TOKEN`"),
    }
}

async fn token_caller(core: &GatewayCore, token: &str) -> Answer<Caller> {
    let_in(core, Digest::from_bytes(*blake3::hash(token.as_bytes()).as_bytes())).await
}

/// Finds the token with a hash, if it is let in right now. A client that repeats a token which is not, costs one look in
/// [`GatewayDeadlines::cache_ms`](crate::GatewayDeadlines::cache_ms); different ones cost one each, and the shares of the node
/// bound how many at a time.
async fn let_in(core: &GatewayCore, hash: Digest) -> Answer<Caller> {
    let refused = || ApiError::new(ErrorCode::Unauthorized, "the token is unknown, expired or revoked");
    let is_let_in =
        |token: &TokenRecord| token.state_at(core.ports.runtime.clock.now()) == TokenState::Active;
    if let Some(caller) = core.caches.tokens.get(&hash) {
        return if caller.token().is_some_and(is_let_in) { Ok(caller) } else { Err(refused()) };
    }
    if core.caches.strangers.get(&hash).is_some() {
        return Err(refused());
    }
    let (mark, stranger) =
        (core.caches.tokens.current_generation(), core.caches.strangers.current_generation());
    let Some(owner) = core.ports.store.find_token_owner(&core.operator, hash).await? else {
        core.caches.strangers.put_since(stranger, hash, ());
        return Err(refused());
    };
    let actor = Actor::new(&format!("token:{}", owner.token.name));
    let scope = core.authority().issue_scope(owner.tenant.id, actor).by_token(owner.token.id);
    let is_active = is_let_in(&owner.token);
    let caller = Caller { scope, credential: CallerCredential::Token { owner: Arc::new(owner), hash } };
    // One that has ended is kept too: it is judged at every request.
    core.caches.tokens.put_since(mark, hash, caller.clone());
    if is_active { Ok(caller) } else { Err(refused()) }
}

async fn picked_tenant(core: &GatewayCore, headers: &HeaderMap) -> Answer<TenantRecord> {
    let name = headers.get(TENANT_HEADER).map_or(Ok(TENANT_DEFAULT), HeaderValue::to_str);
    let handle: HandleSlug = name.map_err(|_| unknown_tenant())?.parse().map_err(|_| unknown_tenant())?;
    find_tenant(core, &handle).await
}

/// Finds a tenant, as it was a moment ago.
async fn find_tenant(core: &GatewayCore, handle: &HandleSlug) -> Answer<TenantRecord> {
    if let Some(tenant) = core.caches.tenants.get(handle) {
        return Ok(tenant);
    }
    let mark = core.caches.tenants.current_generation();
    let tenant = stored_tenant(core, handle).await?;
    core.caches.tenants.put_since(mark, handle.clone(), tenant.clone());
    Ok(tenant)
}

/// Finds a tenant as it is.
pub(crate) async fn stored_tenant(core: &GatewayCore, handle: &HandleSlug) -> Answer<TenantRecord> {
    core.ports.store.tenant_by_handle(&core.operator, handle).await?.ok_or_else(unknown_tenant)
}

/// The scope in which the server itself reads what a tenant has, for who sees the whole node.
pub(crate) fn node_scope(core: &GatewayCore, tenant: TenantId) -> Scope {
    core.authority().issue_scope(tenant, Actor::new("operator"))
}

fn unknown_tenant() -> ApiError {
    ApiError::new(ErrorCode::TenantNotFound, "there is no such tenant")
        .with_hint("`dromia tenant list` shows the tenants of this server")
}

/// Adds to a failure to find a tenant which one may have been meant: of one page, which is enough to help.
async fn suggest_tenant(core: &GatewayCore, headers: &HeaderMap, failure: ApiError) -> Answer<ApiError> {
    let typed = headers.get(TENANT_HEADER).and_then(|name| name.to_str().ok());
    let Some(typed) = typed.filter(|_| failure.code() == ErrorCode::TenantNotFound) else {
        return Ok(failure);
    };
    let page = PageRequest::first_page(PageRequest::<TenantId>::LIMIT_MAX);
    let tenants = core.ports.store.tenants(&core.operator, page).await?;
    Ok(match nearest_name(typed, tenants.iter().map(|tenant| tenant.handle.as_str())) {
        Some(near) => {
            failure.with_hint(format!("did you mean {near}? `dromia tenant list` lists all tenants"))
        }
        None => failure,
    })
}

/// The scope of what came in by a channel. The route of webhooks has checked the signature, or opens with it nothing but the
/// key that checks it; what a followed file holds was let in by the file's owner.
pub(crate) async fn channel_scope(
    core: &GatewayCore,
    platform: &str,
    channel: &str,
    tenant: &HandleSlug,
) -> Answer<Scope> {
    let tenant = find_tenant(core, tenant).await?;
    refuse_suspended(&tenant)?;
    Ok(core.authority().issue_scope(tenant.id, Actor::new(&format!("{platform}:{channel}"))))
}

#[cfg(test)]
mod tests {
    use dromia_contracts::token::{TokenScopes, find_role};

    use super::*;

    #[test]
    fn the_socket_accepts_only_the_owner_and_listed_users() {
        let viewer = find_role("viewer").expect("every server has it");
        let tenant: HandleSlug = "acme".parse().expect("a handle");
        let users = BTreeMap::from([(1001, SocketUser { tenant: tenant.clone(), scopes: viewer })]);
        let of = |uid| local_user_access(Some(1000), &users, uid);
        assert_eq!(of(0), Some((LocalUser::Owner, None)));
        assert_eq!(of(1000), Some((LocalUser::Owner, None)));
        assert_eq!(of(1001), Some((LocalUser::Listed(viewer), Some(&tenant))));
        assert_eq!(of(1002), None);
        assert_eq!(
            local_user_access(None, &BTreeMap::new(), 1000),
            None,
            "without an owner there is root alone"
        );
    }

    #[test]
    fn a_caller_hands_on_no_more_than_it_has() {
        let viewer = find_role("viewer").expect("every server has it");
        let tenant = TenantRecord {
            id: TenantId::from_bytes([1; 16]),
            handle: "acme".parse().expect("a handle"),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            suspended_at: None,
        };
        let credential = CallerCredential::Socket { tenant, local: LocalUser::Listed(viewer) };
        let scope = dromia_contracts::ScopeAuthority::claim()
            .issue_scope(TenantId::from_bytes([1; 16]), Actor::new("cli:1"));
        let caller = Caller { scope, credential };
        assert!(caller.must_cover(viewer).is_ok() && !caller.is_operator());
        let refused = caller.must_cover(TokenScopes::ADMIN).map_err(|failure| failure.code());
        assert_eq!(refused, Err(ErrorCode::Forbidden));
    }

    #[test]
    fn a_listed_user_finds_its_one_tenant_only() {
        let (own, other): (HandleSlug, HandleSlug) =
            ("acme".parse().expect("a handle"), "other".parse().expect("a handle"));
        let code = must_see(Some(&own), &other).map_err(|failure| failure.code());
        assert_eq!(code, Err(ErrorCode::TenantNotFound));
        assert!(must_see(Some(&own), &own).is_ok());
        assert!(must_see(None, &other).is_ok(), "the owner sees all");
    }

    #[test]
    fn a_token_is_read_from_one_place_within_bounds() {
        let headers = |sent: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in sent {
                headers.append(*name, HeaderValue::from_str(value).expect("a header"));
            }
            headers
        };
        let (longest, longer) = ("k".repeat(TOKEN_BYTES_MAX), "k".repeat(TOKEN_BYTES_MAX + 1));
        let bearer = |token: &str| format!("Bearer {token}");
        let (key, auth) = (API_KEY_HEADER, "authorization");
        for (dialect, sent, token) in [
            (Dialect::Dromia, vec![(auth, bearer(&longest))], Some(&*longest)),
            (Dialect::Dromia, vec![(auth, bearer(&longer))], None),
            (Dialect::Dromia, vec![(auth, bearer(" "))], None),
            (Dialect::Dromia, vec![(auth, "bEARER  k ".into())], Some("k")),
            (Dialect::Dromia, vec![(auth, "Basic k".into())], None),
            (Dialect::Dromia, vec![(auth, bearer("k")), (auth, bearer("k"))], None),
            (Dialect::Dromia, vec![(auth, bearer("k")), (key, "other".into())], Some("k")),
            (Dialect::Dromia, vec![(key, "k".into())], None),
            (Dialect::Anthropic, vec![(key, longest.clone())], Some(&*longest)),
            (Dialect::Anthropic, vec![(key, longer.clone())], None),
            (Dialect::Anthropic, vec![(key, String::new())], None),
            (Dialect::Anthropic, vec![(key, String::new()), (auth, bearer("k"))], None),
            (Dialect::Anthropic, vec![(key, "k".into()), (key, "k".into())], None),
            (Dialect::Anthropic, vec![(key, "k".into()), (auth, bearer("k"))], Some("k")),
            (Dialect::Anthropic, vec![(key, "k".into()), (auth, bearer("other"))], None),
            (Dialect::Anthropic, vec![(auth, bearer("k"))], Some("k")),
            (Dialect::Anthropic, vec![], None),
        ] {
            let sent: Vec<_> = sent.iter().map(|(name, value)| (*name, value.as_str())).collect();
            assert_eq!(request_token(dialect, &headers(&sent)).ok(), token, "{dialect:?} {sent:?}");
        }
    }
}
