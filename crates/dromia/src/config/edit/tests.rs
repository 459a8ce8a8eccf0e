//! Edits of a configuration file: what is added or removed, and that nothing else moves.

use std::path::Path;

use super::*;
use crate::config::parse_config;

const TEXT: &str = "\
# the home of ada
version: 1   # the form

# where models are
providers:   # two of them
  # the big one
  big:
    kind: openai   # and dear
    # a key of its own
    key: \"env:BIG\"

  # the small one
  small: { kind: scripted }
# what agents name
models:
  default: { kind: scripted }   # built in

engine:
  active_max: 3
";

fn entry(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn a_new_entry_is_appended_and_the_rest_stays_unchanged() {
    let text =
        put_entry(TEXT, "providers", "local", &entry(&["local:", "  kind: openai"])).expect("it can be done");
    insta::assert_snapshot!(text, @r#"
    # the home of ada
    version: 1   # the form

    # where models are
    providers:   # two of them
      # the big one
      big:
        kind: openai   # and dear
        # a key of its own
        key: "env:BIG"

      # the small one
      small: { kind: scripted }
      local:
        kind: openai
    # what agents name
    models:
      default: { kind: scripted }   # built in

    engine:
      active_max: 3
    "#);
}

#[test]
fn a_replaced_entry_keeps_its_place_and_comment_lines() {
    let lines = entry(&["big:", "  kind: anthropic"]);
    let text = put_entry(TEXT, "providers", "big", &lines).expect("it can be done");
    insta::assert_snapshot!(text, @r"
    # the home of ada
    version: 1   # the form

    # where models are
    providers:   # two of them
      # the big one
      big:
        # a key of its own
        kind: anthropic

      # the small one
      small: { kind: scripted }
    # what agents name
    models:
      default: { kind: scripted }   # built in

    engine:
      active_max: 3
    ");
}

#[test]
fn removed_entries_leave_the_others_and_finally_an_empty_block() {
    let once = remove_entry(TEXT, "providers", "big").expect("it can be done");
    assert!(!once.contains("env:BIG") && once.contains("small: { kind: scripted }"), "{once}");
    let twice = remove_entry(&once, "providers", "small").expect("it can be done");
    assert!(twice.contains("providers: {}  # two of them\n"), "{twice}");
    let written = parse_config(Path::new("dromia.yaml"), &twice).expect("it can be read");
    assert!(written.providers.is_empty() && written.engine.active_max == 3);
    let again =
        put_entry(&twice, "providers", "new", &entry(&["new:", "  kind: scripted"])).expect("it can be done");
    let written = parse_config(Path::new("dromia.yaml"), &again).expect("it can be read");
    assert_eq!(written.providers.keys().collect::<Vec<_>>(), ["new"], "{again}");
    assert_eq!(remove_entry(TEXT, "providers", "nobody").expect("nothing to do"), TEXT);
}

#[test]
fn a_missing_block_is_added_before_models_or_appended() {
    let lines = entry(&["a:", "  kind: scripted"]);
    let text =
        put_entry("version: 1\n# aliases\nmodels:\n  x: { kind: scripted }\n", "providers", "a", &lines);
    assert_eq!(
        text.expect("it can be done"),
        "version: 1\nproviders:\n  a:\n    kind: scripted\n# aliases\nmodels:\n  x: { kind: scripted }\n"
    );
    assert_eq!(
        put_entry("version: 1", "models", "a", &lines).expect("it can be done"),
        "version: 1\nmodels:\n  a:\n    kind: scripted\n"
    );
    assert_eq!(
        put_entry("", "models", "a", &lines).expect("it can be done"),
        "models:\n  a:\n    kind: scripted\n"
    );
}

#[test]
fn an_edit_keeps_the_files_indentation_and_line_endings() {
    let lines = entry(&["a:", "  kind: scripted"]);
    let text =
        put_entry("models:\r\n    x: { kind: scripted }\r\n", "models", "a", &lines).expect("it can be done");
    assert_eq!(text, "models:\r\n    x: { kind: scripted }\r\n    a:\r\n      kind: scripted\r\n");
}

#[test]
fn an_unsafe_edit_is_refused_with_its_line() {
    let lines = entry(&["a:", "  kind: scripted"]);
    for (text, line) in [
        ("{ version: 1 }", 1),
        ("# one\n---\n{\"models\": {}}", 3),
        ("version: 1\nmodels: { x: { kind: scripted } }\n", 2),
        ("version: 1\nmodels: &all\n  x: { kind: scripted }\n", 2),
        ("models:\n  x: {\n    kind: scripted\n  }\n", 4),
        ("models:\n  ? x\n  : { kind: scripted }\n", 2),
        ("models:\n    x: { kind: scripted }\n  y: 1\n", 3),
    ] {
        let refused = put_entry(text, "models", "a", &lines).expect_err(text);
        assert_eq!(refused.line, line, "{text}: {refused}");
    }
}

#[test]
fn keys_are_read_as_yaml_reads_them() {
    for (line, name) in [
        ("  a: 1", Some("a")),
        ("  a:", Some("a")),
        ("  \"a b\": 1", Some("a b")),
        ("  'gpt-4.1' : x", Some("gpt-4.1")),
        ("  qwen3:8b: { kind: scripted }", Some("qwen3:8b")),
        ("  - a: 1", None),
        ("  a", None),
        ("  a:b", None),
        ("  \"a\\\"b\": 1", None),
    ] {
        assert_eq!(line_key(line), name, "{line}");
    }
}

#[test]
fn a_name_is_quoted_where_yaml_would_read_something_else() {
    for (name, text) in
        [("local", "local"), ("true", "\"true\""), ("gpt-4.1", "\"gpt-4.1\""), ("7b", "\"7b\""), ("", "\"\"")]
    {
        assert_eq!(name_text(name), text);
    }
}
