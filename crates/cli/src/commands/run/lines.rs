//! What a watch of a run shows of each entry: its number, its time, its kind, and what it says in words.
//!
//! It shows no text of messages; the answer comes at the end of a watch, whole. An entry of a newer server, whose
//! fields mean nothing to this program, is shown with its fields as they are.

use dromia_api::run::JournalEntryResource;
use dromia_api::{BudgetExhaustion, ModelOpinion, TokenUsage, escape_hidden};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::output::{count_noun, format_money, format_time};

/// What is read of an entry about a model; ids are shown and nothing else, so they are texts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ModelEntryFields {
    step: u32,
    attempt: u32,
    model: String,
    sent: Option<EntrySender>,
    usage: TokenUsage,
    cost_micros: u64,
    finish: String,
    withheld: Option<WithheldFields>,
    code: String,
    message: String,
    call: String,
    opinion: Option<ModelOpinion>,
}

/// What is read of an entry about a call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CallEntryFields {
    call: String,
    tool: String,
    status: String,
    rule: Option<String>,
    reply: bool,
}

/// What is read of a run's first entry.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RunStartFields {
    kind: String,
    items: Vec<IgnoredAny>,
    resumes: Option<String>,
}

/// What is read of a later entry about the run itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RunEntryFields {
    call: Option<String>,
    rule: Option<String>,
    approval: Option<String>,
    signal: String,
    by: String,
    on: String,
    until: Option<Timestamp>,
    reason: String,
    detail: String,
    code: String,
    message: String,
    budget: Option<BudgetExhaustion>,
    model_calls: u64,
    items: Vec<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct EntrySender {
    by: Option<String>,
}

#[derive(Debug, Deserialize)]
struct WithheldFields {
    rule: String,
}

/// Writes an entry as one line.
pub(super) fn entry_line(entry: &JournalEntryResource) -> String {
    let said = entry_words(&entry.kind, entry.fields.get());
    let said = said.map_or_else(|| entry.fields.get().to_owned(), |words| escape_hidden(&words));
    let line = format!("{:>4}  {}  {:<14}  {said}", entry.seq, format_time(entry.at), entry.kind);
    line.trim_end().to_owned()
}

/// Says what an entry says; nothing of a kind that this program does not know.
fn entry_words(kind: &str, fields: &str) -> Option<String> {
    if kind == "run_started" {
        let RunStartFields { kind, items, resumes } = serde_json::from_str(fields).ok()?;
        let resumes = resumes.map(|run| format!(", continues {run}")).unwrap_or_default();
        return Some(format!("{kind} of {}{resumes}", count_noun(items.len(), "input")));
    }
    match kind.split_once('_')?.0 {
        "model" | "opinion" => model_words(kind, &serde_json::from_str(fields).ok()?),
        "call" | "tool" => call_words(kind, &serde_json::from_str(fields).ok()?),
        _ => run_words(kind, &serde_json::from_str(fields).ok()?),
    }
}

fn model_words(kind: &str, facts: &ModelEntryFields) -> Option<String> {
    let ModelEntryFields { step, attempt, call, sent, model, .. } = &facts;
    let model = sent.as_ref().and_then(|sent| sent.by.as_ref()).unwrap_or(model);
    Some(match kind {
        "model_called" => format!("{model} (step {step}, attempt {attempt})"),
        "model_replied" => {
            let TokenUsage { input_tokens, output_tokens } = facts.usage;
            let withheld = facts.withheld.as_ref().map(|withheld| format!("; withheld by {}", withheld.rule));
            format!(
                "{}; {input_tokens} tokens in, {output_tokens} out, cost {}{}",
                facts.finish,
                format_money(facts.cost_micros),
                withheld.unwrap_or_default()
            )
        }
        "model_failed" => format!("{} ({})", facts.message, facts.code),
        "opinion_called" => format!("{model} reviews {call}"),
        "opinion_given" => match &facts.opinion {
            Some(opinion) => format!("{} of {} agree to {call}", opinion.go, opinion.sample_count()),
            None => format!("review of {call}: lost"),
        },
        _ => return None,
    })
}

fn call_words(kind: &str, facts: &CallEntryFields) -> Option<String> {
    let CallEntryFields { call, tool, status, rule, reply } = facts;
    let rule = rule.as_ref().map(|rule| format!(", by {rule}")).unwrap_or_default();
    Some(match kind {
        "call_asked" | "tool_handed" => format!("{tool} {call}"),
        "tool_started" => format!("{tool} {call}{rule}"),
        "tool_finished" if *reply => format!("{call}: interim reply"),
        "tool_finished" => format!("{call}: {status}"),
        "tool_refused" => format!("{tool} {call}: {status}{rule}"),
        _ => return None,
    })
}

