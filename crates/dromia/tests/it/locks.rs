//! Custom state as a lock over real connections: of clients that write the same words under the same `If-Match` one wins.

use serde_json::json;

use crate::home::{Home, block_on};

/// How many clients want each lock.
const CLIENTS: usize = 8;
/// How many locks there are: that of one is often free by chance.
const ROUNDS: usize = 40;

#[test]
fn one_of_eight_clients_gets_a_lock() {
    let home = Home::new();
    let server = home.serve();
    let (_, answer) = block_on(server.event(&json!({"text": "hello", "wait": true})));
    let session = answer["session"].as_str().expect("a session").to_owned();
    block_on(async {
        for round in 0..ROUNDS {
            let mut clients = tokio::task::JoinSet::new();
            for _ in 0..CLIENTS {
                let url = format!("{}/v1/sessions/{session}/state/lock-{round}", server.url);
                let request = reqwest::Client::new().put(url).bearer_auth(&server.token);
                let request = request.header("If-Match", "0").json(&"taken");
                clients.spawn(async move { request.send().await.expect("an answer").status().as_u16() });
            }
            let mut answers = clients.join_all().await;
            answers.sort_unstable();
            let mut wanted = vec![412; CLIENTS];
            wanted[0] = 200;
            assert_eq!(answers, wanted, "round {round}");
        }
    });
}
