//! Every operation of the served document meets the caller without a credential, with a wrong one, of another tenant,
//! and with a token of each scope. What is not in the document is not served; a test of the document sees to that.

use dromia_contracts::runs::NewToken;
use dromia_contracts::token::{TokenScope, TokenScopes};
use dromia_gateway::GatewayConfig;

use crate::client::{Answer, authorized, full, request};
use crate::world::{House, World};

/// The operations that need nothing. Nothing is added here by chance: whatever they say, everybody may read.
const OPEN: [&str; 5] = ["GET /docs", "GET /health", "GET /openapi.json", "GET /ready", "HEAD /"];

/// The operations that are served on the Unix socket only.
const OPERATOR: [&str; 6] = [
    "DELETE /v1/tenants/{tenant}",
    "GET /v1/tenants",
    "GET /v1/tenants/{tenant}",
    "POST /v1/tenants",
    "POST /v1/tenants/{tenant}/resume",
    "POST /v1/tenants/{tenant}/suspend",
];

/// The operations that a signature lets in.
const SIGNED: [&str; 1] = ["POST /v1/channels/{channel}/events"];

#[tokio::test]
async fn open_and_operator_operations_are_exactly_those_listed_here() {
    let world = World::new().await;
    let operations = world.operations().await;
    let needing = |needs: &str| {
        let some = operations.iter().filter(|operation| operation.needs == needs);
        some.map(crate::described::Operation::line).collect::<Vec<_>>()
    };
    let mut open = needing("nothing");
    open.sort();
    assert_eq!(open, OPEN);
    let mut operator = needing("operator");
    operator.sort();
    assert_eq!(operator, OPERATOR);
    assert_eq!(needing("credential"), ["GET /v1/whoami"], "only this asks for no scope");
    assert_eq!(needing("signature"), SIGNED);
    let listed = 1 + OPEN.len() + OPERATOR.len() + SIGNED.len();
    assert_eq!(needing("tenant").len() + listed, operations.len());
    for operation in operations.iter().filter(|operation| operation.needs == "tenant") {
        let reads = matches!(operation.scope(), TokenScope::Read | TokenScope::Metrics);
        assert_eq!(operation.method == "GET", reads, "{}", operation.line());
    }
}

#[tokio::test]
async fn an_operation_with_credentials_refuses_callers_without_them() {
    let world = World::new().await;
    let long = format!("Bearer {}", "x".repeat(300));
    let operations = world.operations().await;
    for operation in operations.iter().filter(|it| it.needs != "nothing" && !it.is_signed()) {
        let (path, body) = (operation.path(&world.ours), operation.body(&world.ours));
        for credential in [
            None,
            Some("Bearer drm_garbage"),
            Some("Bearer "),
            Some("Basic drm_default"),
            Some("drm_default"),
            Some(long.as_str()),
        ] {
            let mut asked = request(&operation.method, &path);
            if let Some(credential) = credential {
                asked = asked.header("authorization", credential);
            }
            let answer = world.tcp(asked.body(full(&body)).unwrap()).await;
            assert_eq!(answer.status, 401, "{} with {credential:?}", operation.line());
            assert!(
                matches!(operation.code(&answer).as_str(), "unauthorized" | "invalid_api_key"),
                "{}: {:?}",
                operation.line(),
                answer.body
            );
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            operation.describes(&answer);
        }
    }
    assert!(world.rooms.lock().inputs.is_empty(), "an input came through");
}