fn run_words(kind: &str, facts: &RunEntryFields) -> Option<String> {
    let (call, by) = (facts.call.as_deref().unwrap_or_default(), &facts.by);
    Some(match kind {
        "inputs_taken" if !facts.items.is_empty() => {
            format!("{} joined the turn", count_noun(facts.items.len(), "input"))
        }
        "signal_taken" => format!("{} of {by}", facts.signal),
        "run_parked" => match (facts.on.as_str(), facts.until, &facts.approval) {
            ("approval", _, Some(approval)) => format!("{call} waits for {approval}"),
            ("retry", Some(until), _) => format!("asks a model again at {}", format_time(until)),
            ("agent_paused", _, _) => "its agent is paused".to_owned(),
            _ => return None,
        },
        "run_held" => format!("{}: {}", facts.reason, facts.detail),
        "run_completed" => facts.rule.as_ref().map(|rule| format!("by {rule}")).unwrap_or_default(),
        "run_failed" => format!("{} ({})", facts.message, facts.code),
        "run_yielded" => match &facts.budget {
            Some(exhausted) => exhausted.text(),
            None => format!("reached its limit of {} model calls", facts.model_calls),
        },
        "run_cancelled" => format!("by {by}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: &str, fields: &str) -> String {
        let text = format!(
            r#"{{"seq":7,"at":"2026-01-02T03:04:05Z","epoch":1,"kind":"{kind}","version":1,"fields":{fields},"body":null,
            "chain":"{}"}}"#,
            "0".repeat(64)
        );
        entry_line(&serde_json::from_str(&text).expect("an entry"))
    }

    #[test]
    fn an_entry_is_one_line_in_words() {
        for (kind, fields, words) in [
            ("run_started", r#"{"kind":"turn","items":["itm_1"]}"#, "turn of 1 input"),
            (
                "model_called",
                r#"{"step":1,"attempt":2,"model":"default","sent":{"by":"stand-in"}}"#,
                "stand-in (step 1, attempt 2)",
            ),
            (
                "model_replied",
                r#"{"usage":{"input_tokens":3,"output_tokens":4},"detail":{},"cost_micros":5,"finish":"stop"}"#,
                "stop; 3 tokens in, 4 out, cost 0.000005",
            ),
            (
                "model_replied",
                r#"{"finish":"stop","withheld":{"rule":"leak scan","reason":"no"}}"#,
                "stop; 0 tokens in, 0 out, cost 0.000000; withheld by leak scan",
            ),
            (
                "tool_started",
                r#"{"call":"call_1_0","tool":"exec","rule":"grant exec","attempt":1}"#,
                "exec call_1_0, by grant exec",
            ),
            ("tool_finished", r#"{"call":"call_1_0","status":"ok"}"#, "call_1_0: ok"),
            ("tool_finished", r#"{"call":"call_1_0","status":"ok","reply":true}"#, "call_1_0: interim reply"),
            (
                "tool_refused",
                r#"{"call":"call_1_0","tool":"exec","status":"denied","rule":null}"#,
                "exec call_1_0: denied",
            ),
            (
                "run_parked",
                r#"{"on":"retry","until":"2026-01-02T03:04:09Z"}"#,
                "asks a model again at 2026-01-02 03:04:09Z",
            ),
            (
                "run_parked",
                r#"{"on":"approval","approval":"apr_1","call":"call_1_0"}"#,
                "call_1_0 waits for apr_1",
            ),
            ("inputs_taken", r#"{"items":["itm_2","itm_3"],"after":1}"#, "2 inputs joined the turn"),
            ("run_held", r#"{"reason":"claims","detail":"three times"}"#, "claims: three times"),
            ("run_failed", r#"{"code":"model_cut","message":"cut\nhere"}"#, "cut\\u{a}here (model_cut)"),
            ("run_completed", r#"{"rule":"grant reply"}"#, "by grant reply"),
            ("run_yielded", r#"{"model_calls":9}"#, "reached its limit of 9 model calls"),
            ("run_cancelled", r#"{"by":"cli:0","signal":"cancel"}"#, "by cli:0"),
            // What a newer server says is not hidden.
            ("run_parked", r#"{"on":"tide"}"#, r#"{"on":"tide"}"#),
            ("tide_turned", r#"{"step":"x"}"#, r#"{"step":"x"}"#),
        ] {
            assert_eq!(told(kind, fields), format!("   7  2026-01-02 03:04:05Z  {kind:<14}  {words}"));
        }
    }
}
