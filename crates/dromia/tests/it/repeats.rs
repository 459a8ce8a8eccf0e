//! A request whose answer was lost is sent again: what it answers then.

use crate::approvals::document;
use crate::home::{Home, block_on};

#[test]
fn a_repeated_deletion_answers_with_its_receipt() {
    let home = Home::new();
    let server = home.serve();
    let made = document(&home, &["agent", "create", "clerk", "--grant", "model", "--grant", "reply"]);
    document(&home, &["ask", "--agent", "clerk", "hello"]);
    let by = |name: &str| {
        block_on(async {
            let request = reqwest::Client::new().delete(format!("{}/v1/agents/{name}", server.url));
            server.send(request.bearer_auth(&server.token)).await
        })
    };
    let (status, receipt) = by("clerk");
    assert_eq!((status, receipt["erased"]["runs"].as_u64()), (200, Some(1)), "{receipt}");
    assert_eq!(by("clerk"), (200, receipt.clone()));
    assert_eq!(by(made["id"].as_str().expect("an id")), (200, receipt));
    assert_eq!(by("nobody").0, 404);
    // The next agent of that name is another one, and its deletion has a receipt of its own.
    document(&home, &["agent", "create", "clerk", "--grant", "model", "--grant", "reply"]);
    let (status, second) = by("clerk");
    assert_eq!((status, second["erased"]["runs"].as_u64()), (200, Some(0)), "{second}");
    drop(server);
}
