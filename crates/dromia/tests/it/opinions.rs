//! Second opinions through the real binary: a turn reads somebody else's text and then pays, and a second model that saw
//! nothing of that text is asked about each payment before it begins.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::approvals::{document, id, until};
use crate::egress::create;
use crate::external::bank;
use crate::home::{Home, Server, block_on, count};
use crate::model::{Model, Say};
use crate::reloads::{read, until as until_config, write};

/// A home whose payments a second model is asked about, what the bank hears, and what the second model is shown.
struct OpinionFixture {
    home: Home,
    heard: Arc<Mutex<Vec<String>>>,
    shown: Arc<Mutex<Vec<String>>>,
}

impl OpinionFixture {
    /// `second` are more keys of the second opinion.
    fn new(second: &str) -> Self {
        let (home, (port, heard)) = (Home::new(), bank());
        let shown = Arc::<Mutex<Vec<String>>>::default();
        let book = Arc::clone(&shown);
        let model = Model::start(move |_, messages| {
            let text = messages.iter().map(Value::to_string).collect::<String>();
            let asked = messages.last().and_then(|message| message["content"].as_str()).unwrap_or_default();
            let shown: Value = serde_json::from_str(asked).unwrap_or_default();
            book.lock().expect("nobody panics with it").push(text);
            Say::Text(if shown["action"]["arguments"]["to"] == "bob" { "go" } else { "stop" }.to_owned())
        });
        let price = "price: { input: 1000000, output: 1000000 } }";
        let alias = model.alias("second").replace("stream: false }", &format!("stream: false, {price}"));
        assert!(alias.contains(price), "{alias}");
        let pays = "description: Pays., effect: keyed, sink: outside, roles: { to: destination }, \
                    arguments: { properties: { to: { type: string } }, required: [to] }";
        let file = format!(
            "version: 1\nmodels:\n  default: {{ kind: scripted }}\n{alias}approvals: {{ hold_ms: 60000 }}\n\
             agents: {{ clerk: {{ permissions: {{ allow: [bank.pay] }} }} }}\n\
             irreversible: {{ second_opinion: {{ model: second{second} }} }}\ntools:\n  external:\n    bank.pay: \
             {{ {pays}, url: 'http://127.0.0.1:{port}/pay' }}\n"
        );
        std::fs::write(home.path().join("dromia.yaml"), file).expect("the configuration can be written");
        Self { home, heard, shown }
    }

    /// What was paid, in order.
    fn paid(&self) -> Vec<String> {
        let body = |told: &String| told.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
        self.heard.lock().expect("nobody panics with it").iter().map(body).collect()
    }

    /// What the second model was shown, in order.
    fn shown(&self) -> Vec<String> {
        self.shown.lock().expect("nobody panics with it").clone()
    }
}

/// What the model is told to do: pay so many, one after the other.
fn payments(to: &[&str]) -> String {
    let lines: Vec<_> = to.iter().map(|to| format!("@tool bank.pay {}", json!({ "to": to }))).collect();
    lines.join("\n")
}

/// Lives through a turn that pays. Returns its run and its entries.
fn turn(server: &Server, to: &[&str]) -> (String, Vec<Value>) {
    block_on(async {
        let event = json!({"text": payments(to), "agent": "clerk", "wait": true});
        let (_, answer) = server.event(&event).await;
        let session = answer["session"].as_str().unwrap_or_else(|| panic!("no session: {answer}")).to_owned();
        let entries = server.journal_until(&session, |entries| count(entries, "run_completed") == 1).await;
        (answer["run"].as_str().expect("a run").to_owned(), entries)
    })
}

#[test]
fn a_second_opinion_counts_and_goes_without_a_restart() {
    let house = OpinionFixture::new(", samples: 3, agree: 2, objection: abort");
    let asked = read(&house.home);
    let lines = asked.split_inclusive('\n').filter(|line| !line.starts_with("irreversible:"));
    let unasked: String = lines.collect();
    write(&house.home, &unasked);
    let server = house.home.serve();
    create(&house.home, "clerk", &["bank.pay".to_owned()]);
    turn(&server, &["eve"]);
    assert_eq!((house.paid().len(), house.shown().len()), (1, 0), "no second model is asked");
    write(&house.home, &asked);
    block_on(until_config(&server, |found| found["revision"] == 2));
    turn(&server, &["eve"]);
    assert_eq!((house.paid().len(), house.shown().len()), (1, 3), "its objection stops the payment");
    write(&house.home, &unasked);
    block_on(until_config(&server, |found| found["revision"] == 3));
    turn(&server, &["eve"]);
    assert_eq!((house.paid().len(), house.shown().len()), (2, 3), "it is asked no more");
}

