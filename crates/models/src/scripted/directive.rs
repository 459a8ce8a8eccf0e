//! Reads the directives of an input. A line that is not a well-formed directive is plain text.

/// A call that a directive asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptedCall {
    /// The tool's name.
    pub tool: String,
    /// The arguments as they were typed; `{}` where there were none.
    pub arguments: String,
}

/// How an attempt fails on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptedFailure {
    /// As an overloaded provider.
    Unavailable,
    /// As a provider that refuses the request.
    Rejected,
    /// As an answer that breaks off.
    Cut,
}

/// What one model step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptDirective {
    /// Asks for calls, all at once.
    Tools(Vec<ScriptedCall>),
    /// Asks for a call in this step and in every later one.
    Loop(ScriptedCall),
    /// Says a text, which ends the turn.
    Say(String),
    /// Gives no answer.
    Fail(ScriptedFailure),
    /// Only waits; the final text follows.
    Rest,
}

/// A directive and how long its answer takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptStep {
    /// Milliseconds before the answer.
    pub slow_ms: u64,
    /// What the answer is.
    pub directive: ScriptDirective,
}

/// The longest wait of one step; a longer `@slow` is cut to it.
const SLOW_MS_MAX: u64 = 600_000;

/// Reads the steps of an input; none when it holds no directive.
pub fn parse_steps(input: &str) -> Vec<ScriptStep> {
    // The everyday input has no directive and shall cost one scan.
    if !input.contains('@') {
        return Vec::new();
    }
    let mut steps = Vec::new();
    let mut slow_ms = 0;
    let mut joined: Option<Vec<ScriptedCall>> = None;
    for line in input.lines() {
        let line = line.trim();
        let Some((word, rest)) = line.strip_prefix('@').map(split_word) else { continue };
        if word == "tool" {
            let (rest, more) = match rest.strip_suffix('&') {
                Some(before) if before.is_empty() || before.ends_with(' ') => (before.trim_end(), true),
                Some(_) | None => (rest, false),
            };
            let Some(call) = parse_call(rest) else { continue };
            let mut calls = joined.take().unwrap_or_default();
            calls.push(call);
            if more {
                joined = Some(calls);
            } else {
                steps.push(ScriptStep {
                    slow_ms: std::mem::take(&mut slow_ms),
                    directive: ScriptDirective::Tools(calls),
                });
            }
            continue;
        }
        let directive = match word {
            "slow" => {
                slow_ms = rest.parse().map_or(slow_ms, |ms: u64| ms.min(SLOW_MS_MAX));
                continue;
            }
            "say" => ScriptDirective::Say(rest.to_owned()),
            "loop" => match parse_call(rest) {
                Some(call) => ScriptDirective::Loop(call),
                None => continue,
            },
            "fail" => match rest {
                "unavailable" => ScriptDirective::Fail(ScriptedFailure::Unavailable),
                "rejected" => ScriptDirective::Fail(ScriptedFailure::Rejected),
                "cut" => ScriptDirective::Fail(ScriptedFailure::Cut),
                _ => continue,
            },
            _ => continue,
        };
        // A trailing `&` with no `@tool` behind it joins nothing: its calls are a step of their own.
        if let Some(calls) = joined.take() {
            steps.push(ScriptStep {
                slow_ms: std::mem::take(&mut slow_ms),
                directive: ScriptDirective::Tools(calls),
            });
        }
        steps.push(ScriptStep { slow_ms: std::mem::take(&mut slow_ms), directive });
    }
    if let Some(calls) = joined {
        steps.push(ScriptStep {
            slow_ms: std::mem::take(&mut slow_ms),
            directive: ScriptDirective::Tools(calls),
        });
    }
    if slow_ms > 0 {
        steps.push(ScriptStep { slow_ms, directive: ScriptDirective::Rest });
    }
    steps
}

fn parse_call(text: &str) -> Option<ScriptedCall> {
    let (tool, arguments) = split_word(text);
    let arguments = if arguments.is_empty() { "{}" } else { arguments };
    (!tool.is_empty()).then(|| ScriptedCall { tool: tool.to_owned(), arguments: arguments.to_owned() })
}

fn split_word(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim()),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(tool: &str, arguments: &str) -> ScriptedCall {
        ScriptedCall { tool: tool.into(), arguments: arguments.into() }
    }

    fn step(slow_ms: u64, directive: ScriptDirective) -> ScriptStep {
        ScriptStep { slow_ms, directive }
    }

    #[test]
    fn each_line_is_read_as_the_table_says() {
        let table = [
            ("hello @ noon", vec![]),
            ("@tool time.now", vec![step(0, ScriptDirective::Tools(vec![call("time.now", "{}")]))]),
            (
                "please\n  @tool file.read {\"path\": \"a b\"} \n@say done",
                vec![
                    step(0, ScriptDirective::Tools(vec![call("file.read", "{\"path\": \"a b\"}")])),
                    step(0, ScriptDirective::Say("done".into())),
                ],
            ),
            (
                "@slow 7\n@tool a &\n@tool b {} &\n@tool c",
                vec![step(
                    7,
                    ScriptDirective::Tools(vec![call("a", "{}"), call("b", "{}"), call("c", "{}")]),
                )],
            ),
            (
                "@tool a &\n@fail cut",
                vec![
                    step(0, ScriptDirective::Tools(vec![call("a", "{}")])),
                    step(0, ScriptDirective::Fail(ScriptedFailure::Cut)),
                ],
            ),
            ("@loop a {\"n\":1}", vec![step(0, ScriptDirective::Loop(call("a", "{\"n\":1}")))]),
            ("@slow 99999999999", vec![step(SLOW_MS_MAX, ScriptDirective::Rest)]),
            ("@tool\n@slow soon\n@fail maybe\n@dance", vec![]),
        ];
        for (input, steps) in table {
            assert_eq!(parse_steps(input), steps, "{input:?}");
        }
    }
}
