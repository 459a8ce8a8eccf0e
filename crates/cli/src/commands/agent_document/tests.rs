//! Files of agents as people write them, and the round trip of what is written here.

use std::collections::BTreeMap;

use dromia_api::agent::AgentResource;
use dromia_api::{AgentConfig, AgentId, AgentState};

use super::*;

/// What a file is read as: the names of its agents, or a part of the error.
type Expected = Result<&'static [&'static str], &'static str>;

/// Shapes of `agents.yaml`.
const SHAPES: [(&str, Expected); 34] = [
    ("", Ok(&[])),
    ("# nothing yet\n", Ok(&[])),
    ("---\n", Ok(&[])),
    ("name: ops\nmodel: default\n", Ok(&["ops"])),
    ("---\nname: ops\nmodel: default\n...\n", Ok(&["ops"])),
    ("name: ops\n---\nname: dev\n", Ok(&["ops", "dev"])),
    ("name: ops\n---\n---\nname: dev\n", Ok(&["ops", "dev"])),
    ("- name: ops\n- name: dev\n", Ok(&["ops", "dev"])),
    ("agents:\n  - name: ops\n  - name: dev\n", Ok(&["ops", "dev"])),
    ("agents: []\n", Ok(&[])),
    ("agents:\n", Ok(&[])),
    ("- name: ops\n---\nname: dev\n", Ok(&["ops", "dev"])),
    ("{\"name\": \"ops\", \"grants\": [\"model\"]}", Ok(&["ops"])),
    ("name: ops\ninstructions: |\n  You run the servers.\n\n  Be careful: ask first.\n", Ok(&["ops"])),
    ("name: ops\ninstructions: >\n  one\n  line\n", Ok(&["ops"])),
    ("name: ops\ngrants: [model, reply, 'file.*', net.read:example.com]\n", Ok(&["ops"])),
    ("name: ops\ngrants:\n- model\n- reply\n", Ok(&["ops"])),
    ("name: ops\ngrants:\n", Ok(&["ops"])),
    ("name: ops\nlabels:\n  team: infra\n  old: null\n", Ok(&["ops"])),
    ("base: &b\n  model: fast\nname: ops\n", Err("there is no key \"base\"")),
    ("name: ops\nmodel_calls_max: 20\n", Ok(&["ops"])),
    ("name: ops\ndescription: \"runs the servers\" # a note\n", Ok(&["ops"])),
    ("name: ops\nmodle: fast\n", Err("agent 1: there is no key \"modle\"; did you mean \"model\"?")),
    (
        "name: ops\n---\nname: dev\ngrant: [model]\n",
        Err("agent 2: there is no key \"grant\"; did you mean \"grants\"?"),
    ),
    ("name: ops\nmodel: [a, b]\n", Err("model: expected a text, found a list")),
    ("name: ops\nmodel: 4\n", Err("model: expected a text, found a number; put a text in quotes")),
    ("name: ops\nmodel: null\n", Err("model: expected a text, found nothing")),
    ("name: ops\ngrants: model\n", Err("grants: expected a list of texts, found a text")),
    ("name: ops\nmodel_calls_max: many\n", Err("model_calls_max: expected a whole number, found a text")),
    ("name: ''\n", Err("name: a handle has 1 to 64")),
    ("name: Ops\n", Err("name: a handle has 1 to 64")),
    ("name: 7\n", Err("name: expected a text, found a number")),
    ("just a text\n", Err("agent 1: expected keys with values")),
    ("name: ops\n  model: fast\n", Err("line 2")),
];

