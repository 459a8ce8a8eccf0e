//! Decides the next move of the scripted model from what was said and done. Pure: no clock, no randomness.
//!
//! An append whose outcome is unknown is looked into with one `file.read`; only if the text is certainly not
//! there it is asked for once more. Each unknown call is repaired at most once, so a script always ends.

use std::borrow::Cow;
use std::fmt::Write as _;

use dromia_contracts::content::CallStatus;

use super::directive::{ScriptDirective, ScriptStep, ScriptedCall, ScriptedFailure, parse_steps};

/// The conversation as the script sees it: the last input and the steps done since.
#[derive(Debug, Clone)]
pub struct ScriptInput<'a> {
    /// The text of the last input.
    pub input: Cow<'a, str>,
    /// The steps done since.
    pub done: Vec<Done<'a>>,
}

/// One step that is done: its calls with their results.
pub type Done<'a> = Vec<CallOutcome<'a>>;

/// One call and its result.
#[derive(Debug, Clone)]
pub struct CallOutcome<'a> {
    /// The tool's name.
    pub tool: Cow<'a, str>,
    /// The arguments.
    pub arguments: Cow<'a, str>,
    /// How the call ended.
    pub status: CallStatus,
    /// What the result says.
    pub text: Cow<'a, str>,
}

/// What the model does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptMove {
    /// Milliseconds it takes over it.
    pub slow_ms: u64,
    /// What it says, or how the attempt fails.
    pub text: Result<String, ScriptedFailure>,
    /// The calls it asks for; none ends the turn.
    pub calls: Vec<ScriptedCall>,
}

/// Characters of a question or a result that an answer repeats.
const QUOTE_CHARS: usize = 200;

/// Decides the next move.
pub fn next_move(script: &ScriptInput<'_>) -> ScriptMove {
    let steps = parse_steps(&script.input);
    let place = ScriptProgress::after_steps(&steps, &script.done);
    if let Some(repair) = place.repairs.first() {
        return ScriptMove { slow_ms: 0, text: Ok(String::new()), calls: vec![repair.next_call()] };
    }
    let step = steps.get(place.next);
    let slow_ms = step.map_or(0, |step| step.slow_ms);
    let ask = |calls: Vec<ScriptedCall>| ScriptMove { slow_ms, text: Ok(waiting_text(slow_ms)), calls };
    match step.map(|step| &step.directive) {
        Some(ScriptDirective::Tools(calls)) => ask(calls.clone()),
        Some(ScriptDirective::Loop(call)) => ask(vec![call.clone()]),
        Some(ScriptDirective::Fail(failing)) => {
            ScriptMove { slow_ms, text: Err(*failing), calls: Vec::new() }
        }
        Some(ScriptDirective::Say(text)) => {
            let said = std::iter::once(text.as_str()).chain(place.notes.iter().map(String::as_str));
            ScriptMove { slow_ms, text: Ok(said.collect::<Vec<_>>().join("\n")), calls: Vec::new() }
        }
        Some(ScriptDirective::Rest) | None => {
            let answer = if script.done.is_empty() {
                plain_answer(&script.input)
            } else {
                summary_text(&place, &script.done)
            };
            ScriptMove { slow_ms, text: Ok(waiting_text(slow_ms) + &answer), calls: Vec::new() }
        }
    }
}

/// The progress of the script after the steps that are done.
struct ScriptProgress {
    next: usize,
    repairs: Vec<AppendRepair>,
    notes: Vec<String>,
}

/// What is still to do about an append whose outcome is unknown.
struct AppendRepair {
    arguments: String,
    path: String,
    line: String,
    looked: bool,
}

impl AppendRepair {
    fn from_outcome(outcome: &CallOutcome<'_>) -> Option<Self> {
        if outcome.status != CallStatus::Unknown || outcome.tool != APPEND {
            return None;
        }
        let arguments: serde_json::Value = serde_json::from_str(&outcome.arguments).ok()?;
        let text = |name: &str| arguments.get(name)?.as_str().map(str::to_owned);
        let line = text("text").or_else(|| text("content"))?;
        Some(Self { path: text("path")?, line, arguments: outcome.arguments.to_string(), looked: false })
    }

