//! Every line of the route table meets the caller without a credential, with a wrong one, of another tenant, and
//! with a token of each scope.

use dromia_contracts::runs::NewToken;
use dromia_contracts::token::{TokenScope, TokenScopes};
use dromia_gateway::routes::{Needs, ROUTES, Route};

use crate::client::{authorized, full, request};
use crate::world::{House, World};

/// A body that the route takes, so that nothing but the caller is wrong.
fn body(route: &Route, house: &House) -> String {
    match (route.method, route.path) {
        ("POST", "/v1/events") => format!(r#"{{"text":"hi","session":"{}"}}"#, house.session),
        ("POST", "/v1/agents") => r#"{"handle":"new","config":{"model":"default"}}"#.to_owned(),
        ("POST", "/v1/tokens") => r#"{"name":"new","scopes":["read"]}"#.to_owned(),
        ("POST", "/v1/tenants") => r#"{"handle":"new"}"#.to_owned(),
        ("POST", "/v1/sessions/import") => "a session".to_owned(),
        ("PUT", _) => "1".to_owned(),
        _ => String::new(),
    }
}

fn path(route: &Route, house: &House) -> String {
    let path = route
        .path
        .replace("{agent}", &house.agent.to_string())
        .replace("{session}", &house.session.to_string())
        .replace("{run}", &house.run.to_string())
        .replace("{token}", &house.token_id.to_string())
        .replace("{name}", "note");
    if path == "/v1/sessions/import" { format!("{path}?agent={}", house.agent) } else { path }
}

fn is_of_a_tenant(route: &Route) -> bool {
    match route.needs {
        Needs::Credential | Needs::Tenant(_) => true,
        Needs::Nothing | Needs::Operator => false,
    }
}

fn names_something(route: &Route) -> bool {
    route.path.contains('{') || matches!(route.path, "/v1/events" | "/v1/sessions/import")
}

#[tokio::test]
async fn a_route_that_needs_somebody_answers_nobody() {
    let world = World::new().await;
    for route in ROUTES.iter().filter(|route| route.needs != Needs::Nothing) {
        let (path, body) = (path(route, &world.ours), body(route, &world.ours));
        for credential in [
            None,
            Some("Bearer drm_garbage"),
            Some("Bearer "),
            Some("Basic drm_default"),
            Some("drm_default"),
        ] {
            let mut asked = request(route.method, &path);
            if let Some(credential) = credential {
                asked = asked.header("authorization", credential);
            }
            let answer = world.tcp(asked.body(full(&body)).unwrap()).await;
            assert_eq!(answer.status, 401, "{route:?} with {credential:?}");
            assert_eq!(answer.code(), "unauthorized");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
    assert!(world.rooms.lock().inputs.is_empty(), "an input came through");
}

#[tokio::test]
async fn what_belongs_to_a_stranger_is_not_found_like_what_does_not_exist() {
    let world = World::new().await;
    let mut nobody = world.ours.clone();
    nobody.agent = dromia_contracts::AgentId::from_bytes([0xee; 16]);
    nobody.session = dromia_contracts::SessionId::from_bytes([0xee; 16]);
    nobody.run = dromia_contracts::RunId::from_bytes([0xee; 16]);
    nobody.token_id = dromia_contracts::TokenId::from_bytes([0xee; 16]);
    for route in ROUTES.iter().filter(|route| is_of_a_tenant(route) && names_something(route)) {
        let stranger =
            world.ask(route.method, &path(route, &world.theirs), &body(route, &world.theirs)).await;
        let missing = world.ask(route.method, &path(route, &nobody), &body(route, &nobody)).await;
        assert_eq!(stranger.status, 404, "{route:?}: {:?}", stranger.body);
        assert!(stranger.code().ends_with("_not_found"));
        assert_eq!(stranger.lasting(), missing.lasting(), "{route:?} tells them apart");
    }
    assert_eq!(world.rooms.lock().agents.len(), 2, "a stranger's agent is gone");
    assert!(world.rooms.lock().inputs.is_empty(), "an input came through");
}

#[tokio::test]
async fn a_listing_shows_nothing_of_a_stranger() {
    let world = World::new().await;
    let theirs = &world.theirs;
    let strange = [
        theirs.agent.to_string(),
        theirs.session.to_string(),
        theirs.run.to_string(),
        theirs.token_id.to_string(),
    ];
    for route in ROUTES.iter().filter(|route| is_of_a_tenant(route) && route.method == "GET") {
        let answer = world.ask("GET", &path(route, &world.ours), "").await;
        assert_eq!(answer.status, 200, "{route:?}: {:?}", answer.body);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(strange.iter().all(|id| !text.contains(id)), "{route:?}: {text}");
        assert!(!text.contains("other"), "{route:?}: {text}");
    }
}

#[tokio::test]
async fn a_token_may_do_what_its_scopes_say_and_nothing_else() {
    for has in TokenScope::ALL {
        let world = World::new().await;
        let scopes: TokenScopes = [has].into_iter().collect();
        let new = NewToken { name: "one".into(), scopes, expires_at: None };
        world.rooms.lock().token(world.ours.tenant, "drm_one", new);
        let mut refused = 0;
        for route in ROUTES {
            let Needs::Tenant(needed) = route.needs else { continue };
            let asked = authorized(request(route.method, &path(route, &world.ours)), "drm_one");
            let answer = world.tcp(asked.body(full(&body(route, &world.ours))).unwrap()).await;
            if scopes.allows(needed) {
                assert!(
                    !matches!(answer.status.as_u16(), 401 | 403),
                    "{has} at {route:?}: {:?}",
                    answer.body
                );
                continue;
            }
            assert_eq!(
                (answer.status.as_u16(), answer.code().as_str()),
                (403, "forbidden"),
                "{has} at {route:?}"
            );
            let problem = answer.json();
            assert_eq!(problem["detail"], format!("the token lacks the scope `{needed}`"));
            let way_out = format!("`dromia --tenant default token create NAME --scope {needed}`");
            assert!(problem["hint"].as_str().unwrap().contains(&way_out), "{problem}");
            refused += 1;
        }
        let inner = world.rooms.lock();
        match has {
            TokenScope::Read => assert!(inner.inputs.is_empty(), "an input came through"),
            TokenScope::Invoke => assert_eq!(inner.inputs.len(), 1, "one input came through"),
            TokenScope::Admin => assert_eq!(refused, 0, "admin may do everything"),
        }
        if has != TokenScope::Admin {
            assert_eq!((inner.agents.len(), inner.tokens.len()), (2, 3), "{has} changed something");
        }
    }
}

#[test]
fn what_is_read_needs_the_scope_to_read_and_nothing_else_does() {
    for route in ROUTES {
        let Needs::Tenant(needed) = route.needs else { continue };
        assert_eq!(route.method == "GET", needed == TokenScope::Read, "{route:?}");
    }
    let open: Vec<_> = ROUTES.iter().filter(|route| route.needs == Needs::Credential).collect();
    assert_eq!(open.len(), 1, "only `whoami` asks for no scope: {open:?}");
}

#[tokio::test]
async fn a_route_of_the_operator_is_forbidden_over_tcp_and_served_on_the_socket() {
    let world = World::new().await;
    for route in ROUTES.iter().filter(|route| route.needs == Needs::Operator) {
        let (path, body) = (path(route, &world.ours), body(route, &world.ours));
        let refused = world.ask(route.method, &path, &body).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "forbidden"), "{route:?}");
        let served = world.unix(request(route.method, &path).body(full(&body)).unwrap()).await;
        assert!(served.status.is_success(), "{route:?}: {:?}", served.body);
    }
}

#[tokio::test]
async fn an_open_route_needs_no_token_and_names_no_tenant() {
    let world = World::new().await;
    for route in ROUTES.iter().filter(|route| route.needs == Needs::Nothing) {
        let answer = world.tcp(request(route.method, route.path).body(full("")).unwrap()).await;
        assert_eq!(answer.status, 200, "{route:?}");
        assert!(answer.headers.contains_key("x-request-id"));
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains(&world.ours.tenant.to_string()) && !text.contains("other"), "{text}");
    }
}

