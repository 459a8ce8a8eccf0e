//! Rules by which another model answers than the one that an agent names, through the real binary.

use std::fs;

use serde_json::{Value, json};

use crate::approvals::document;
use crate::home::{Home, block_on, count, stderr};
use crate::minds::{MindHome, session_in, text_of};

/// A home whose default model leaves workers and what is untrusted to others.
fn routed_home(routes: &str) -> Home {
    let home = Home::new();
    let path = home.path().join("dromia.yaml");
    let yaml = fs::read_to_string(&path).expect("a configuration");
    let default = "  default: { kind: scripted }";
    assert!(yaml.contains(default), "{yaml}");
    let models = format!(
        "  small: {{ kind: scripted }}\n  careful: {{ kind: scripted }}\n  default: {{ kind: scripted, routes: [{routes}] }}"
    );
    fs::write(&path, yaml.replace(default, &models)).expect("it can be written");
    home
}

const ROUTES: &str = "{ role: coder, model: careful }, { kind: worker, model: small }, { untrusted: true, model: careful }, { input_bytes_min: 5000, model: small }, \
                      { platform: webhook, model: careful }, { pictures: true, model: careful }, { kind: compaction, model: small }";

/// The aliases that the model calls of a run asked.
fn asked_models(mind: &MindHome, run: &Value) -> Vec<String> {
    let entries = mind.journal(run);
    let called = entries.iter().filter(|entry| entry["kind"] == "model_called");
    called.map(|entry| text_of(&entry["fields"]["model"])).collect()
}

/// What is wrong with the models that a run asked.
fn wrong_models(asked: &[String], expected: &str) -> Option<String> {
    (asked.is_empty() || asked.iter().any(|alias| alias != expected)).then(|| format!("{asked:?}"))
}

#[test]
fn a_run_that_changes_its_model_is_caught() {
    let asked = |aliases: &[&str]| aliases.iter().map(|&alias| alias.to_owned()).collect::<Vec<_>>();
    assert_eq!(wrong_models(&asked(&["small", "small"]), "small"), None);
    for aliases in [&["small", "default"][..], &["default"], &[]] {
        assert!(wrong_models(&asked(aliases), "small").is_some(), "{aliases:?}");
    }
}

#[test]
fn a_rule_chooses_by_kind_size_and_trust() {
    let mind = MindHome::begin_in(routed_home(ROUTES));
    let spawn = json!({"role": "coder", "task": "@tool time.now {}\n@say worked"});
    let branch = json!({"task": "@say thought"});
    let text = format!("@tool worker.spawn {spawn}\n@tool branch {branch}\n@say on it");
    let (session, _) = mind.send(None, &text);
    let runs = mind.ended_runs_at_least(&session, 2);
    assert_eq!(wrong_models(&asked_models(&mind, &runs[0]), "default"), None);
    // Conclusions are untrusted, and so is the turn that takes them.
    assert_eq!(wrong_models(&asked_models(&mind, &runs[1]), "careful"), None);
    let results = mind.results(&runs[0]);
    let worker = mind.ended_runs(&session_in(&results[0].1), 1).remove(0);
    assert_eq!(wrong_models(&asked_models(&mind, &worker), "careful"), None);
    let branch = mind.ended_runs(&session_in(&results[1].1), 1).remove(0);
    assert_eq!(
        wrong_models(&asked_models(&mind, &branch), "default"),
        None,
        "a branch keeps its parent's model"
    );
    let (long, _) = mind.send(None, &format!("@say hi\n{}", "x".repeat(6_000)));
    let run = mind.ended_runs(&long, 1).remove(0);
    assert_eq!(wrong_models(&asked_models(&mind, &run), "small"), None);
    let cost = document(&mind.home, &["run", "show", &text_of(&run["id"])]);
    assert!(cost.to_string().contains("small"), "{cost}");
}

#[test]
fn a_run_keeps_its_model_over_a_takeover_and_an_edit() {
    let mind = MindHome::begin_in(routed_home(ROUTES));
    let slow = "@tool time.now {}\n@slow 3000\n@tool time.now {}\n@say worked";
    let (session, _) = mind.send(None, &format!("@tool worker.spawn {}\n@say on it", json!({"task": slow})));
    let first = mind.journal_of_first(&session);
    let worker = session_in(&first);
    block_on(mind.server.journal_until(&worker, |entries| count(entries, "tool_finished") >= 1));
    let MindHome { home, server } = mind;
    server.kill();
    let path = home.path().join("dromia.yaml");
    let yaml = fs::read_to_string(&path).expect("a configuration");
    fs::write(&path, yaml.replace("kind: worker, model: small", "kind: worker, model: careful"))
        .expect("written");
    let server = home.serve();
    let mind = MindHome { home, server };
    let run = mind.ended_runs(&worker, 1).remove(0);
    assert_eq!(run["status"], "completed", "{run}");
    assert_eq!(wrong_models(&asked_models(&mind, &run), "small"), None);
}

impl MindHome {
    /// The result of the first call of a session, once it is there.
    fn journal_of_first(&self, session: &str) -> String {
        let entries =
            block_on(self.server.journal_until(session, |entries| count(entries, "tool_finished") >= 1));
        let ended = entries.iter().find(|entry| entry["kind"] == "tool_finished").expect("a result");
        text_of(&ended["body"]["parts"][0]["text"])
    }
}

#[test]
fn a_route_is_shown_and_a_wrong_rule_refused() {
    let home = routed_home(ROUTES);
    let shown = |more: &[&str]| {
        let line = [&["model", "route", "show", "default"][..], more].concat();
        let row = document(&home, &line)["items"][0].clone();
        (row["rule"].clone(), text_of(&row["route"][0]["alias"]))
    };
    assert_eq!(shown(&[]), (Value::Null, "default".to_owned()));
    assert_eq!(shown(&["--kind", "turn"]), (Value::Null, "default".to_owned()));
    assert_eq!(shown(&["--role", "coder"]), (json!(1), "careful".to_owned()));
    assert_eq!(shown(&["--kind", "worker", "--role", "tester"]), (json!(2), "small".to_owned()));
    assert_eq!(shown(&["--kind", "worker", "--untrusted"]), (json!(2), "small".to_owned()));
    assert_eq!(shown(&["--platform", "webhook"]), (json!(5), "careful".to_owned()));
    assert_eq!(shown(&["--input-bytes", "5000"]), (json!(4), "small".to_owned()));
    assert_eq!(shown(&["--pictures"]), (json!(6), "careful".to_owned()));
    // Another model of the alias keeps its rules.
    document(&home, &["model", "set", "default=scripted,small"]);
    assert_eq!(shown(&["--kind", "compaction"]), (json!(7), "small".to_owned()));
    for (rule, told) in [
        ("{ model: small }", "models.default.routes.0: names no condition"),
        ("{ kind: worker, model: default }", "models.default.routes.0.model: a rule chooses another model"),
        ("{ kind: worker, model: smal }", "there is no model `smal`; did you mean `small`?"),
        ("{ kind: branch, model: small }", "models.default.routes.0.kind"),
    ] {
        let bad = routed_home(rule).run(&["config", "validate"]);
        let said = format!("{}{}", String::from_utf8_lossy(&bad.stdout), stderr(&bad));
        assert!(!bad.status.success() && said.contains(told), "{rule}: {said}");
    }
}
