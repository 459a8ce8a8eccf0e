//! B3: whatever one tenant takes all that it can of, another is served meanwhile, through the real binary over real sockets.
//!
//! It is said by order and never by time: the other's answer is there while what floods is still open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::home::{DEADLINE, Home, Server, append, block_on};

/// A tenant with one agent and a token.
#[derive(Debug, Clone)]
pub(crate) struct Party {
    pub(crate) token: String,
    pub(crate) agent: String,
}

impl Party {
    pub(crate) async fn new(home: &Home, server: &Server, name: &str, grants: &[&str]) -> Self {
        let created = home.run(&["tenant", "create", name, "--json"]);
        let created: Value = serde_json::from_slice(&created.stdout).expect("a document");
        let token = created["token"].as_str().expect("a token").to_owned();
        let mut party = Self { token, agent: String::new() };
        let grants: Vec<_> = ["model", "reply"].iter().chain(grants).collect();
        let new = json!({"handle": "ops", "config": {"model": "default", "grants": grants}});
        let (status, agent) = party.post(server, "/v1/agents", &new).await;
        assert_eq!(status, 201, "{agent}");
        agent["id"].as_str().expect("an id").clone_into(&mut party.agent);
        party
    }

    pub(crate) async fn post(&self, server: &Server, path: &str, body: &Value) -> (u16, Value) {
        let request = reqwest::Client::new().post(format!("{}{path}", server.url));
        server.send(request.bearer_auth(&self.token).json(body)).await
    }