#[tokio::test]
async fn a_strangers_resource_answers_like_one_that_does_not_exist() {
    let world = World::new().await;
    let mut nobody = world.ours.clone();
    nobody.agent = dromia_contracts::AgentId::from_bytes([0xee; 16]);
    nobody.session = dromia_contracts::SessionId::from_bytes([0xee; 16]);
    nobody.child = dromia_contracts::SessionId::from_bytes([0xee; 16]);
    nobody.run = dromia_contracts::RunId::from_bytes([0xee; 16]);
    nobody.token_id = dromia_contracts::TokenId::from_bytes([0xee; 16]);
    nobody.delivery = dromia_contracts::DeliveryId::from_bytes([0xee; 16]);
    nobody.approval = dromia_contracts::ApprovalId::from_bytes([0xee; 16]);
    let operations = world.operations().await;
    let naming = operations.iter().filter(|it| it.is_of_a_tenant() && it.names_something());
    for operation in naming {
        let method = &operation.method;
        let (path, body) = (operation.path(&world.theirs), operation.body(&world.theirs));
        let stranger = world.ask(method, &path, &body).await;
        let missing = world.ask(method, &operation.path(&nobody), &operation.body(&nobody)).await;
        assert_eq!(stranger.status, 404, "{}: {:?}", operation.line(), stranger.body);
        assert!(operation.code(&stranger).ends_with("_not_found"));
        // What was asked for may be said again; nothing else may differ.
        let told = |answer: &Answer, asked: &House| {
            let ids = [
                asked.agent.to_string(),
                asked.session.to_string(),
                asked.child.to_string(),
                asked.run.to_string(),
                asked.token_id.to_string(),
                asked.delivery.to_string(),
                asked.approval.to_string(),
            ];
            ids.iter().fold(answer.lasting().to_string(), |text, id| text.replace(id, "ID"))
        };
        let (stranger_told, missing_told) = (told(&stranger, &world.theirs), told(&missing, &nobody));
        assert_eq!(stranger_told, missing_told, "{} tells them apart", operation.line());
        operation.describes(&stranger);
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
        theirs.child.to_string(),
        theirs.run.to_string(),
        theirs.token_id.to_string(),
        theirs.delivery.to_string(),
        theirs.approval.to_string(),
    ];
    let operations = world.operations().await;
    for operation in operations.iter().filter(|it| it.is_of_a_tenant() && it.method == "GET") {
        let answer = world.ask("GET", &operation.path(&world.ours), "").await;
        assert_eq!(answer.status, 200, "{}: {:?}", operation.line(), answer.body);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(strange.iter().all(|id| !text.contains(id)), "{}: {text}", operation.line());
        assert!(!text.contains("other"), "{}: {text}", operation.line());
    }
}

#[tokio::test]
async fn a_token_may_do_exactly_what_its_scopes_allow() {
    for has in TokenScope::ALL {
        let world = World::new().await;
        let scopes: TokenScopes = [has].into_iter().collect();
        let new = NewToken { name: "one".into(), scopes, expires_at: None };
        world.rooms.lock().token(world.ours.tenant, "drm_one", new);
        let mut refused = 0;
        for operation in world.operations().await.iter().filter(|operation| operation.needs == "tenant") {
            let needed = operation.scope();
            let (path, body) = (operation.path(&world.ours), operation.body(&world.ours));
            let asked = authorized(request(&operation.method, &path), "drm_one");
            let answer = world.tcp(asked.body(full(&body)).unwrap()).await;
            let line = operation.line();
            if scopes.allows(needed) {
                assert!(!matches!(answer.status.as_u16(), 401 | 403), "{has} at {line}: {:?}", answer.body);
                continue;
            }
            assert_eq!(answer.status, 403, "{has} at {line}");
            operation.describes(&answer);
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(told.contains(&format!("the token lacks the scope `{needed}`")), "{line}: {told}");
            let way_out = format!("`dromia --tenant default token create NAME --scope {needed}`");
            assert!(told.contains(&way_out), "{line}: {told}");
            refused += 1;
        }
        let inner = world.rooms.lock();
        match has {
            TokenScope::Invoke => assert_eq!(inner.inputs.len(), 5, "an input for each route that invokes"),
            TokenScope::Operate => assert!(refused > 0, "it does not read either"),
            // No route of this server waits for a person's answer by itself.
            TokenScope::Read | TokenScope::Approve | TokenScope::Metrics => {
                assert!(inner.inputs.is_empty(), "an input came through");
            }
            TokenScope::Admin => assert_eq!(refused, 0, "admin may do everything"),
        }
        if has != TokenScope::Admin {
            assert_eq!((inner.agents.len(), inner.tokens.len()), (2, 3), "{has} changed something");
            let answered = inner.approvals.iter().filter(|(_, row)| row.answer.is_some()).count();
            let expected = usize::from(has == TokenScope::Approve);
            assert_eq!(answered, expected, "{has} answers for nobody but its own tenant");
        }
    }
}