#[test]
fn a_file_of_agents_is_read_or_refused_by_its_place() {
    for (text, expected) in SHAPES {
        match (parse_documents(text), expected) {
            (Ok(read), Ok(names)) => {
                let read: Vec<_> = read.iter().filter_map(|agent| agent.name.as_deref()).collect();
                assert_eq!(read, names, "{text}");
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{text}\n{error}"),
            (read, _) => panic!("{text}\n{read:?}"),
        }
    }
}

fn agent_with(instructions: &str, grants: &[&str], label: &str) -> AgentResource {
    AgentResource {
        id: AgentId::from_bytes([1; 16]),
        handle: "ops".parse().expect("a handle"),
        display_name: instructions.lines().next().filter(|line| !line.is_empty()).unwrap_or("Ops").to_owned(),
        labels: BTreeMap::from([("team".to_owned(), label.to_owned()), ("1".to_owned(), "no".to_owned())]),
        created_at: "2026-11-22T12:00:00Z".parse().expect("a time"),
        state: AgentState::Running,
        revision: 3,
        config: Some(AgentConfig {
            model: "default".to_owned(),
            instructions: instructions.to_owned(),
            grants: grants.iter().map(|&grant| grant.to_owned()).collect(),
            model_calls_max: Some(9),
            description: instructions.to_owned(),
            ..AgentConfig::default()
        }),
    }
}

#[test]
fn a_written_agent_is_read_back_as_it_was() {
    let texts = [
        "",
        "one line",
        "two\nlines",
        "two lines\nand an end\n",
        "ends twice\n\n",
        "\nbegins empty\n",
        "  begins with spaces\n  more\n",
        "blank\n\n\nlines\n",
        "blank with spaces\n  \nend",
        "trailing \nspace",
        "# no comment\n- no list\nkey: value\n",
        "--- \n---\n...\n",
        "tabs\tinside\n\tand before\n",
        "quotes \" and ' and \\ back",
        "true",
        "null",
        "12",
        "0x1f",
        "1e5",
        "~",
        "- x",
        "a: b",
        "@x `y` %z &a *b !c |d >e",
        "ünïcödé 🎉\nzwei\n",
        "bell \u{7} and \u{1b}[31m",
        "zero\u{200b}width\nand \u{202e}turned\n",
        "carriage\r\nreturn\r\n",
        "\u{feff}mark\n",
        "line\u{2028}separator\nx",
        "delete\u{7f}\nx\n",
    ];
    for text in texts {
        let agent = agent_with(text, &["model", "file.*", "net:example.com:8080", "secret:a"], text);
        let yaml = AgentDocument::of_agent(&agent).to_yaml();
        let mut read = parse_documents(&yaml).unwrap_or_else(|error| panic!("{text:?}\n{yaml}\n{error}"));
        let read = read.pop().expect("an agent");
        assert_eq!(read.name.as_deref(), Some("ops"));
        let mut again = read.into_whole(&agent).applied_to(&agent);
        if text.is_empty() {
            again.config.as_mut().expect("a configuration").description.clear();
        }
        assert_eq!(again, agent, "{text:?}\n{yaml}");
    }
}

#[test]
fn a_deleted_line_takes_its_value_away() {
    let agent = agent_with("Be kind.", &["model"], "x");
    let mut read = parse_documents("name: ops\nmodel: default\n").expect("it is read");
    let after = read.pop().expect("an agent").into_whole(&agent).applied_to(&agent);
    let config = after.config.expect("a configuration");
    assert_eq!((config.instructions.as_str(), config.grants.len(), config.model_calls_max), ("", 0, None));
    assert!(after.labels.is_empty());
}

#[test]
fn a_diff_shows_changed_lines_and_those_around_them() {
    let before = "a\nb\nc\nd\ne\nf\ng\nh\n";
    let after = "a\nb\nc\nd\nE\nf\ng\nh\ni\n";
    let lines = line_diff(before, after);
    assert_eq!(lines, [" …", " c", " d", "-e", "+E", " f", " g", " h", "+i"]);
    assert!(line_diff(before, before).is_empty());
    assert_eq!(line_diff("", "a\n"), ["+a"]);
    let long = "x\n".repeat(3_000);
    assert_eq!(line_diff(&long, &"y\n".repeat(3_000)).len(), 6_000);
}
