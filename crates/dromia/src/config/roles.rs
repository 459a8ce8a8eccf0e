//! What `roles` and `socket` mean: names for scopes, and which users of this machine speak on the socket.

use std::collections::BTreeMap;

use dromia_contracts::agent::HandleSlug;
use dromia_contracts::token::{ROLES, TokenScope, TokenScopes, find_role};
use dromia_gateway::SocketUser;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem_collector::ProblemCollector;

/// The most roles, and the most users of the socket.
const MAX: usize = 64;

/// A role beside `viewer`, `approver`, `operator` and `admin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenRole {
    /// Scopes of the role: `read`, `invoke`, `operate`, `approve`, `metrics` and `admin`.
    pub(crate) scopes: Vec<TokenScope>,
}

/// The Unix socket of this home.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenSocket {
    /// Users of this machine that may use the socket, besides root and the owner of the server. The directory of the
    /// socket must be accessible to them.
    pub(crate) users: Vec<WrittenSocketUser>,
}

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenSocketUser {
    /// Number of the user.
    pub(crate) uid: u32,
    /// Role of the user: a built-in one or one of `roles`.
    pub(crate) role: String,
    /// The one tenant that the user can access. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) tenant: Option<HandleSlug>,
}

/// Resolves the roles beside those that every server has.
pub(super) fn resolve_roles(
    written: &BTreeMap<String, WrittenRole>,
    check: &mut ProblemCollector<'_>,
) -> BTreeMap<String, TokenScopes> {
    let mut roles = BTreeMap::new();
    if written.len() > MAX {
        check.add_problem("roles", format!("has more than {MAX} roles"));
    }
    for (name, WrittenRole { scopes }) in written {
        let key = format!("roles.{name}");
        if let Err(error) = name.parse::<HandleSlug>() {
            check.add_problem(&key, error);
        } else if find_role(name).is_some() {
            let known = ROLES.map(|(known, _)| known).join(", ");
            check.add_problem(&key, format!("{known} are built in; choose another name"));
        } else if scopes.is_empty() {
            check.add_problem(&format!("{key}.scopes"), "a role needs at least one scope");
        } else {
            roles.insert(name.clone(), scopes.iter().copied().collect());
        }
    }
    roles
}

/// Resolves who may speak on the socket.
pub(super) fn socket_users(
    written: &WrittenSocket,
    roles: &BTreeMap<String, TokenScopes>,
    check: &mut ProblemCollector<'_>,
) -> BTreeMap<u32, SocketUser> {
    let mut users = BTreeMap::new();
    if written.users.len() > MAX {
        check.add_problem("socket.users", format!("has more than {MAX} users"));
    }
    let own: HandleSlug = "default".parse().unwrap_or_else(|_| unreachable!("the literal is a handle"));
    for (index, user) in written.users.iter().enumerate() {
        let key = format!("socket.users.{index}");
        let Some(scopes) = find_role(&user.role).or_else(|| roles.get(&user.role).copied()) else {
            check.add_problem(&key, format!("there is no role {:?}", user.role));
            continue;
        };
        let tenant = user.tenant.clone().unwrap_or_else(|| own.clone());
        if users.insert(user.uid, SocketUser { tenant, scopes }).is_some() {
            check.add_problem(&key, format!("lists the user {} twice", user.uid));
        }
    }
    users
}