/// Does what a good request needs to have been done: a tenant is suspended before it is deleted.
async fn make_ready(world: &World, operation: &crate::described::Operation) {
    if operation.id == "tenant_delete" {
        let asked = request("POST", "/v1/tenants/other/suspend").body(full("")).unwrap();
        assert!(world.unix(asked).await.status.is_success());
    }
}

#[tokio::test]
async fn operator_operations_are_refused_over_tcp_and_served_locally() {
    let world = World::new().await;
    for operation in world.operations().await.iter().filter(|operation| operation.needs == "operator") {
        let (path, body) = (operation.path(&world.ours), operation.body(&world.ours));
        let refused = world.ask(&operation.method, &path, &body).await;
        let line = operation.line();
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "forbidden"), "{line}");
        operation.describes(&refused);
        make_ready(&world, operation).await;
        let served = world.unix(request(&operation.method, &path).body(full(&body)).unwrap()).await;
        assert!(served.status.is_success(), "{line}: {:?}", served.body);
    }
}

#[tokio::test]
async fn an_open_operation_needs_no_token_and_names_no_tenant() {
    let world = World::new().await;
    for operation in world.operations().await.iter().filter(|operation| operation.needs == "nothing") {
        let asked = request(&operation.method, &operation.path);
        let answer = world.tcp(asked.body(full("")).unwrap()).await;
        assert_eq!(answer.status, 200, "{}", operation.line());
        assert!(answer.headers.contains_key("x-request-id"));
        operation.describes(&answer);
        let text = String::from_utf8_lossy(&answer.body);
        for house in [&world.ours, &world.theirs] {
            let told = [house.tenant.to_string(), house.agent.to_string(), house.token.clone()];
            assert!(told.iter().all(|told| !text.contains(told)), "{}: {text}", operation.line());
        }
    }
}

#[tokio::test]
async fn a_good_request_is_answered_as_the_document_says() {
    let operations = World::new().await.operations().await;
    for operation in operations.iter().filter(|it| !it.is_signed()) {
        // Some requests end what others need, so each has a world of its own.
        let world = World::new().await;
        let (path, body) = (operation.path(&world.ours), operation.body(&world.ours));
        make_ready(&world, operation).await;
        let asked = request(&operation.method, &path);
        let answer = world.unix(asked.body(full(&body)).unwrap()).await;
        assert!(answer.status.is_success(), "{}: {:?}", operation.line(), answer.body);
        operation.describes(&answer);
    }
}