    async fn get(&self, server: &Server, path: &str) -> Value {
        let request = reqwest::Client::new().get(format!("{}{path}", server.url));
        let (status, answer) = server.send(request.bearer_auth(&self.token)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Says the same in so many sessions, and waits for no answer.
    async fn flood(&self, server: &Server, text: &str, sessions: usize) {
        for number in 0..sessions {
            let key = format!("cli:c{number}");
            let event = json!({"text": text, "agent": "ops", "channel": key});
            let (status, accepted) = self.post(server, "/v1/events", &event).await;
            assert_eq!(status, 202, "{accepted}");
        }
    }

    /// Says something and returns the answer, once it has come.
    pub(crate) async fn asks(&self, server: &Server, text: &str) -> Value {
        let event = json!({"text": text, "agent": "ops", "wait": true});
        let (status, answer) = self.post(server, "/v1/events", &event).await;
        assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
        answer
    }

    /// Calls a tool in a turn, and returns what the call was told.
    async fn calls(&self, server: &Server, tool: &str, arguments: &Value) -> String {
        let answer = self.asks(server, &format!("@tool {tool} {arguments}")).await;
        let run = answer["run"].as_str().expect("a run");
        let journal = self.get(server, &format!("/v1/runs/{run}/journal?limit=256")).await;
        let entries = journal["entries"].as_array().expect("entries");
        let finished = entries.iter().find(|entry| entry["kind"] == "tool_finished");
        finished.expect("the call has a result")["body"].to_string()
    }

    /// Counts the runs that have not ended.
    async fn open(&self, server: &Server) -> usize {
        let runs = self.get(server, "/v1/runs?status=running&limit=256").await;
        runs["items"].as_array().expect("a list").len()
    }

    /// Waits until so many runs are open, or none.
    async fn comes_to(&self, server: &Server, runs: usize) {
        let until = Instant::now() + DEADLINE;
        while self.open(server).await != runs {
            assert!(Instant::now() < until, "{} runs are open", self.open(server).await);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// The most turns of one tenant for each of another, where as many as there are connections would be the rule.
const TURNS_MAX: usize = 24;

const SLEEP: &str = r#"@tool exec {"argv":["/bin/sleep","50"]}"#;

/// All slots of programs but the reserve are taken, and more programs wait than there are slots of runs.
#[test]
fn sleeping_programs_take_no_slot_from_another_tenant() {
    let home = Home::new();
    let server = home.serve_with(home.command(), &["--set", "engine.active_max=16"]);
    block_on(async {
        let flood = Party::new(&home, &server, "flood", &["exec"]).await;
        let quiet = Party::new(&home, &server, "quiet", &["exec"]).await;
        flood.flood(&server, SLEEP, 60).await;
        flood.comes_to(&server, 60).await;
        quiet.asks(&server, "hello").await;
        let said = quiet.calls(&server, "exec", &json!({"argv": ["/bin/echo", "here"]})).await;
        assert!(said.contains("[exit code 0") && said.contains("here"), "{said}");
        assert_eq!(flood.open(&server).await, 60, "nothing of it has ended");
        let path = format!("/v1/agents/{}/kill", flood.agent);
        let (status, killed) = flood.post(&server, &path, &json!({"all": true})).await;
        assert_eq!((status, killed["runs"].as_array().map(Vec::len)), (202, Some(60)), "{killed}");
        flood.comes_to(&server, 0).await;
        let cancelled = flood.get(&server, "/v1/runs?status=cancelled&limit=256").await;
        assert_eq!(cancelled["items"].as_array().map(Vec::len), Some(60), "none slept to its end");
    });
}

/// How many turns of a tenant with many connections are answered for each turn of another with one.
async fn asked_for_each(server: &Server, flood: &Party, quiet: &Party) -> usize {
    const CONNECTIONS: usize = 64;
    const ASKED: usize = 40;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut asking = JoinSet::new();
    let event = json!({"text": "hello", "agent": "ops", "wait": true});
    for _ in 0..CONNECTIONS {
        // A connection of its own for each.
        let (client, url, answered) =
            (reqwest::Client::new(), format!("{}/v1/events", server.url), Arc::clone(&answered));
        let request = client.post(url).bearer_auth(&flood.token).json(&event);
        asking.spawn(async move {
            while let Some(again) = request.try_clone() {
                let answer = again.send().await.expect("the server answers");
                assert!(answer.status().is_success(), "{answer:?}");
                answer.bytes().await.expect("it is whole");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let (client, url) = (reqwest::Client::new(), format!("{}/v1/events", server.url));
    let ask = async || {
        let request = client.post(&url).bearer_auth(&quiet.token).json(&event);
        let (status, answer) = server.send(request).await;
        assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
    };
    // Once all of them are under way.
    while answered.load(Ordering::Relaxed) < 2 * CONNECTIONS {
        ask().await;
    }
    let before = answered.load(Ordering::Relaxed);
    for _ in 0..ASKED {
        ask().await;
    }
    let turns = answered.load(Ordering::Relaxed) - before;
    asking.abort_all();
    assert!(turns > 0, "the flood is answered too");
    turns.div_ceil(ASKED)
}

/// Runs compete in what the processor and the store do for them, beside all slots. It is counted in turns: were all connections
/// of one tenant served as they come, each would be answered for each turn of the other.
#[test]
fn a_turn_waits_for_few_turns_of_a_flooding_tenant() {
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let flood = Party::new(&home, &server, "flood", &[]).await;
        let quiet = Party::new(&home, &server, "quiet", &[]).await;
        let turns = asked_for_each(&server, &flood, &quiet).await;
        assert!(turns <= TURNS_MAX, "{turns} turns of one tenant for each of the other");
    });
}

/// One tenant has more searches in line than there is room for any kind of file work.
#[test]
fn a_file_is_read_while_another_tenant_searches() {
    const SEARCHES: usize = 96;
    let home = Home::new();
    let server = home.serve();
    block_on(async {
        let flood = Party::new(&home, &server, "flood", &["file.*"]).await;
        let quiet = Party::new(&home, &server, "quiet", &["file.*"]).await;
        for party in [&flood, &quiet] {
            party.calls(&server, "file.write", &json!({"path": "note", "content": "a word"})).await;
        }
        let workspace = home.path().join("agents").join(&flood.agent).join("workspace");
        for number in 0..7 {
            let text = "nothing of what is looked for, on many lines\n".repeat(80_000);
            std::fs::write(workspace.join(format!("large{number}")), text).expect("it is written");
        }
        let search = r#"@tool file.search {"pattern":"(a|b)*needle [0-9]+ and more","regex":true}"#;
        flood.flood(&server, search, SEARCHES).await;
        let said = quiet.calls(&server, "file.read", &json!({"path": "note"})).await;
        assert!(said.contains("a word"), "{said}");
        let open = flood.open(&server).await;
        assert!(open >= SEARCHES / 2, "{open} of {SEARCHES} searches are left");
    });
}

/// One tenant opens all the streams that it can with all of its tokens.
#[test]
fn one_tenants_tokens_cannot_take_all_streams() {
    let home = Home::new();
    // That is eight streams, and four of one token.
    append(&home.path().join("dromia.yaml"), "limits: { requests_max: 32 }\n");
    let server = home.serve();
    block_on(async {
        let flood = Party::new(&home, &server, "flood", &[]).await;
        let quiet = Party::new(&home, &server, "quiet", &[]).await;
        let mut tokens = vec![flood.token.clone()];
        for name in ["b", "c"] {
            let new = json!({"name": name, "scopes": ["read"]});
            let (status, created) = flood.post(&server, "/v1/tokens", &new).await;
            assert_eq!(status, 201, "{created}");
            tokens.push(created["token"].as_str().expect("a token").to_owned());
        }
        let mut streams = Vec::new();
        for (party, token) in tokens.iter().map(|token| (&flood, token)).chain([(&quiet, &quiet.token)]) {
            if party.open(&server).await == 0 {
                party.flood(&server, "@slow 60000", 1).await;
                party.comes_to(&server, 1).await;
            }
            let runs = party.get(&server, "/v1/runs?status=running").await;
            let run = runs["items"][0]["id"].as_str().expect("a run").to_owned();
            for _ in 0..4 {
                let request = reqwest::Client::new().get(format!("{}/v1/runs/{run}/journal", server.url));
                let request = request.bearer_auth(token).header("accept", "text/event-stream");
                let mut answer = request.send().await.expect("the server answers");
                if answer.status().as_u16() == 200 {
                    answer.chunk().await.expect("it begins");
                    streams.push((std::ptr::eq(party, &raw const quiet), answer));
                }
            }
        }
        let of_quiet = streams.iter().filter(|(is_quiet, _)| *is_quiet).count();
        assert_eq!((streams.len() - of_quiet, of_quiet), (7, 1));
    });
}