#[test]
fn an_objection_stops_a_payment_and_each_question_is_charged() {
    let fixture = OpinionFixture::new(", samples: 3, agree: 2, objection: abort");
    let server = fixture.home.serve();
    create(&fixture.home, "clerk", &["bank.pay".to_owned()]);
    let limit = ["budget", "set", "hourly", "--measure", "calls", "--period", "total", "--limit", "100"];
    document(&fixture.home, &limit);
    let (run, entries) = turn(&server, &["bob", "eve"]);
    assert_eq!(fixture.paid(), [r#"{"to":"bob"}"#], "{entries:?}");

    let shown = fixture.shown();
    assert_eq!(shown.len(), 6, "three answers to each question");
    for text in &shown {
        // The bank's answer is somebody else's text; what the model itself said before is no business of the second one.
        assert!(!text.contains("paid") && !text.contains("tool_calls"), "{text}");
        assert!(text.contains("second opinion") && text.contains("bank.pay"), "{text}");
    }

    let explain = |call: &str| document(&fixture.home, &["policy", "explain", &run, call]);
    let (bob, eve) = (explain("call_1_0"), explain("call_2_0"));
    assert_eq!((&bob["allowed"], &bob["opinion"]["go"]), (&json!(true), &json!(3)), "{bob}");
    assert_eq!((&eve["allowed"], &eve["rule"]), (&json!(false), &json!("second-opinion")), "{eve}");
    assert_eq!((&eve["opinion"]["stop"], &eve["opinion"]["agree"]), (&json!(3), &json!(2)), "{eve}");

    let cost = document(&fixture.home, &["cost", "show", &run]);
    let attempts = cost["attempts"].as_array().expect("attempts");
    let second: Vec<_> = attempts.iter().filter(|attempt| attempt["model"] == "second").collect();
    let calls: Vec<_> = second.iter().map(|attempt| attempt["opinion_of"].clone()).collect();
    assert_eq!(calls, [json!("call_1_0"), json!("call_2_0")], "{cost}");
    let micros = |attempt: &&Value| attempt["cost_micros"].as_u64().unwrap_or_default();
    let sum: u64 = second.iter().map(micros).sum();
    assert!(sum > 0 && cost["self"]["cost_micros"] == sum, "the scripted model costs nothing: {cost}");
    assert_eq!(cost["self"]["model_calls"], 9, "three steps and six answers: {cost}");

    let budgets = document(&fixture.home, &["budget", "list"]);
    assert_eq!(
        budgets["items"][0]["used"], 11,
        "nine of models, one payment, one that was refused: {budgets}"
    );
    drop(server);
}

#[test]
fn an_exhausted_budget_stops_the_second_opinion_and_payment() {
    let fixture = OpinionFixture::new(", samples: 3, objection: abort");
    let server = fixture.home.serve();
    create(&fixture.home, "clerk", &["bank.pay".to_owned()]);
    let limit = ["budget", "set", "hourly", "--measure", "calls", "--period", "total", "--limit", "3"];
    document(&fixture.home, &limit);
    let spawned = document(&fixture.home, &["agent", "spawn", "clerk", "--task", &payments(&["bob"])]);
    let session = spawned["session"].as_str().expect("a session").to_owned();
    let entries = block_on(server.journal_until(&session, |entries| count(entries, "run_yielded") == 1));
    assert_eq!((fixture.paid().len(), fixture.shown().len()), (0, 0), "{entries:?}");
    assert_eq!((count(&entries, "opinion_called"), count(&entries, "tool_refused")), (0, 1), "{entries:?}");
    drop(server);
}

#[test]
fn a_person_sees_the_second_opinion_and_may_overrule_it() {
    let fixture = OpinionFixture::new(", samples: 1");
    let server = fixture.home.serve();
    create(&fixture.home, "clerk", &["bank.pay".to_owned()]);
    let spawned = document(&fixture.home, &["agent", "spawn", "clerk", "--task", &payments(&["eve"])]);
    let session = spawned["session"].as_str().expect("a session").to_owned();
    let approval = until(&fixture.home, |approval| approval["session"] == session.as_str());
    assert_eq!((&approval["rule"], &approval["opinion"]["stop"]), (&json!("second-opinion"), &json!(1)));
    let card = fixture.home.run(&["approval", "show", id(&approval)]);
    let card = String::from_utf8_lossy(&card.stdout).into_owned();
    assert!(card.contains("second was asked 1 times: 0 go, 1 stop, 0 neither"), "{card}");
    assert_eq!(fixture.paid(), Vec::<String>::new());
    document(&fixture.home, &["approval", "approve", id(&approval)]);
    block_on(server.journal_until(&session, |entries| count(entries, "run_completed") == 1));
    assert_eq!((fixture.paid(), fixture.shown().len()), (vec![r#"{"to":"eve"}"#.to_owned()], 1));
    drop(server);
}