#[tokio::test]
async fn a_wrong_request_is_refused_as_the_document_says() {
    let least = |config: &mut GatewayConfig| {
        (config.capacity.body_bytes_max, config.capacity.import_bytes_max) = (1024, 1024);
    };
    let world = World::with(least).await;
    let long = format!("\"{}\"", "x".repeat(2048));
    let mut seen = [0; 4];
    for operation in world.operations().await.iter().filter(|it| !it.is_signed()) {
        let (path, body) = (operation.path(&world.ours), operation.body(&world.ours));
        let mut wrong = Vec::new();
        if operation.parameters("query").next().is_some() {
            let join = if path.contains('?') { '&' } else { '?' };
            wrong.push((0, 400, "invalid_request", format!("{path}{join}moon=full"), body.clone()));
        }
        if operation.path.contains("{run}") || operation.path.contains("{session}") {
            let path = path.replace("run_", "moon_").replace("ses_", "moon_");
            wrong.push((1, 400, "invalid_request", path, body.clone()));
        }
        if operation.takes_json() {
            wrong.push((2, 400, "invalid_request", path.clone(), r#"{"moon":"full""#.to_owned()));
        }
        if operation.takes_body() {
            wrong.push((3, 413, "body_too_large", path.clone(), long.clone()));
        }
        for (kind, status, code, path, body) in wrong {
            seen[kind] += 1;
            let answer = world.unix(request(&operation.method, &path).body(full(&body)).unwrap()).await;
            assert_eq!(answer.status, status, "{} {path} {body}", operation.method);
            if !operation.is_foreign() {
                assert_eq!(answer.code(), code, "{} {path} {body}", operation.method);
            }
            operation.describes(&answer);
        }
    }
    assert!(seen.iter().all(|&times| times >= 3), "{seen:?} wrong requests are too few");
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

/// Suspends our tenant and returns each operation with what is wrong with its answer: one that reads is refused, or one that
/// changes something is not.
async fn wrong_in_suspension(world: &World) -> Vec<String> {
    let steer = async |verb: &str| {
        let asked = request("POST", &format!("/v1/tenants/default/{verb}")).body(full("")).unwrap();
        assert_eq!(world.unix(asked).await.status, 200, "{verb}");
    };
    let operations = world.operations().await;
    // What was looked up before counts no more.
    world.ask("POST", "/v1/events", r#"{"text":"hi","agent":"ops"}"#).await;
    steer("suspend").await;
    let mut wrong = Vec::new();
    for operation in operations.iter().filter(|it| it.is_of_a_tenant()) {
        let (path, body) = (operation.path(&world.ours), operation.body(&world.ours));
        let by_token = world.ask(&operation.method, &path, &body).await;
        let by_owner = world.unix(request(&operation.method, &path).body(full(&body)).unwrap()).await;
        for answer in [by_token, by_owner] {
            let is_refused = answer.status == 403;
            if is_refused != (operation.method != "GET") {
                wrong.push(format!("{}: {}", operation.line(), answer.status));
            } else if is_refused {
                assert!(
                    ["tenant_suspended", "permission_error"].contains(&&*operation.code(&answer)),
                    "{}: {:?}",
                    operation.line(),
                    answer.body
                );
                operation.describes(&answer);
            }
        }
    }
    if !wrong.is_empty() {
        return wrong;
    }
    let theirs = authorized(request("POST", "/v1/agents/ops/pause"), &world.theirs.token);
    assert_eq!(world.tcp(theirs.body(full("")).unwrap()).await.status, 200, "another tenant goes on");
    steer("resume").await;
    assert_eq!(world.ask("POST", "/v1/agents/ops/pause", "").await.status, 200, "it goes on");
    wrong
}

#[tokio::test]
async fn a_suspended_tenant_reads_and_changes_nothing() {
    assert_eq!(wrong_in_suspension(&World::new().await).await, Vec::<String>::new());
}

/// Planted fault: the tokens of the tenant do not learn that it is suspended.
#[tokio::test]
async fn a_suspension_that_tokens_do_not_learn_is_caught() {
    let world = World::new().await;
    world.rooms.lock().hides_suspension = true;
    assert!(!wrong_in_suspension(&world).await.is_empty(), "nothing notices it");
}

#[tokio::test]
async fn a_tenant_that_is_not_there_is_not_suspended() {
    let world = World::new().await;
    for (method, path) in [
        ("GET", "/v1/tenants/nobody"),
        ("DELETE", "/v1/tenants/nobody"),
        ("POST", "/v1/tenants/nobody/suspend"),
        ("POST", "/v1/tenants/nobody/resume"),
    ] {
        let answer = world.unix(request(method, path).body(full("")).unwrap()).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (404, "tenant_not_found"), "{method} {path}");
        let answer = world.ask(method, &path.replace("nobody", "default"), "").await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.code()),
            (403, "forbidden"),
            "over TCP: {method} {path}"
        );
    }
}

#[tokio::test]
async fn a_path_or_method_off_the_table_is_a_problem() {
    let world = World::new().await;
    for (method, path, status) in [
        ("GET", "/", 405),
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
