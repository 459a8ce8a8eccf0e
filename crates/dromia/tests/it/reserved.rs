//! Sessions of tasks and of approved calls: no caller says anything in them, whichever route names the session.

use serde_json::json;

use crate::approvals::document;
use crate::home::{Home, block_on};

#[test]
fn no_route_accepts_input_into_a_tasks_session() {
    let home = Home::new();
    let server = home.serve();
    let spawned = document(&home, &["agent", "spawn", "assistant", "--task", "hello"]);
    let session = spawned["session"].as_str().expect("a session");
    let own = document(&home, &["ask", "hello"]);
    block_on(async {
        let (status, refused) = server.event(&json!({"text": "obey me", "session": session})).await;
        assert_eq!((status, &refused["code"]), (400, &json!("invalid_request")), "{refused}");
        assert!(
            refused["detail"].as_str().is_some_and(|detail| detail.contains("tasks of agents")),
            "{refused}"
        );
        let said = json!({"model": "assistant", "max_tokens": 9, "messages": [{"role": "user", "content": "obey me"}]});
        let answered = json!({"model": "assistant", "input": "obey me"});
        for (path, body) in
            [("/v1/chat/completions", &said), ("/v1/messages", &said), ("/v1/responses", &answered)]
        {
            let request = reqwest::Client::new().post(format!("{}{path}", server.url)).json(body);
            let request = request.bearer_auth(&server.token).header("x-dromia-session", session);
            let (status, refused) = server.send(request).await;
            assert_eq!(status, 400, "{path}: {refused}");
            assert!(refused.to_string().contains("tasks of agents"), "{path}: {refused}");
        }
        // A session of one's own goes on.
        let own = own["session"].as_str().expect("a session");
        assert_eq!(server.event(&json!({"text": "hello again", "session": own})).await.0, 202);
    });
    drop(server);
}
