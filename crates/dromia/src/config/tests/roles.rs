//! Roles and users of the socket: what is wrong with them is told at its place, and what is right counts.

use dromia_contracts::token::{TokenScope, find_role};

use super::*;

#[test]
fn an_invalid_role_is_refused_with_its_place() {
    for (text, says) in [
        ("roles: { viewer: { scopes: [read] } }", "roles.viewer: viewer, approver"),
        ("roles: { 'a b': { scopes: [read] } }", "a handle has"),
        ("roles: { a: { scopes: [] } }", "roles.a.scopes: a role needs at least one scope"),
        ("socket: { users: [{ uid: 1, role: king }] }", "there is no role \"king\""),
        ("socket: { users: [{ uid: 1, role: viewer }, { uid: 1, role: admin }] }", "lists the user 1 twice"),
    ] {
        let problems = refused(text);
        assert!(problems.contains(says), "{text}: {problems}");
    }
}

#[test]
fn a_socket_user_gets_a_roles_scopes_in_one_tenant() {
    let text = "roles: { courier: { scopes: [invoke] } }\n\
                socket: { users: [{ uid: 7, role: courier, tenant: acme }, { uid: 8, role: operator }] }\n";
    let gateway =
        loaded(text).resolve_all(&EnvironmentVariables::default()).expect("it is right").gateway_config(None);
    let courier = [TokenScope::Invoke].into_iter().collect();
    assert_eq!(gateway.roles.get("courier"), Some(&courier));
    let users: Vec<_> = gateway.socket_users.into_iter().collect();
    let told: Vec<_> = users.iter().map(|(uid, user)| (*uid, user.tenant.as_str(), user.scopes)).collect();
    let operator = find_role("operator").expect("every server has it");
    assert_eq!(told, [(7, "acme", courier), (8, "default", operator)]);
}
