//! What runs cost, from the model's report to the command line: attempts, rows, journals and sums say the same to the
//! millionth, across a kill too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::home::{Home, Server, block_on, count, stderr};
use crate::model::{Model, Say};

/// A model with odd prices that never finishes its first answer to `slow`, and calls a tool for ever on `loop`.
fn priced(was_slow: Arc<AtomicBool>) -> Model {
    Model::start(move |_, messages| {
        let asked = messages.iter().rev().find(|message| message["role"] == "user");
        let asked = asked.map(|message| message["content"].to_string()).unwrap_or_default();
        if asked.contains("slow") && !was_slow.swap(true, Ordering::SeqCst) {
            std::thread::sleep(Duration::from_mins(2));
        }
        if asked.contains("loop") {
            Say::Call("time__now", "{}".to_owned())
        } else {
            Say::Text("done".to_owned())
        }
    })
}

fn document(home: &Home, line: &[&str]) -> Value {
    let output = home.run(&[line, &["--json"]].concat());
    assert!(output.status.success(), "{line:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).expect("one document")
}

fn micros(values: &Value, name: &str) -> u64 {
    let values = values.as_array().expect("a list");
    values.iter().map(|value| value[name].as_u64().unwrap_or_default()).sum()
}

/// Checks one run and returns what it cost.
async fn checked(home: &Home, server: &Server, run: &Value) -> u64 {
    let id = run["id"].as_str().expect("an id");
    let cost = document(home, &["cost", "show", id]);
    let own = cost["self"]["cost_micros"].as_u64().expect("an amount");
    let (_, journal) = server.get(&format!("/v1/runs/{id}/journal?limit=256")).await;
    let fields: Value =
        journal["entries"].as_array().expect("entries").iter().map(|e| e["fields"].clone()).collect();
    let attempts = micros(&cost["attempts"], "cost_micros");
    let entries = micros(&fields, "cost_micros") + micros(&fields, "charged_micros");
    assert_eq!([own, attempts, entries], [run["cost_micros"].as_u64().expect("an amount"); 3], "{cost:#}");
    assert_eq!(cost["self"]["model_calls"], run["model_calls"]);
    assert_eq!(json!(cost["attempts"].as_array().map(Vec::len)), run["model_calls"]);
    let tokens = (micros(&cost["attempts"], "input_tokens"), micros(&cost["attempts"], "output_tokens"));
    assert_eq!(json!({"input_tokens": tokens.0, "output_tokens": tokens.1}), run["usage"]);
    own
}

#[test]
fn attempts_rows_journals_and_sums_agree_to_the_millionth() {
    let was_slow = Arc::<AtomicBool>::default();
    let model = priced(Arc::clone(&was_slow));
    let home = Home::new();
    let price = "price: { input: 1234567, output: 7654321 } }";
    let alias = model.alias("priced").replace("stream: false }", &format!("stream: false, {price}"));
    assert!(alias.contains(price), "{alias}");
    let config = format!("version: 1\nmodels:\n  default: {{ kind: scripted }}\n{alias}");
    std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
    let server = home.serve();
    let made = home.run(&[
        "agent",
        "create",
        "priced",
        "--model",
        "priced",
        "--model-calls-max",
        "3",
        "--grant",
        "model",
        "--grant",
        "reply",
        "--grant",
        "time.now",
    ]);
    assert!(made.status.success(), "{}", stderr(&made));
    let slow = block_on(async {
        for text in ["hello", "again"] {
            let (_, answer) = server.event(&json!({"text": text, "agent": "priced", "wait": true})).await;
            assert_eq!(answer["status"], "completed", "{answer}");
        }
        let (_, answer) = server.event(&json!({"text": "free", "wait": true})).await;
        assert_eq!(answer["cost_micros"], 0, "{answer}");
        let (_, answer) = server.event(&json!({"text": "loop", "agent": "priced", "wait": true})).await;
        assert_eq!(answer["status"], "yielded", "{answer}");
        let (yielded, session) =
            (answer["run"].as_str().expect("a run"), answer["session"].as_str().expect("one"));
        let resumed = home.run(&["run", "resume", yielded]);
        assert!(resumed.status.success(), "{}", stderr(&resumed));
        server
            .journal_until(session, |entries| {
                let begins = entries.first().is_some_and(|first| first["fields"]["resumes"] == yielded);
                begins && count(entries, "run_yielded") == 1
            })
            .await;
        let (_, runs) = server.get(&format!("/v1/runs?session={session}")).await;
        let cost = document(&home, &["cost", "show", yielded]);
        let both = micros(&runs["items"], "cost_micros");
        assert_eq!(
            (cost["total"]["cost_micros"].as_u64(), &cost["resumed_by"]),
            (Some(both), &json!([runs["items"][0]["id"]]))
        );
        assert!(cost["self"]["cost_micros"].as_u64() < Some(both), "{cost:#}");
        let (_, accepted) = server.event(&json!({"text": "slow", "agent": "priced"})).await;
        let slow = accepted["session"].as_str().expect("a session").to_owned();
        // The second request is answered at once, so the first one must be on its way before the kill.
        server
            .journal_until(&slow, |entries| {
                count(entries, "model_called") == 1 && was_slow.load(Ordering::SeqCst)
            })
            .await;
        slow
    });
    server.kill();
    let server = home.serve();
    block_on(async {
        server.journal_until(&slow, |entries| count(entries, "run_completed") == 1).await;
        let (_, runs) = server.get("/v1/runs").await;
        let mut all = 0;
        for run in runs["items"].as_array().expect("runs") {
            all += checked(&home, &server, run).await;
        }
        let (_, runs_of_slow) = server.get(&format!("/v1/runs?session={slow}")).await;
        let cost =
            document(&home, &["cost", "show", runs_of_slow["items"][0]["id"].as_str().expect("an id")]);
        let lost = &cost["attempts"][0];
        assert_eq!((&lost["charge"], &lost["failure"]), (&json!("reservation"), &json!("outcome_unknown")));
        assert_eq!(lost["cost_micros"], lost["reserved_micros"]);
        assert!(lost["cost_micros"].as_u64() > Some(0), "{lost}");
        for by in ["agent", "model", "day"] {
            for since in [&[][..], &["--since", "24h"][..]] {
                let sum = document(&home, &[&["cost", "summary", "--by", by], since].concat());
                assert_eq!(sum["total"]["cost_micros"], all, "{sum:#}");
                let groups = sum["groups"].as_array().expect("groups");
                let groups: u64 =
                    groups.iter().map(|group| group["spent"]["cost_micros"].as_u64().unwrap_or(0)).sum();
                assert_eq!((groups, &sum["runs"]), (all, &json!(6)), "{sum:#}");
            }
        }
        let by_model = document(&home, &["cost", "summary", "--by", "model"]);
        assert_eq!(
            (&by_model["groups"][0]["key"], &by_model["groups"][0]["runs"]),
            (&json!("priced"), &json!(5))
        );
        let by_agent = document(&home, &["cost", "summary", "--agent", "priced"]);
        assert_eq!((&by_agent["groups"][0]["name"], &by_agent["runs"]), (&json!("priced"), &json!(5)));
        let later = document(&home, &["cost", "summary", "--since", "2999-01-01T00:00:00Z"]);
        assert_eq!((&later["runs"], &later["total"]["cost_micros"]), (&json!(0), &json!(0)));
    });
}

/// A server's text for Prometheus.
async fn metrics(server: &Server) -> String {
    let asked = reqwest::Client::new().get(format!("{}/metrics", server.url)).bearer_auth(&server.token);
    asked.send().await.expect("an answer").text().await.expect("a text")
}

/// The records of a turn that a stand-in answered and that no caller waited for.
struct StoodIn {
    entries: Vec<Value>,
    /// The summary of cost by model.
    summary: Value,
    metrics: String,
}

impl StoodIn {
    fn play() -> Self {
        let model = Model::start(|_, _| Say::Text("done".to_owned()));
        let home = Home::new();
        let price = "price: { input: 1000000, output: 1000000 }";
        let spare = model.alias("spare").replace("stream: false }", &format!("stream: false, {price} }}"));
        let down =
            "  down: { kind: openai, base_url: \"http://127.0.0.1:1/v1\", model: down, fallback: [spare] }\n";
        let config = format!("version: 1\nmodels:\n  default: {{ kind: scripted }}\n{down}{spare}");
        std::fs::write(home.path().join("dromia.yaml"), config).expect("the configuration can be written");
        let server = home.serve();
        let made = ["agent", "create", "clerk", "--model", "down", "--grant", "model", "--grant", "reply"];
        let made = home.run(&made);
        assert!(made.status.success(), "{}", stderr(&made));
        block_on(async {
            let (_, accepted) = server.event(&json!({"text": "hello", "agent": "clerk"})).await;
            let session = accepted["session"].as_str().expect("a session");
            let entries = server.journal_until(session, |entries| count(entries, "run_completed") == 1).await;
            let summary = document(&home, &["cost", "summary", "--by", "model"]);
            Self { entries, summary, metrics: metrics(&server).await }
        })
    }

    fn called(&self) -> impl Iterator<Item = &Value> {
        self.entries.iter().filter(|entry| entry["kind"] == "model_called").map(|entry| &entry["fields"])
    }
}

/// Compares sums by model with what the stand-in and the model that was asked for cost.
fn check_charges(groups: &[(Value, Value)]) -> Result<(), String> {
    let expected = [(json!("spare"), json!(8)), (json!("down"), json!(0))];
    if groups == expected { Ok(()) } else { Err(format!("{groups:?}")) }
}

#[test]
fn a_fallbacks_answer_is_charged_to_the_fallback_model() {
    let played = StoodIn::play();
    let judged: Vec<_> =
        played.called().map(|called| (called["model"].clone(), called["judged"]["rule"].clone())).collect();
    let asked = (json!("down"), json!("grant model"));
    assert_eq!(judged, [asked.clone(), asked], "{:#?}", played.entries);
    let spent = |group: &Value| (group["key"].clone(), group["spent"]["cost_micros"].clone());
    let groups: Vec<_> = played.summary["groups"].as_array().expect("groups").iter().map(spent).collect();
    assert_eq!(check_charges(&groups), Ok(()), "{:#}", played.summary);
    for line in [
        "dromia_answered_tokens_total{direction=\"input\"} 3\n",
        "dromia_answered_tokens_total{direction=\"output\"} 5\n",
    ] {
        assert!(played.metrics.contains(line), "{line} is not in\n{}", played.metrics);
    }
}

/// Planted fault: the model that was asked for is charged, as it once was.
#[test]
fn a_charge_to_the_requested_model_is_caught() {
    let played = StoodIn::play();
    let cost = |entry: &Value| entry["fields"]["cost_micros"].as_u64().unwrap_or_default();
    let replied = played.entries.iter().filter(|entry| entry["kind"] == "model_replied");
    let spent: u64 = replied.map(cost).sum();
    let asked = played.called().next().expect("it was asked")["model"].clone();
    let found = check_charges(&[(asked, json!(spent))]).expect_err("nothing notices it");
    assert!(found.contains("down") && found.contains('8'), "{found}");
}

#[test]
fn a_refused_model_request_keeps_the_rule_that_refused_it() {
    let home = Home::new();
    let server = home.serve();
    let made = home.run(&["agent", "create", "mute", "--grant", "reply"]);
    assert!(made.status.success(), "{}", stderr(&made));
    block_on(async {
        let (_, accepted) = server.event(&json!({"text": "hello", "agent": "mute"})).await;
        let session = accepted["session"].as_str().expect("a session");
        let entries = server.journal_until(session, |entries| count(entries, "run_failed") == 1).await;
        let fields = |kind: &str| {
            let found = entries.iter().find(|entry| entry["kind"] == kind);
            found.map(|entry| entry["fields"]["judged"].clone()).expect("it is there")
        };
        assert_eq!(fields("model_called"), Value::Null, "nothing let it out");
        assert_eq!(fields("model_failed")["rule"], "default deny");
    });
}
