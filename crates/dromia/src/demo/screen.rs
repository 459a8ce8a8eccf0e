//! What the demo prints, step by step, no wider than the terminal. Texts of others are wrapped by the line that they
//! are in.
//!
//! Nothing is judged here, and nothing is known of the server.

use dromia_cli::output::{shell_word, wrap_text};
use serde_json::Value;

use crate::schemas;

/// The indentation of what belongs to a step.
const INDENT: &str = "    ";
const INDENT_COLUMNS: u16 = 4;

/// The terminal on which the steps are printed.
#[derive(Debug, Clone, Copy)]
pub(super) struct DemoScreen {
    columns: Option<u16>,
}

impl DemoScreen {
    /// The terminal of this process, or whatever `COLUMNS` says; without both, lines are as long as they are.
    pub(super) fn of_process() -> Self {
        Self { columns: schemas::context_for_command("demo").columns }
    }

    /// Tells a line of its own.
    pub(super) fn print_line(self, text: &str) {
        anstream::println!("{}", self.wrap_to_screen(text, ""));
    }

    /// Begins a step.
    pub(super) fn print_step(self, number: u32, name: &str, fact: &str) {
        let bold = anstyle::Style::new().bold();
        let head = format!("{number} {name}");
        let text = self.wrap_to_screen(&format!("{head}  {fact}"), INDENT);
        match text.strip_prefix(&head) {
            Some(fact) => anstream::println!("{bold}{head}{bold:#}{fact}"),
            // The terminal is narrower than the head.
            None => anstream::println!("{text}"),
        }
    }

    /// Tells what belongs to a step.
    pub(super) fn print_detail(self, text: &str) {
        for line in self.indented_lines(text) {
            anstream::println!("{line}");
        }
    }

    fn indented_lines(self, text: &str) -> Vec<String> {
        let room = Self { columns: self.columns.map(|columns| columns.saturating_sub(INDENT_COLUMNS)) };
        let lines = text.lines().map(|line| room.wrap_to_screen(line, ""));
        lines
            .flat_map(|line| line.lines().map(|piece| format!("{INDENT}{piece}")).collect::<Vec<_>>())
            .collect()
    }

    fn wrap_to_screen(self, text: &str, further: &str) -> String {
        self.columns.map_or_else(|| text.to_owned(), |columns| wrap_text(text, columns.into(), further))
    }
}

/// Writes every call of a journal in a line of its own: its tool, how it ended, and the first sentence of the result
/// that the agent saw.
pub(super) fn call_lines(entries: &[Value]) -> Vec<String> {
    let mut told = Vec::new();
    for entry in entries {
        if !matches!(entry["kind"].as_str(), Some("tool_finished" | "tool_refused")) {
            continue;
        }
        let word = |entry: &Value, name: &str| entry["fields"][name].as_str().unwrap_or_default().to_owned();
        let call = word(entry, "call");
        let started = entries
            .iter()
            .rfind(|entry| entry["kind"] == "tool_started" && entry["fields"]["call"] == call.as_str());
        // A call that was refused began nowhere, and says itself which tool it names.
        let tool = match started {
            Some(started) => format!("{} ({})", word(started, "tool"), word(started, "effect")),
            None => word(entry, "tool"),
        };
        let said = entry["body"]["parts"][0]["text"].as_str().unwrap_or_default();
        told.push(format!("{call} {tool} -> {}: {}", word(entry, "status"), first_sentence(said)));
    }
    told
}

/// This program as it was called, for a command that a person copies.
pub(super) fn program_name() -> String {
    let called = std::env::args_os().next().filter(|called| !called.is_empty());
    let called = called.map_or_else(|| "dromia".to_owned(), |called| called.to_string_lossy().into_owned());
    shell_word(&called).into_owned()
}

fn first_sentence(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.split_once(". ").map_or(line, |(first, _)| first).trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_demo_shows_each_call_once_with_its_tool() {
        let entries = [
            json!({"kind": "tool_started", "fields": {"call": "call_1_0", "tool": "file.append", "effect": "unkeyed"}}),
            json!({"kind": "tool_finished", "fields": {"call": "call_1_0", "status": "unknown"},
                "body": {"parts": [{"text": "The outcome is unknown: it began. Look before you go on."}]}}),
            json!({"kind": "tool_started", "fields": {"call": "call_2_0", "tool": "file.read", "effect": "pure"}}),
            json!({"kind": "tool_finished", "fields": {"call": "call_2_0", "status": "error"},
                "body": {"parts": [{"text": "refused: there is no such file"}]}}),
            json!({"kind": "tool_refused", "fields": {"call": "call_3_0", "tool": "file.append", "status": "denied"},
                "body": {"parts": [{"text": "It began earlier. It is not repeated."}]}}),
        ];
        assert_eq!(
            call_lines(&entries),
            [
                "call_1_0 file.append (unkeyed) -> unknown: The outcome is unknown: it began",
                "call_2_0 file.read (pure) -> error: refused: there is no such file",
                "call_3_0 file.append -> denied: It began earlier",
            ]
        );
    }

    #[test]
    fn demo_text_wraps_between_words_indented_below_its_step() {
        let screen = DemoScreen { columns: Some(24) };
        assert_eq!(
            screen.indented_lines("the same turn finished in time"),
            ["    the same turn", "    finished in time"]
        );
        // A command is to be copied, so it stays whole.
        let command = "`dromia run show run_0123456789`";
        assert_eq!(screen.indented_lines(command), [format!("    {command}")]);
        assert_eq!(DemoScreen { columns: None }.wrap_to_screen("1 start  a b", ""), "1 start  a b");
    }
}
