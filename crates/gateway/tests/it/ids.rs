//! Ids by a part of them, and names that were probably meant: both tell of the caller's own things only.

use crate::client::{full, request};
use crate::world::World;

async fn code_of(world: &World, path: &str) -> (u16, String) {
    let answer = world.ask("GET", path, "").await;
    (answer.status.as_u16(), answer.code())
}

#[tokio::test]
async fn an_id_is_found_by_its_last_digits_with_or_without_its_prefix() {
    let world = World::new().await;
    let run = world.ours.run.to_string();
    let digits = &run[28..];
    for path in [
        format!("/v1/ids/{digits}?kind=run"),
        format!("/v1/ids/run_{digits}"),
        format!("/v1/ids/run_{digits}?kind=run"),
        format!("/v1/ids/{}?kind=run", digits.to_uppercase()),
    ] {
        let answer = world.ask("GET", &path, "").await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        let found = answer.json();
        assert_eq!((&found["kind"], &found["more"]), (&"run".into(), &false.into()), "{path}");
        assert_eq!(found["matches"][0]["id"], run, "{path}");
        assert_eq!(found["matches"].as_array().unwrap().len(), 1, "{path}");
    }
}

#[tokio::test]
async fn what_is_no_part_of_an_id_is_refused_and_what_fits_none_is_not_found() {
    let world = World::new().await;
    let invalid = (400, "invalid_request".to_owned());
    for path in ["abc?kind=run", "abcd", "abcg1234?kind=run", "run_abcd?kind=session", "abcd1234?kind=moon"] {
        assert_eq!(code_of(&world, &format!("/v1/ids/{path}")).await, invalid, "{path}");
    }
    for (kind, code) in [
        ("run", "run_not_found"),
        ("session", "session_not_found"),
        ("approval", "approval_not_found"),
        ("delivery", "delivery_not_found"),
        ("capability", "capability_not_found"),
        ("token", "token_not_found"),
    ] {
        let found = code_of(&world, &format!("/v1/ids/dead0000beef?kind={kind}")).await;
        assert_eq!(found, (404, code.to_owned()));
    }
}

#[tokio::test]
async fn a_misspelt_agent_is_answered_with_one_of_the_callers_own() {
    let world = World::new().await;
    // Of another tenant, and as near to what is typed as the caller's own.
    world.rooms.lock().agents[1].1.handle = "opsi".parse().unwrap();
    let missed = world.ask("GET", "/v1/agents/opss", "").await;
    assert_eq!((missed.status.as_u16(), missed.code()), (404, "agent_not_found".to_owned()));
    let hint = missed.json()["hint"].as_str().unwrap().to_owned();
    assert_eq!(hint, "did you mean ops? `GET /v1/agents` lists all agents", "over TCP no command is named");
    let missed = world.ask("GET", "/v1/agents/opsi", "").await;
    assert!(!missed.json()["hint"].as_str().unwrap().contains("opsi?"), "{:?}", missed.body);
    let missed = world.ask("GET", "/v1/agents/sunflower", "").await;
    assert_eq!(missed.json()["hint"], "list the agents with `GET /v1/agents`");
    let missed = world.unix(request("GET", "/v1/agents/opss").body(full("")).unwrap()).await;
    assert_eq!(missed.json()["hint"], "did you mean ops? `dromia agent list` lists all agents");
}

#[tokio::test]
async fn a_misspelt_tenant_is_answered_on_the_socket() {
    let world = World::new().await;
    let asked = request("GET", "/v1/agents").header("x-dromia-tenant", "othr").body(full("")).unwrap();
    let missed = world.unix(asked).await;
    assert_eq!(missed.code(), "tenant_not_found");
    assert_eq!(missed.json()["hint"], "did you mean other? `dromia tenant list` lists all tenants");
}
