//! Credentials of a tenant: what a token may do, until when, and whether it is still valid.
//!
//! A client holds the token itself, and the store keeps its hash; a [`TokenRecord`] is what may be shown of it. The set
//! of scopes is closed, and the gateway's route table names one for every route of a tenant, so a scope that nothing
//! enforces does not exist.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::TokenId;

/// The longest name of a token, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// What a name of a token looks like, in words for people.
pub const NAME_RULE: &str =
    "1 to 64 visible ASCII characters, without `/`, and not of the form of a token's id";

/// Returns whether a text may name a token.
///
/// The name becomes the actor `token:NAME`, under which a caller may speak for others as `token:NAME/OTHER`: a `/` in
/// a name would make two authors one.
pub fn is_name(text: &str) -> bool {
    let good = |c: u8| c.is_ascii_graphic() && c != b'/';
    (1..=NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(good) && text.parse::<TokenId>().is_err()
}

/// One thing that a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenScope {
    /// Read everything of the tenant.
    Read,
    /// Say something to the tenant's agents.
    Invoke,
    /// Steer what is there: pause, resume and end agents and runs, have messages sent again.
    Operate,
    /// Answer calls that wait for a person.
    Approve,
    /// Read the metrics of the tenant.
    Metrics,
    /// Everything, within the tenant; the other scopes are part of it.
    Admin,
}

impl TokenScope {
    /// Every scope, the narrowest first.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Invoke, Self::Operate, Self::Approve, Self::Metrics, Self::Admin];

    /// Returns the scope as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Invoke => "invoke",
            Self::Operate => "operate",
            Self::Approve => "approve",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }

    const fn scope_bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Invoke => 2,
            Self::Admin => 4,
            Self::Approve => 8,
            Self::Operate => 16,
            Self::Metrics => 32,
        }
    }
}

impl fmt::Display for TokenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Says that a text names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected read, invoke, operate, approve, metrics or admin, found {0:?}")]
pub struct ParseTokenScopeError(pub String);

impl FromStr for TokenScope {
    type Err = ParseTokenScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| ParseTokenScopeError(text.chars().take(64).collect()))
    }
}

/// What a token may do: a set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TokenScopes(u8);

impl TokenScopes {
    /// Everything of the tenant.
    pub const ADMIN: Self = Self(TokenScope::Admin.scope_bit());

    /// Returns the scopes that the set names, the narrowest first.
    pub fn iter(self) -> impl Iterator<Item = TokenScope> {
        TokenScope::ALL.into_iter().filter(move |scope| self.0 & scope.scope_bit() != 0)
    }

    /// Returns whether the set names nothing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether something that needs `scope` is allowed.
    pub const fn allows(self, scope: TokenScope) -> bool {
        self.0 & (scope.scope_bit() | TokenScope::Admin.scope_bit()) != 0
    }

    /// Returns whether everything that `other` allows is allowed here too.
    pub fn covers(self, other: Self) -> bool {
        other.iter().all(|scope| self.allows(scope))
    }
}

/// The roles that every server has, each with its scopes, the narrowest first.
pub const ROLES: [(&str, &[TokenScope]); 5] = [
    ("viewer", &[TokenScope::Read]),
    ("approver", &[TokenScope::Read, TokenScope::Approve]),
    ("operator", &[TokenScope::Read, TokenScope::Invoke, TokenScope::Operate]),
    ("monitor", &[TokenScope::Metrics]),
    ("admin", &[TokenScope::Admin]),
];

/// Finds what a role of [`ROLES`] may do.
pub fn find_role(name: &str) -> Option<TokenScopes> {
    let found = ROLES.iter().find(|(known, _)| *known == name);
    found.map(|(_, scopes)| scopes.iter().copied().collect())
}

/// Names the role of [`ROLES`] that may do exactly this.
pub fn role_name(scopes: TokenScopes) -> Option<&'static str> {
    let found = ROLES.iter().find(|(_, known)| known.iter().copied().collect::<TokenScopes>() == scopes);
    found.map(|(name, _)| *name)
}

impl FromIterator<TokenScope> for TokenScopes {
    fn from_iter<I: IntoIterator<Item = TokenScope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.scope_bit()))
    }
}

impl fmt::Display for TokenScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{scope}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TokenScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for TokenScopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for TokenScopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<TokenScope>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl JsonSchema for TokenScopes {
    fn schema_name() -> Cow<'static, str> {
        "TokenScopes".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<TokenScope>::json_schema(generator)
    }
}