#[tokio::test]
async fn the_owner_on_the_socket_picks_the_tenant() {
    let world = World::new().await;
    for (tenant, status) in
        [(None, 200), (Some("other"), 404), (Some("nobody"), 404), (Some("No Handle"), 404)]
    {
        let mut asked = request("GET", &format!("/v1/runs/{}", world.ours.run));
        if let Some(tenant) = tenant {
            asked = asked.header("x-dromia-tenant", tenant);
        }
        let answer = world.unix(asked.body(full("")).unwrap()).await;
        assert_eq!(answer.status, status, "{tenant:?}: {:?}", answer.body);
    }
    // Over TCP the token says it, whatever the header says.
    let asked = authorized(request("GET", &format!("/v1/runs/{}", world.theirs.run)), &world.ours.token);
    let answer = world.tcp(asked.header("x-dromia-tenant", "other").body(full("")).unwrap()).await;
    assert_eq!(answer.code(), "run_not_found");
}

#[tokio::test]
async fn a_path_or_method_off_the_table_is_a_problem() {
    let world = World::new().await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1/moon", 404),
        ("PATCH", "/v1/agents", 405),
        ("DELETE", "/health", 405),
    ] {
        let answer = world.ask(method, path, "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (status, "route_not_found"),
            "{method} {path}"
        );
    }
}
