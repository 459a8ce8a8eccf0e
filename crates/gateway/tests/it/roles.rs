//! Every route and every role: the whole table stands in `roles.txt`, and each line of it is tried.
//!
//! A change of the table is a change of that file, which somebody has to read.

use std::collections::BTreeMap;

use dromia_contracts::token::{ROLES, TokenScope, TokenScopes};
use dromia_gateway::routes::{Needs, ROUTES, Route};

use crate::client::{authorized, full, request};
use crate::world::World;

const GOLDEN: &str = include_str!("roles.txt");

/// A role of `roles` in dromia.yaml.
const OWN: (&str, [TokenScope; 2]) = ("courier", [TokenScope::Invoke, TokenScope::Approve]);

fn roles() -> Vec<(&'static str, TokenScopes)> {
    let built_in = ROLES.map(|(name, scopes)| (name, scopes.iter().copied().collect()));
    built_in.into_iter().chain([(OWN.0, OWN.1.into_iter().collect())]).collect()
}

/// Draws who may use each route.
fn table(routes: &[Route]) -> String {
    let line = |route: &Route| {
        let who = match route.needs {
            Needs::Nothing => "everybody".to_owned(),
            Needs::Credential => "every role".to_owned(),
            Needs::Signature => "a signature".to_owned(),
            Needs::Operator => "the owner".to_owned(),
            Needs::Tenant(scope) => {
                let allowed = roles().into_iter().filter(|(_, scopes)| scopes.allows(scope));
                allowed.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
            }
        };
        format!("{:<6} {}: {who}\n", route.method, route.path)
    };
    routes.iter().map(line).collect()
}

#[test]
fn every_route_meets_every_role_as_the_table_says() {
    assert_eq!(table(ROUTES), GOLDEN);
}

#[test]
fn a_route_that_lets_a_viewer_write_is_caught() {
    for (at, route) in ROUTES.iter().enumerate() {
        let Needs::Tenant(scope) = route.needs else { continue };
        if scope == TokenScope::Read {
            continue;
        }
        let mut planted = ROUTES.to_vec();
        planted[at].needs = Needs::Tenant(TokenScope::Read);
        assert_ne!(table(&planted), GOLDEN, "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn a_role_token_may_do_what_the_table_says() {
    let own = || BTreeMap::from([(OWN.0.to_owned(), OWN.1.into_iter().collect())]);
    for (role, scopes) in roles() {
        let world = World::with(|config| config.roles = own()).await;
        let body = format!(r#"{{"name":"one","role":"{role}"}}"#);
        let created = world.ask("POST", "/v1/tokens", &body).await;
        assert_eq!(created.status, 201, "{:?}", created.body);
        let created = created.json();
        assert_eq!(created["scopes"], serde_json::to_value(scopes).expect("a list"), "{role}");
        let token = created["token"].as_str().expect("it is shown this once");
        for operation in world.operations().await.iter().filter(|operation| operation.needs == "tenant") {
            let line = format!("{:<6} {}:", operation.method, operation.path);
            let golden = GOLDEN.lines().find_map(|known| known.strip_prefix(&line));
            let named = golden.expect("every route is in the table").split(' ').any(|name| name == role);
            let asked = authorized(request(&operation.method, &operation.path(&world.ours)), token);
            let answer = world.tcp(asked.body(full(&operation.body(&world.ours))).unwrap()).await;
            assert_ne!(answer.status, 401, "{role} at {line} {:?}", answer.body);
            assert_eq!(answer.status == 403, !named, "{role} at {line} {:?}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_role_hands_on_no_more_than_it_has() {
    let world = World::new().await;
    let created = world.ask("POST", "/v1/tokens", r#"{"name":"one","role":"operator"}"#).await;
    let created = created.json();
    let token = created["token"].as_str().expect("it is shown this once");
    let asked = authorized(request("POST", "/v1/tokens"), token);
    let answer = world.tcp(asked.body(full(r#"{"name":"two","role":"viewer"}"#)).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "forbidden"));
}