/// A credential, as it was registered, without anything that could be presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// What it is called; several tokens of a tenant may share a name, and then they are one actor.
    pub name: String,
    /// What it may do.
    pub scopes: TokenScopes,
    /// When it was registered.
    pub created_at: Timestamp,
    /// From when on it is refused, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
}

impl TokenRecord {
    /// Returns the token's state at an instant.
    pub fn state_at(&self, now: Timestamp) -> TokenState {
        if self.revoked_at.is_some() {
            TokenState::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            TokenState::Expired
        } else {
            TokenState::Active
        }
    }
}

/// Whether a token is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// It is.
    Active,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl TokenState {
    /// Returns the state as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(scopes: &[TokenScope]) -> TokenScopes {
        scopes.iter().copied().collect()
    }

    #[test]
    fn a_set_allows_what_it_names_and_admin_allows_everything() {
        for named in TokenScope::ALL {
            for needed in TokenScope::ALL {
                let allowed = named == needed || named == TokenScope::Admin;
                assert_eq!(set(&[named]).allows(needed), allowed, "{named} for {needed}");
            }
            assert!(!TokenScopes::default().allows(named));
            assert_eq!(named.to_string().parse(), Ok(named));
        }
        assert!("Read".parse::<TokenScope>().is_err());
    }

    #[test]
    fn no_set_covers_one_that_allows_more() {
        let sets = (0..64_u8).map(TokenScopes);
        for mine in sets.clone() {
            for new in sets.clone() {
                let more = TokenScope::ALL.into_iter().any(|scope| new.allows(scope) && !mine.allows(scope));
                assert_eq!(mine.covers(new), !more, "{mine:?} covers {new:?}");
            }
        }
    }

    #[test]
    fn a_role_names_scopes_and_only_admin_covers_all() {
        let all: TokenScopes = TokenScope::ALL.into_iter().collect();
        for (name, scopes) in ROLES {
            assert_eq!(find_role(name), Some(set(scopes)));
            assert_eq!(role_name(set(scopes)), Some(name));
            assert!(set(scopes).allows(TokenScope::Read) || name == "monitor", "{name} sees what it acts on");
            assert_eq!(set(scopes).covers(all), name == "admin", "{name}");
        }
        assert_eq!(find_role("root"), None);
    }

    #[test]
    fn a_set_travels_as_a_list_without_doubles() {
        let both = set(&[TokenScope::Invoke, TokenScope::Read]);
        assert_eq!(serde_json::to_string(&both).expect("serializes"), r#"["read","invoke"]"#);
        assert_eq!(both.to_string(), "read, invoke");
        let again: TokenScopes = serde_json::from_str(r#"["invoke","read","invoke"]"#).expect("is read");
        assert_eq!(again, both);
        assert!(serde_json::from_str::<TokenScopes>(r#"["root"]"#).is_err());
    }

    #[test]
    fn a_token_name_is_visible_short_and_no_id() {
        let id = TokenId::from_bytes([7; 16]).to_string();
        for (name, good) in [
            ("ci", true),
            ("ci@laptop:2", true),
            ("x".repeat(64).as_str(), true),
            ("x".repeat(65).as_str(), false),
            ("", false),
            ("a b", false),
            ("a\tb", false),
            ("a\u{200b}b", false),
            ("ci/ada", false),
            ("tok_ci", true),
            (id.as_str(), false),
        ] {
            assert_eq!(is_name(name), good, "{name:?}");
        }
    }

    #[test]
    fn a_token_is_valid_until_its_end_or_revocation() {
        let at = |ms| Timestamp::from_millisecond(ms).expect("an instant");
        let mut token = TokenRecord {
            id: TokenId::from_bytes([1; 16]),
            name: "ci".to_owned(),
            scopes: TokenScopes::ADMIN,
            created_at: at(0),
            expires_at: Some(at(10)),
            revoked_at: None,
        };
        assert_eq!([9, 10, 11].map(|ms| token.state_at(at(ms)).as_str()), ["active", "expired", "expired"]);
        token.revoked_at = Some(at(5));
        assert_eq!([4, 11].map(|ms| token.state_at(at(ms))), [TokenState::Revoked; 2]);
        (token.expires_at, token.revoked_at) = (None, None);
        assert_eq!(token.state_at(Timestamp::MAX), TokenState::Active);
    }
}
