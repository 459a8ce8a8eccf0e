//! Agents made from templates, and the roles of workers, as a person uses them.

use std::fs;

use serde_json::{Value, json};

use crate::approvals::document;
use crate::home::{Home, stderr};
use crate::minds::{MindHome, items, text_of};

/// Which words are missing from the system text of an agent, and which are there that should not be.
fn wrong_text(config: &Value, wanted: &[&str], unwanted: &[&str]) -> Vec<String> {
    let text = text_of(&config["instructions"]);
    let missing = wanted.iter().filter(|words| !text.contains(**words)).map(|words| format!("no {words}"));
    let extra = unwanted.iter().filter(|words| text.contains(**words)).map(|words| format!("has {words}"));
    missing.chain(extra).collect()
}

#[test]
fn a_variable_that_is_not_set_is_caught() {
    let config = json!({"instructions": "Speak in a tone that is {{ tone }}."});
    assert_eq!(wrong_text(&config, &["tone that is dry"], &["{{"]), ["no tone that is dry", "has {{"]);
}

#[test]
fn an_agent_is_made_from_a_template_and_answers() {
    let mind = MindHome::begin();
    let line = ["agent", "create", "scout", "--template", "research", "--var", "tone=dry", "--grant", "exec"];
    let made = document(&mind.home, &line);
    let config = &made["config"];
    let expected = ["tone that is dry", "A fact needs 2 independent sources"];
    assert_eq!(wrong_text(config, &expected, &["{{", "friendly"]), Vec::<String>::new());
    assert_eq!((&made["labels"], &config["mind"]), (&json!({"template": "research"}), &json!("branching")));
    let grants: Vec<_> = items(&config["grants"]).iter().map(text_of).collect();
    assert!(
        grants.contains(&"net.read:*".to_owned()) && grants.last() == Some(&"exec".to_owned()),
        "{grants:?}"
    );
    let answered = document(&mind.home, &["ask", "--agent", "scout", "@say found"]);
    assert_eq!(answered["reply"], "found", "{answered}");
    // The text of a template is the agent's own from then on, and a document takes its place.
    mind.write("SOUL.md", "You are kind.");
    let shown = mind.home.run(&["agent", "create", "dev", "--template", "code", "--var", "check=make test"]);
    let said = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && said.contains("`make test` succeeds"), "{said}");
    assert!(stderr(&shown).contains("try: dromia ask --agent dev"), "{}", stderr(&shown));
}

#[test]
fn a_template_is_changed_as_a_file_before_its_agent_is_made() {
    let mind = MindHome::begin();
    let yaml = mind.home.run(&["template", "show", "base", "--var", "tone=dry", "--yaml"]);
    let yaml = String::from_utf8_lossy(&yaml.stdout).replace("name: base", "name: butler");
    let path = mind.home.path().join("butler.yaml");
    fs::write(&path, yaml).expect("a file");
    document(&mind.home, &["agent", "apply", "-f", &path.display().to_string()]);
    let made = document(&mind.home, &["agent", "show", "butler"]);
    assert_eq!(wrong_text(&made["config"], &["tone that is dry"], &["{{"]), Vec::<String>::new());
    assert_eq!(made["labels"], json!({"template": "base"}));
}

#[test]
fn unknown_templates_variables_and_roles_say_what_there_is() {
    let home = Home::new();
    let _server = home.serve();
    for (line, words) in [
        (&["agent", "create", "a", "--template", "reserch"][..], "did you mean research?"),
        (&["template", "show", "trader"], "dromia template list"),
        (&["role", "show", "codr"], "did you mean coder?"),
        (
            &["agent", "create", "a", "--template", "base", "--var", "tune=dry"],
            "the template base has no variable `tune`; it has language, tone",
        ),
        (&["agent", "create", "a", "--template", "base", "--var", "tone"], "expected KEY=VALUE"),
        (&["agent", "create", "a", "--var", "tone=dry"], "--template"),
        (&["role", "list", "--agent", "nobody"], "there is no agent"),
    ] {
        let refused = home.run(line);
        let said = stderr(&refused);
        assert!(!refused.status.success() && said.contains(words), "{line:?}: {said}");
    }
    assert!(document(&home, &["agent", "list"]).to_string().matches("\"handle\"").count() == 1);
}

#[test]
fn an_agent_s_own_roles_are_listed_and_shown_for_it_alone() {
    let mind = MindHome::begin();
    mind.write("roles/coder.md", "Type fast.");
    mind.write("roles/poet.md", "Rhyme.");
    let listed = |line: &[&str]| {
        let list = document(&mind.home, line);
        items(&list["items"])
            .iter()
            .map(|role| (text_of(&role["name"]), text_of(&role["source"])))
            .collect::<Vec<_>>()
    };
    let own = listed(&["role", "list", "--agent", "mind"]);
    assert!(own.contains(&("poet".to_owned(), "agent".to_owned())), "{own:?}");
    assert!(own.contains(&("coder".to_owned(), "agent".to_owned())) && own.len() == 7, "{own:?}");
    let built_in = listed(&["role", "list"]);
    assert!(built_in.iter().all(|(_, source)| source == "built_in") && built_in.len() == 6, "{built_in:?}");
    let shown = mind.home.run(&["role", "show", "coder", "--agent", "mind"]);
    assert_eq!(String::from_utf8_lossy(&shown.stdout), "Type fast.\n");
    assert!(!mind.home.run(&["role", "show", "poet"]).status.success(), "another agent's role is found");
}
