//! The caller of a request: who asks, of which tenant, and what it may do. Nothing is looked up here; `authentication` finds the
//! caller.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use dromia_api::token::CredentialKind;
use dromia_contracts::agent::{HandleSlug, TenantRecord};
use dromia_contracts::store::TokenOwner;
use dromia_contracts::token::{TokenRecord, TokenScope, TokenScopes};
use dromia_contracts::{Actor, Digest, ErrorCode, OperatorScope, Scope, TenantId, TokenId};

use crate::failure::{Answer, ApiError};

/// What a connection over TCP knows of its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalEndpoint {
    /// The address that was reached.
    pub(crate) local: IpAddr,
    /// Whether TLS is spoken.
    pub(crate) is_encrypted: bool,
}

impl LocalEndpoint {
    /// The scheme of a URL that leads here.
    pub(crate) const fn url_scheme(self) -> &'static str {
        if self.is_encrypted { "https" } else { "http" }
    }
}

/// Where a request came from, as the connection knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The TCP port.
    Tcp(LocalEndpoint),
    /// The Unix socket.
    Unix {
        /// The user that the kernel names.
        uid: u32,
    },
}

/// An authenticated caller of one tenant.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) scope: Scope,
    pub(crate) credential: CallerCredential,
}

/// By what a caller is known.
#[derive(Debug, Clone)]
pub(crate) enum CallerCredential {
    /// The user on the other end of the Unix socket, who picked a tenant.
    Socket {
        /// The tenant, as it was a moment ago.
        tenant: TenantRecord,
        /// Who it is.
        local: LocalUser,
    },
    /// A token.
    Token {
        owner: Arc<TokenOwner>,
        /// By what it is looked up again.
        hash: Digest,
    },
}

/// A user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocalUser {
    /// Root, or the user that owns the server: everything, of every tenant.
    Owner,
    /// A user whom the operator lists.
    Listed(TokenScopes),
}

impl Caller {
    /// Tells whether the caller may also ask about the whole node.
    pub(crate) fn is_operator(&self) -> bool {
        match self.credential {
            CallerCredential::Socket { local, .. } => local == LocalUser::Owner,
            CallerCredential::Token { .. } => false,
        }
    }

    pub(crate) fn tenant_record(&self) -> &TenantRecord {
        match &self.credential {
            CallerCredential::Socket { tenant, .. } => tenant,
            CallerCredential::Token { owner, .. } => &owner.tenant,
        }
    }

    pub(crate) fn tenant_handle(&self) -> &HandleSlug {
        &self.tenant_record().handle
    }

    /// Refuses what would change something of a tenant that is suspended.
    pub(crate) fn must_not_be_suspended(&self) -> Answer<()> {
        refuse_suspended(self.tenant_record())
    }

    pub(crate) fn credential_kind(&self) -> CredentialKind {
        match self.credential {
            CallerCredential::Socket { .. } => CredentialKind::Socket,
            CallerCredential::Token { .. } => CredentialKind::Token,
        }
    }

    /// Returns the token, if the caller is known by one.
    pub(crate) fn token(&self) -> Option<&TokenRecord> {
        match &self.credential {
            CallerCredential::Socket { .. } => None,
            CallerCredential::Token { owner, .. } => Some(&owner.token),
        }
    }

    /// Returns to whom its requests are charged; who is on the socket is charged to no token.
    pub(crate) fn request_payer(&self) -> RequestPayer {
        RequestPayer { tenant: self.scope.tenant(), token: self.token().map(|token| token.id) }
    }

    /// Returns what the caller may do.
    pub(crate) fn granted_scopes(&self) -> TokenScopes {
        match &self.credential {
            CallerCredential::Socket { local: LocalUser::Owner, .. } => TokenScopes::ADMIN,
            CallerCredential::Socket { local: LocalUser::Listed(scopes), .. } => *scopes,
            CallerCredential::Token { owner, .. } => owner.token.scopes,
        }
    }

    /// Refuses a caller who lacks a scope.
    pub(crate) fn must_have(&self, scope: TokenScope) -> Answer<()> {
        if self.granted_scopes().allows(scope) { Ok(()) } else { Err(self.missing_scope_error(scope)) }
    }

    /// Refuses a caller who would hand on more than it has.
    pub(crate) fn must_cover(&self, scopes: TokenScopes) -> Answer<()> {
        scopes.iter().try_for_each(|scope| self.must_have(scope))
    }

    fn missing_scope_error(&self, scope: TokenScope) -> ApiError {
        let tenant = self.tenant_handle();
        if self.token().is_none() {
            let text = format!("this user of the socket lacks the scope `{scope}`");
            return ApiError::new(ErrorCode::Forbidden, text)
                .with_hint("the operator sets the role of a user with `socket.users` in dromia.yaml");
        }
        ApiError::new(ErrorCode::Forbidden, format!("the token lacks the scope `{scope}`")).with_hint(
            format!("create one that has it: `dromia --tenant {tenant} token create NAME --scope {scope}`"),
        )
    }
}

/// An authenticated caller who may ask about the whole node.
#[derive(Debug, Clone)]
pub(crate) struct NodeOperator(pub(crate) OperatorScope);

/// To whom a request is charged: its tenant, and the token by which it was let in, if by one. The guard leaves it at the request,
/// for what takes a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestPayer {
    pub(crate) tenant: TenantId,
    pub(crate) token: Option<TokenId>,
}

/// Refuses what would change something of a tenant that is suspended.
pub(crate) fn refuse_suspended(tenant: &TenantRecord) -> Answer<()> {
    let refused = |_| {
        let text = format!("the tenant {} is suspended: it answers reads and changes nothing", tenant.handle);
        Err(ApiError::new(ErrorCode::TenantSuspended, text))
    };
    tenant.suspended_at.map_or(Ok(()), refused)
}

/// Names the author of an input: the authenticated name, and under it the name that the caller speaks for.
pub(crate) fn input_author(scope: &Scope, speaks_for: Option<&str>) -> Actor {
    match speaks_for {
        None => scope.actor().clone(),
        Some(name) => Actor::new(&format!("{}/{name}", scope.actor())),
    }
}

// The route table puts these there after authentication; a route whose table line does not fit its handler is a defect
// of this program and answers as one, never with a default caller.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .remove()
            .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the request has no caller"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NodeOperator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .remove()
            .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the request has no operator"))
    }
}
