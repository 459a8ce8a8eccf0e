//! Credentials on the wire: tokens of a tenant, and who asks.

use std::fmt;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::token::{TokenScope, TokenScopes, TokenState};
use dromia_contracts::{TenantId, TokenId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest life that may be asked for: ten years, in seconds.
pub const EXPIRES_IN_SECONDS_MAX: u64 = 10 * 365 * 24 * 60 * 60;

/// What a token may do when the command line names no scope: talk to agents, and read.
pub const SCOPES_DEFAULT: [TokenScope; 2] = [TokenScope::Read, TokenScope::Invoke];

/// Registers a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is called; what it says is said by `token:NAME`.
    pub name: String,
    /// What it may do; none that the caller has not. Without any a role says it.
    #[serde(default)]
    pub scopes: TokenScopes,
    /// What it may do, by the name of a role: `viewer`, `operator`, `approver`, `admin`, or one of `roles` in dromia.yaml.
    /// It means what the role means now; a role that changes later changes no token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How long it is let in; without it until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = EXPIRES_IN_SECONDS_MAX))]
    pub expires_in_seconds: Option<u64>,
}

/// A token, without what could be presented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenResource {
    /// Its id.
    pub id: TokenId,
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub scopes: TokenScopes,
    /// Whether it is let in right now.
    pub state: TokenState,
    /// When it was registered.
    pub created_at: Timestamp,
    /// From when on it is refused, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// A token was registered. It is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenCreated {
    /// What is shown of it later too.
    #[serde(flatten)]
    pub record: TokenResource,
    /// The token itself.
    pub token: String,
}

impl fmt::Debug for TokenCreated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCreated").field("record", &self.record).finish_non_exhaustive()
    }
}

/// By what a caller is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// A token, over TCP.
    Token,
    /// The user on the other end of the Unix socket.
    Socket,
}

impl CredentialKind {
    /// Returns the kind as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Socket => "socket",
        }
    }
}

/// Who asks, as the server sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhoamiResponse {
    /// The server's version.
    pub version: String,
    /// The tenant whose rows can be seen.
    pub tenant: TenantId,
    /// Its handle.
    pub tenant_handle: HandleSlug,
    /// Since when the tenant is suspended; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<Timestamp>,
    /// The agent that is meant where none is named, by the server's configuration; it need not be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_agent: Option<HandleSlug>,
    /// Under which name things are said and done.
    pub actor: String,
    /// By what the caller is known.
    pub credential: CredentialKind,
    /// The token's id, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
    /// What the caller may do.
    pub scopes: TokenScopes,
    /// From when on the credential is refused, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_serialized_but_hidden_from_debug() {
        let record = TokenResource {
            id: TokenId::from_bytes([1; 16]),
            name: "ci".into(),
            scopes: SCOPES_DEFAULT.into_iter().collect(),
            state: TokenState::Active,
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: None,
            revoked_at: None,
        };
        let created = TokenCreated { record, token: "drm_secret".into() };
        assert!(!format!("{created:?}").contains("drm_"));
        let json = serde_json::to_value(&created).expect("serializes");
        let expected = serde_json::json!({
            "id": created.record.id, "name": "ci", "scopes": ["read", "invoke"], "state": "active",
            "created_at": "1970-01-01T00:00:00Z", "token": "drm_secret",
        });
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_value::<TokenCreated>(json).expect("is read back"), created);
    }

    #[test]
    fn a_request_with_an_unknown_scope_or_field_is_refused() {
        for bad in
            [r#"{"scopes":[]}"#, r#"{"name":"ci","scopes":["root"]}"#, r#"{"name":"ci","scopes":[],"to":1}"#]
        {
            assert!(serde_json::from_str::<CreateToken>(bad).is_err(), "{bad}");
        }
    }
}