    fn next_call(&self) -> ScriptedCall {
        if self.looked {
            return ScriptedCall { tool: APPEND.to_owned(), arguments: self.arguments.clone() };
        }
        ScriptedCall {
            tool: READ.to_owned(),
            arguments: serde_json::json!({ "path": self.path }).to_string(),
        }
    }
}

const APPEND: &str = "file.append";
const READ: &str = "file.read";

impl ScriptProgress {
    fn after_steps(steps: &[ScriptStep], done: &[Done<'_>]) -> Self {
        let mut place = Self { next: 0, repairs: Vec::new(), notes: Vec::new() };
        for unit in done {
            if !place.repairs.is_empty() {
                place.apply_repair(unit);
                continue;
            }
            place.repairs = unit.iter().filter_map(AppendRepair::from_outcome).collect();
            match steps.get(place.next).map(|step| &step.directive) {
                Some(ScriptDirective::Loop(_)) => {}
                Some(_) | None => place.next += 1,
            }
        }
        place
    }

    /// Takes the result of the first repair's call and notes what it shows.
    fn apply_repair(&mut self, unit: &Done<'_>) {
        let repair = self.repairs.remove(0);
        let path = &repair.path;
        let Some(outcome) = unit.first() else { return };
        let note = if repair.looked {
            match outcome.status {
                CallStatus::Ok => format!(
                    "The outcome of appending to {path} was unknown; I looked: the line is not there, so I appended it once more."
                ),
                status => format!(
                    "The outcome of appending to {path} was unknown; I looked: the line is not there. Appending it once more ended as {}.",
                    status_word(status)
                ),
            }
        } else {
            match check_line(&repair, outcome) {
                LineCheck::There => {
                    format!("The outcome of appending to {path} was unknown; I looked: the line is there.")
                }
                LineCheck::Unclear => format!(
                    "The outcome of appending to {path} is unknown; I could not see whether the line is there, so I did not append it again."
                ),
                LineCheck::Missing => {
                    self.repairs.insert(0, AppendRepair { looked: true, ..repair });
                    return;
                }
            }
        };
        self.notes.push(note);
    }
}

enum LineCheck {
    There,
    Missing,
    Unclear,
}

/// Tells what a `file.read` shows of the line. A file that was not read to its end proves nothing is missing.
fn check_line(repair: &AppendRepair, outcome: &CallOutcome<'_>) -> LineCheck {
    let line = repair.line.trim_end();
    match outcome.status {
        // An empty line is in every file and proves nothing.
        CallStatus::Ok if line.is_empty() => LineCheck::Unclear,
        CallStatus::Ok if outcome.text.contains(line) => LineCheck::There,
        CallStatus::Ok if outcome.text.contains("more bytes") => LineCheck::Unclear,
        // A file that cannot be read because it does not exist holds no line either.
        CallStatus::Ok | CallStatus::Error => LineCheck::Missing,
        CallStatus::Denied | CallStatus::Unknown | CallStatus::Cancelled | CallStatus::Awaiting => {
            LineCheck::Unclear
        }
    }
}

fn plain_answer(question: &str) -> String {
    format!(
        "Hello! You said: \"{}\". This answer comes from a scripted model, not an LLM.",
        quote_start(question.trim())
    )
}

fn summary_text(place: &ScriptProgress, done: &[Done<'_>]) -> String {
    let mut text = String::from("Done. ");
    for outcome in done.iter().flatten() {
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "{}: {}, \"{}\".",
            outcome.tool,
            status_word(outcome.status),
            quote_start(outcome.text.trim())
        );
    }
    for note in &place.notes {
        text.push_str(note);
        text.push('\n');
    }
    text.push_str("(A scripted model, not an LLM.)");
    text
}

fn waiting_text(slow_ms: u64) -> String {
    if slow_ms == 0 { String::new() } else { format!("I take {slow_ms} ms over this, as asked. ") }
}

fn quote_start(text: &str) -> &str {
    text.char_indices().nth(QUOTE_CHARS).map_or(text, |(end, _)| &text[..end])
}

/// The word for a status, the same as in its stored form.
pub const fn status_word(status: CallStatus) -> &'static str {
    match status {
        CallStatus::Ok => "ok",
        CallStatus::Error => "error",
        CallStatus::Denied => "denied",
        CallStatus::Unknown => "unknown",
        CallStatus::Cancelled => "cancelled",
        CallStatus::Awaiting => "awaiting",
    }
}

