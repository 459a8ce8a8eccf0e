//! The document and the page, as they are served.

use dromia_gateway::openapi;

use crate::client::{full, request};
use crate::world::World;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

/// `make api` writes the file in place of comparing it.
#[test]
fn the_document_is_the_one_in_the_docs() {
    let mut text = serde_json::to_string_pretty(&openapi::build_document()).unwrap();
    text.push('\n');
    if std::env::var_os("DROMIA_WRITE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &text).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    let differs = golden.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        golden == text,
        "docs/openapi.json differs at line {differs:?}: see what changed with `make api`"
    );
}

#[tokio::test]
async fn the_document_that_is_served_is_the_same_every_time() {
    let world = World::new().await;
    let ask = || async { world.tcp(request("GET", "/openapi.json").body(full("")).unwrap()).await };
    let (first, second) = (ask().await, ask().await);
    assert_eq!(first.headers["content-type"], "application/json");
    assert_eq!(first.body, second.body);
    assert_eq!(first.json(), openapi::build_document());
    assert_eq!(first.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn the_page_shows_every_operation_and_asks_for_nothing() {
    let world = World::new().await;
    let answer = world.tcp(request("GET", "/docs").body(full("")).unwrap()).await;
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    let policy = answer.headers["content-security-policy"].to_str().unwrap().to_owned();
    let page = String::from_utf8(answer.body.to_vec()).unwrap();
    let nonce = page.split("<style nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    );
    assert_eq!(nonce.len(), 32);
    for operation in world.operations().await {
        assert!(
            page.contains(&format!("<section id=\"{}\">", operation.id)),
            "{} is not shown",
            operation.line()
        );
    }
    let document = openapi::build_document();
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("<section id=\"schema-{name}\">")), "{name} is not shown");
    }
    for loading in ["<script", "<link", "<img", "<iframe", "src=", "url(", "@import", "style=", "javascript:"]
    {
        assert!(!page.contains(loading), "the page has {loading}");
    }
    let elsewhere = page.split("href=\"").skip(1).find(|link| !link.starts_with(['#', '/']));
    assert_eq!(elsewhere, None, "a link leads elsewhere");
    assert!(page.contains("color-scheme:light dark") && page.contains("prefers-color-scheme:dark"));
}

#[tokio::test]
async fn the_type_of_every_problem_leads_to_a_place_on_the_page() {
    let world = World::new().await;
    for code in dromia_contracts::ErrorCode::ALL {
        let problem = dromia_api::ProblemDetails::new(*code, "it failed", "req_1");
        let (path, place) = problem.kind.split_once('#').unwrap();
        let page = world.tcp(request("GET", path).body(full("")).unwrap()).await;
        let page = String::from_utf8(page.body.to_vec()).unwrap();
        assert_eq!(page.matches(&format!(" id=\"{place}\"")).count(), 1, "{}", problem.kind);
    }
}
