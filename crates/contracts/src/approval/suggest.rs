//! Which rules would have answered what people approved again and again.
//!
//! A proposal has no effect until a person adds it as a rule and becomes its owner. Where a person refused a call of a
//! tool, none is proposed for that tool in the hands of that agent; nor is one that is not admissible. What is proposed
//! is as narrow as what was approved lets it be.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::rule::ParsedRule;

/// How often a person must have approved alike before a rule is proposed.
const TIMES_MIN: usize = 3;

/// A call that a person answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnsweredCall<'a> {
    /// The agent, however it is named.
    pub agent: &'a str,
    /// The tool.
    pub tool: &'a str,
    /// The canonical arguments.
    pub arguments: &'a str,
    /// Whether it was approved.
    pub approved: bool,
}

/// A rule that would have answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSuggestion {
    /// The agent whose calls it would have answered.
    pub agent: String,
    /// The rule, in its canonical form.
    pub rule: String,
    /// How many calls it would have answered.
    pub times: usize,
}

/// Proposes admissible rules, those that would have answered most first.
pub fn suggest_rules(
    seen: &[AnsweredCall<'_>],
    may_stand: impl Fn(&ParsedRule) -> bool,
) -> Vec<RuleSuggestion> {
    let mut groups: BTreeMap<(&str, &str), Vec<&AnsweredCall<'_>>> = BTreeMap::new();
    for call in seen {
        groups.entry((call.agent, call.tool)).or_default().push(call);
    }
    let mut suggestions = Vec::new();
    for ((agent, tool), calls) in groups {
        if calls.len() < TIMES_MIN || calls.iter().any(|call| !call.approved) {
            continue;
        }
        let fields =
            |call: &&AnsweredCall<'_>| serde_json::from_str::<Map<String, Value>>(call.arguments).ok();
        let Some(fields) = calls.iter().map(fields).collect::<Option<Vec<_>>>() else { continue };
        let texts: Vec<_> = calls.iter().map(|call| call.arguments).collect();
        let found = narrowest_rules(tool, &texts, &fields, &|rule: &ParsedRule| {
            rule.argument_names().next().is_some() && may_stand(rule)
        });
        suggestions.extend(found.into_iter().map(|(rule, times)| RuleSuggestion {
            agent: agent.to_owned(),
            rule: rule.to_string(),
            times,
        }));
    }
    suggestions.sort_by(|a, b| b.times.cmp(&a.times).then_with(|| a.rule.cmp(&b.rule)));
    suggestions
}

/// The narrowest admissible rules for calls of one tool, each with how many of them it answers: for each call that
/// comes again and again; else for each value of an argument that does, so that two destinations are two rules; else
/// for what all have in common; and where that is not admissible, for the calls that come again all the same.
fn narrowest_rules(
    tool: &str,
    texts: &[&str],
    fields: &[Map<String, Value>],
    may_stand: &dyn Fn(&ParsedRule) -> bool,
) -> Vec<(ParsedRule, usize)> {
    let mut same: BTreeMap<&str, usize> = BTreeMap::new();
    for text in texts.iter().copied() {
        *same.entry(text).or_default() += 1;
    }
    let is_each_repeated = same.values().all(|times| *times >= TIMES_MIN);
    let repeated = same.into_iter().filter(|(_, times)| *times >= TIMES_MIN);
    let exact = repeated.filter_map(|(text, times)| Some((ParsedRule::for_exact_call(tool, text)?, times)));
    let exact: Vec<_> = exact.filter(|(rule, _)| may_stand(rule)).collect();
    if is_each_repeated && !exact.is_empty() {
        return exact;
    }
    if let Some(rules) = by_argument(tool, fields, may_stand) {
        return rules;
    }
    match common_rule(tool, fields).filter(|rule| may_stand(rule)) {
        Some(rule) => vec![(rule, fields.len())],
        None => exact,
    }
}

/// A rule for each value of one argument, if every value comes again and again and every rule is admissible: of the
/// argument that has the most such values.
fn by_argument(
    tool: &str,
    fields: &[Map<String, Value>],
    may_stand: &dyn Fn(&ParsedRule) -> bool,
) -> Option<Vec<(ParsedRule, usize)>> {
    let mut most: Option<Vec<(ParsedRule, usize)>> = None;
    for name in fields.first()?.keys() {
        let mut groups: BTreeMap<&str, Vec<Map<String, Value>>> = BTreeMap::new();
        for call in fields {
            // A star in a rule matches anything, so such a value would distinguish nothing.
            let value = call.get(name).and_then(Value::as_str).filter(|value| !value.contains('*'));
            groups.entry(value.unwrap_or("*")).or_default().push(call.clone());
        }
        let tells_apart = groups.len() > most.as_ref().map_or(1, Vec::len);
        let is_each_repeated = groups.values().all(|calls| calls.len() >= TIMES_MIN);
        if !tells_apart || !is_each_repeated || groups.contains_key("*") {
            continue;
        }
        let rules = groups.values().map(|calls| Some((common_rule(tool, calls)?, calls.len())));
        let rules = rules.collect::<Option<Vec<_>>>();
        most = rules.filter(|rules| rules.iter().all(|(rule, _)| may_stand(rule))).or(most);
    }
    most
}

/// The rule for what the calls have in common: values that never change, and directories that all values lie below.
/// Nothing where lists differ: what is a list may be a program.
fn common_rule(tool: &str, calls: &[Map<String, Value>]) -> Option<ParsedRule> {
    let (first, rest) = calls.split_first()?;
    let mut arguments = Vec::new();
    for (name, value) in first {
        let texts = || rest.iter().map(|other| other.get(name).and_then(Value::as_str));
        match value {
            Value::String(text) if texts().all(|other| other == Some(text.as_str())) => {
                if !text.contains('*') {
                    arguments.push((name.clone(), text.clone()));
                }
            }
            Value::String(text) => {
                let below = |dir: &&str| texts().all(|other| other.is_some_and(|it| it.starts_with(*dir)));
                let dir = text.match_indices('/').map(|(at, _)| &text[..=at]).rfind(below);
                // The beginning of an address is no directory.
                let dir = dir.filter(|dir| !dir.ends_with("//") && !dir.contains('*') && *dir != "/");
                arguments.extend(dir.map(|dir| (name.clone(), format!("{dir}**"))));
            }
            Value::Array(_) | Value::Object(_) if rest.iter().any(|other| other.get(name) != Some(value)) => {
                return None;
            }
            Value::Array(_) | Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    ParsedRule::from_patterns(tool, arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approval::{RuleAnswer, RuleTool};
    use crate::tool::ArgumentRole;

    fn rule(text: &str) -> ParsedRule {
        ParsedRule::parse(text).expect("the rule is read")
    }

    #[test]
    fn repeatedly_approved_calls_suggest_a_rule_that_matches_them() {
        let seen = |arguments: &'static str, approved| AnsweredCall {
            agent: "ada",
            tool: "file.write",
            arguments,
            approved,
        };
        let notes = [
            seen(r#"{"path":"notes/a/1.md","text":"x"}"#, true),
            seen(r#"{"path":"notes/b.md","text":"y"}"#, true),
            seen(r#"{"path":"notes/a/2.md","text":"z"}"#, true),
        ];
        let found = suggest_rules(&notes, |_| true);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].rule.as_str(), found[0].times), ("file.write path=notes/**", 3));
        assert!(notes.iter().all(|call| rule(&found[0].rule).matches_call(call.tool, call.arguments)));
        assert_eq!(suggest_rules(&notes[..2], |_| true), [], "twice is no habit");
        let refused = [&notes[..], &[seen(r#"{"path":"etc/x","text":""}"#, false)]].concat();
        assert_eq!(suggest_rules(&refused, |_| true), [], "a person refused one");
        let run =
            |arguments: &'static str| AnsweredCall { agent: "ada", tool: "exec", arguments, approved: true };
        let same = [run(r#"{"argv":["git","status"]}"#); 3];
        assert_eq!(suggest_rules(&same, |_| true)[0].rule, r#"exec argv=["git","status"] only"#);
        let others = [same[0], same[1], run(r#"{"argv":["git","push"]}"#)];
        assert_eq!(suggest_rules(&others, |_| true), [], "no prefix of a program is proposed");
    }

    #[test]
    fn a_rule_that_would_be_rejected_is_not_suggested() {
        let parameters = serde_json::json!({
            "type": "object", "properties": {"path": {}, "content": {}}, "additionalProperties": false
        });
        let roles =
            [("path".to_owned(), ArgumentRole::Object), ("content".to_owned(), ArgumentRole::Payload)];
        let tool = RuleTool { parameters: &parameters, roles: &roles, runs_programs: false };
        let stands = |rule: &ParsedRule| rule.find_rejection(RuleAnswer::Allow, &tool).is_none();
        let seen = |arguments: &'static str| AnsweredCall {
            agent: "ada",
            tool: "file.write",
            arguments,
            approved: true,
        };
        let everywhere = ["a", "b", "c"].map(|path| match path {
            "a" => seen(r#"{"path":"a.md","content":"x"}"#),
            "b" => seen(r#"{"path":"b.md","content":"x"}"#),
            _ => seen(r#"{"path":"c.md","content":"x"}"#),
        });
        let found = suggest_rules(&everywhere, |_| true);
        assert_eq!(
            found[0].rule, "file.write content=x",
            "all that these have in common says nothing of where"
        );
        assert_eq!(suggest_rules(&everywhere, stands), []);
        let barred = rule(&found[0].rule).find_rejection(RuleAnswer::Allow, &tool).expect("it may not stand");
        assert_eq!(barred.problem, "a rule that allows file.write needs a pattern for path");
        assert_eq!(barred.hint.as_deref(), Some("add path=PATTERN; path=** matches anything"));
        assert_eq!(rule(&found[0].rule).find_rejection(RuleAnswer::Deny, &tool), None, "it may refuse");
        let below = [everywhere[0]; 3];
        assert!(
            suggest_rules(&below, stands)[0].rule.ends_with(" only"),
            "the very same call leaves nothing open"
        );
        let program = RuleTool { runs_programs: true, ..tool };
        let shell = rule(r#"file.write path=["sh","-c","x"]"#);
        assert!(
            shell.find_rejection(RuleAnswer::Allow, &program).is_some(),
            "a program is named with all its words"
        );
    }
}