/// Reads what [`status_word`] wrote.
pub fn status_of(word: &str) -> Option<CallStatus> {
    use CallStatus::{Cancelled, Denied, Error, Ok, Unknown};
    [Ok, Error, Denied, Unknown, Cancelled].into_iter().find(|status| status_word(*status) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(
        tool: &'static str,
        arguments: &'static str,
        status: CallStatus,
        text: &'static str,
    ) -> Done<'static> {
        vec![CallOutcome { tool: tool.into(), arguments: arguments.into(), status, text: text.into() }]
    }

    fn play(input: &'static str, done: Vec<Done<'static>>) -> ScriptMove {
        next_move(&ScriptInput { input: input.into(), done })
    }

    fn text_of(played: ScriptMove) -> String {
        assert_eq!(played.calls, [], "a final text asks for no call");
        played.text.expect("the move says something")
    }

    const APPEND_A: &str = r#"{"path":"log","text":"a\n"}"#;
    const INPUT: &str = r#"@tool file.append {"path":"log","text":"a\n"}"#;

    #[test]
    fn a_scripted_answer_repeats_at_most_two_hundred_characters() {
        let answer = text_of(next_move(&ScriptInput { input: "ä".repeat(300).into(), done: vec![] }));
        assert_eq!(answer.matches('ä').count(), 200);
        assert!(answer.contains("scripted model, not an LLM"), "{answer}");
    }

    #[test]
    fn the_units_since_the_input_say_which_directive_is_next() {
        let input = "@tool a &\n@tool b\n@tool c\n@say bye";
        let ok = |tool| outcome(tool, "{}", CallStatus::Ok, "fine");
        assert_eq!(play(input, vec![]).calls.len(), 2);
        assert_eq!(play(input, vec![ok("a")]).calls[0].tool, "c");
        assert_eq!(text_of(play(input, vec![ok("a"), ok("c")])), "bye");
        let looped = play("@loop a", vec![ok("a"), ok("a"), ok("a")]);
        assert_eq!(looped.calls, [ScriptedCall { tool: "a".into(), arguments: "{}".into() }]);
    }

    #[test]
    fn an_unknown_append_is_looked_into_before_anything_is_repeated() {
        let unknown = || outcome("file.append", APPEND_A, CallStatus::Unknown, "nobody knows");
        let read = |status, text| outcome("file.read", r#"{"path":"log"}"#, status, text);
        let look = play(INPUT, vec![unknown()]);
        assert_eq!(
            look.calls,
            [ScriptedCall { tool: "file.read".into(), arguments: r#"{"path":"log"}"#.into() }]
        );

        let there = text_of(play(INPUT, vec![unknown(), read(CallStatus::Ok, "z\na\n")]));
        assert!(there.contains("I looked: the line is there."), "{there}");

        for missing in [read(CallStatus::Ok, "z\n"), read(CallStatus::Error, "no such file")] {
            let again = play(INPUT, vec![unknown(), missing.clone()]);
            assert_eq!(
                again.calls,
                [ScriptedCall { tool: "file.append".into(), arguments: APPEND_A.into() }]
            );
            let ok = outcome("file.append", APPEND_A, CallStatus::Ok, "2 bytes");
            let told = text_of(play(INPUT, vec![unknown(), missing.clone(), ok]));
            assert!(told.contains("not there, so I appended it once more"), "{told}");
            let twice = text_of(play(INPUT, vec![unknown(), missing, unknown()]));
            assert!(twice.contains("ended as unknown"), "{twice}");
        }

        for unclear in [read(CallStatus::Denied, "no"), read(CallStatus::Ok, "z\n[9 more bytes]")] {
            let told = text_of(play(INPUT, vec![unknown(), unclear]));
            assert!(told.contains("did not append it again"), "{told}");
        }
    }
}
