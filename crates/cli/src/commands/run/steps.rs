//! The steps of a run, read off its journal: each attempt of a model and each call of a tool, with what it took.

use dromia_api::approval::ApprovalResource;
use dromia_api::run::JournalEntryResource;
use dromia_api::{ApprovalId, ApprovalState, CallId, ModelOpinion, TokenUsage};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::output::{ColumnShrink, RowStyle, format_money};

/// The columns of the table.
pub(super) const HEADS: [&str; 11] =
    ["seq", "step", "attempt", "what", "call", "began", "took", "in", "out", "cost", "outcome"];

/// How it shrinks on a narrow terminal. What happened, and how it ended, stays.
pub(super) const WAYS: [ColumnShrink; 8] = [
    ColumnShrink::Clock("began"),
    ColumnShrink::WithoutNought("cost"),
    ColumnShrink::Without("attempt"),
    ColumnShrink::Without("seq"),
    ColumnShrink::Without("began"),
    ColumnShrink::Without("cost"),
    ColumnShrink::Without("out"),
    ColumnShrink::Without("in"),
];

/// The status of a call without which its run went on.
const AWAITING: &str = "awaiting";

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StepKind {
    /// An attempt of a model.
    Model,
    /// A call of a tool.
    Tool,
}

/// An attempt of a model, or a call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct RunStep {
    /// The number of the entry that began it.
    seq: u64,
    /// The model step that it is, or that asked for it.
    step: u32,
    /// The attempt at it.
    attempt: u32,
    /// What it is.
    kind: StepKind,
    /// The alias of the model that was asked, or the name of the tool.
    name: String,
    /// Which call it is, of a tool; which one a second model was asked about.
    call: Option<CallId>,
    /// When it began.
    began_at: Timestamp,
    /// How long it took, in milliseconds; nothing while it goes on.
    took_ms: Option<u64>,
    /// Tokens of the request.
    input_tokens: u32,
    /// Tokens of the answer.
    output_tokens: u32,
    /// What it cost, in millionths of the currency unit.
    cost_micros: u64,
    /// How it ended: why the model stopped, how many answers of a second model say go, the call's status, `handed` to a
    /// client, or a failure's code.
    outcome: Option<String>,
    /// The approval that the call waits for, or waited for when the run went on without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) approval: Option<ApprovalId>,
    /// The current state of that approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<ApprovalState>,
}

/// What the entries say, as far as steps are made of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StepEntryFields {
    step: u32,
    attempt: u32,
    model: String,
    sent: Option<StepSender>,
    call: Option<CallId>,
    tool: String,
    /// What a run rests for.
    on: String,
    approval: Option<ApprovalId>,
    status: String,
    finish: String,
    code: String,
    usage: TokenUsage,
    cost_micros: u64,
    charged_micros: u64,
    opinion: Option<ModelOpinion>,
}

#[derive(Debug, Deserialize)]
struct StepSender {
    by: Option<String>,
}

/// Reads steps off entries. What began before the first of them, or is of a version that this program does not know, is
/// no step.
pub(super) fn steps_from_entries(entries: &[JournalEntryResource]) -> Vec<RunStep> {
    let mut steps: Vec<RunStep> = Vec::new();
    for entry in entries {
        let Ok(facts) = serde_json::from_str::<StepEntryFields>(entry.fields.get()) else { continue };
        match entry.kind.as_str() {
            "model_called" => {
                let name = facts.sent.and_then(|sent| sent.by).unwrap_or(facts.model);
                steps.push(RunStep::from_start_entry(
                    entry,
                    facts.step,
                    facts.attempt,
                    StepKind::Model,
                    name,
                ));
            }
            "model_replied" | "model_failed" => {
                let open = |step: &&mut RunStep| {
                    step.is_open(StepKind::Model) && (step.step, step.attempt) == (facts.step, facts.attempt)
                };
                let Some(step) = steps.iter_mut().rev().find(open) else { continue };
                (step.input_tokens, step.output_tokens) =
                    (facts.usage.input_tokens, facts.usage.output_tokens);
                step.cost_micros = facts.cost_micros + facts.charged_micros;
                step.apply_end_entry(entry, if facts.code.is_empty() { facts.finish } else { facts.code });
            }
            // All answers of a second model about a call, as one step of that model.
            "opinion_called" => {
                let Some(call) = facts.call else { continue };
                let name = facts.sent.and_then(|sent| sent.by).unwrap_or(facts.model);
                let begun = RunStep::from_start_entry(entry, call.step, 1, StepKind::Model, name);
                steps.push(RunStep { call: Some(call), ..begun });
            }
            "opinion_given" => {
                let open = |step: &&mut RunStep| step.is_open(StepKind::Model) && step.call == facts.call;
                let Some(step) = steps.iter_mut().rev().find(open) else { continue };
                (step.input_tokens, step.output_tokens) =
                    (facts.usage.input_tokens, facts.usage.output_tokens);
                step.cost_micros = facts.cost_micros;
                let outcome = facts.opinion.map_or_else(
                    || "lost".to_owned(),
                    |told| format!("{} of {} go", told.go, told.sample_count()),
                );
                step.apply_end_entry(entry, outcome);
            }
            // The run rests until the call is answered; the approval names its tool.
            "run_parked" if facts.on == "approval" => {
                let Some(call) = facts.call else { continue };
                forget_waiting(&mut steps, call);
                let begun = RunStep::from_start_entry(entry, call.step, 1, StepKind::Tool, String::new());
                steps.push(RunStep { call: Some(call), approval: facts.approval, ..begun });
            }
            "tool_started" => {
                let Some(call) = facts.call else { continue };
                forget_waiting(&mut steps, call);
                let begun =
                    RunStep::from_start_entry(entry, call.step, facts.attempt, StepKind::Tool, facts.tool);
                steps.push(RunStep { call: Some(call), ..begun });
            }
            "tool_finished" => {
                let open = |step: &&mut RunStep| step.is_open(StepKind::Tool) && step.call == facts.call;
                if let Some(step) = steps.iter_mut().rev().find(open) {
                    step.apply_end_entry(entry, facts.status);
                }
            }
            "tool_refused" => {
                let Some(call) = facts.call else { continue };
                forget_waiting(&mut steps, call);
                let begun = RunStep::from_start_entry(entry, call.step, 1, StepKind::Tool, facts.tool);
                let approval = facts.approval.filter(|_| facts.status == AWAITING);
                steps.push(RunStep { call: Some(call), outcome: Some(facts.status), approval, ..begun });
            }
            // It runs elsewhere; what it gave comes with another run.
            "tool_handed" => {
                let Some(call) = facts.call else { continue };
                let begun = RunStep::from_start_entry(entry, call.step, 1, StepKind::Tool, facts.tool);
                steps.push(RunStep { call: Some(call), outcome: Some("handed".to_owned()), ..begun });
            }
            _ => {}
        }
    }
    steps
}

/// Takes out that a call waits: it goes on.
fn forget_waiting(steps: &mut Vec<RunStep>, call: CallId) {
    steps.retain(|step| step.call != Some(call) || step.approval.is_none() || step.outcome.is_some());
}

impl RunStep {
    /// The model that was asked, where the step is an attempt of one at an answer.
    pub(super) fn model_name(&self) -> Option<&str> {
        (self.kind == StepKind::Model && self.call.is_none()).then_some(self.name.as_str())
    }

    /// Takes over the approval's state and the tool that it is about.
    pub(super) fn apply_approval(&mut self, approval: ApprovalResource) {
        self.state = Some(approval.state);
        self.name = approval.judged.tool;
    }

    fn from_start_entry(
        entry: &JournalEntryResource,
        step: u32,
        attempt: u32,
        kind: StepKind,
        name: String,
    ) -> Self {
        Self {
            seq: entry.seq,
            step,
            attempt,
            kind,
            name,
            call: None,
            began_at: entry.at,
            took_ms: None,
            input_tokens: 0,
            output_tokens: 0,
            cost_micros: 0,
            outcome: None,
            approval: None,
            state: None,
        }
    }

    fn is_open(&self, kind: StepKind) -> bool {
        self.kind == kind && self.outcome.is_none()
    }

    fn apply_end_entry(&mut self, entry: &JournalEntryResource, outcome: String) {
        let took = entry.at.duration_since(self.began_at).as_millis();
        // A clock that was set back took no time.
        self.took_ms = Some(u64::try_from(took).unwrap_or_default());
        self.outcome = Some(outcome);
    }

    /// How it ended, or what it waits for.
    fn end_of(&self) -> String {
        let outcome = self.outcome.as_deref();
        match (self.approval, self.state) {
            (Some(approval), Some(state)) => {
                format!("{} {approval} ({state})", outcome.unwrap_or("waits for"))
            }
            (Some(approval), None) => format!("{} {approval}", outcome.unwrap_or("waits for")),
            (None, _) => outcome.unwrap_or("open").to_owned(),
        }
    }

    /// The cells of the table.
    pub(super) fn table_row(&self, style: &RowStyle) -> Vec<String> {
        let kind = match self.kind {
            StepKind::Model => "model",
            StepKind::Tool => "tool",
        };
        // A tool costs nothing and has no tokens; a column of noughts would hide what does.
        let of_model = |text: String| if self.kind == StepKind::Model { text } else { String::new() };
        vec![
            self.seq.to_string(),
            self.step.to_string(),
            self.attempt.to_string(),
            format!("{kind} {}", self.name),
            self.call.map(|call| call.to_string()).unwrap_or_default(),
            style.format_clock(self.began_at),
            self.took_ms.map(|ms| format!("{ms} ms")).unwrap_or_default(),
            of_model(self.input_tokens.to_string()),
            of_model(self.output_tokens.to_string()),
            of_model(format_money(self.cost_micros)),
            self.end_of(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::draw_table;

    fn entry(seq: u64, second: u32, kind: &str, fields: &str) -> JournalEntryResource {
        let text = format!(
            r#"{{"seq":{seq},"at":"2026-01-02T03:04:{second:02}Z","epoch":1,"kind":"{kind}","version":1,"fields":{fields},
            "body":null,"chain":"{}"}}"#,
            "0".repeat(64)
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn run_steps_show_the_request_cost_and_outcome() {
        let replied = r#"{"step":1,"attempt":2,"usage":{"input_tokens":30,"output_tokens":7},"cost_micros":42,"finish":"tool_calls"}"#;
        let entries = [
            entry(1, 0, "run_started", r#"{"kind":"turn"}"#),
            entry(2, 1, "model_called", r#"{"step":1,"attempt":1,"model":"default"}"#),
            entry(3, 3, "model_failed", r#"{"step":1,"attempt":1,"code":"model_cut","charged_micros":9}"#),
            entry(
                4,
                3,
                "model_called",
                r#"{"step":1,"attempt":2,"model":"default","sent":{"by":"spare","form":"x"}}"#,
            ),
            entry(5, 5, "model_replied", replied),
            entry(6, 5, "tool_started", r#"{"call":"call_1_0","tool":"file.read","attempt":1}"#),
            entry(7, 6, "tool_finished", r#"{"call":"call_1_0","status":"ok"}"#),
            entry(8, 6, "tool_refused", r#"{"call":"call_1_1","tool":"file.write","status":"denied"}"#),
            entry(9, 6, "tool_handed", r#"{"call":"call_1_2","tool":"weather"}"#),
            entry(10, 6, "model_called", r#"{"step":2,"attempt":1,"model":"default"}"#),
        ];
        let rows =
            steps_from_entries(&entries).iter().map(|step| step.table_row(&RowStyle::whole())).collect();
        insta::assert_snapshot!(draw_table(None, &HEADS, rows), @r"
        SEQ  STEP  ATTEMPT  WHAT             CALL      BEGAN                 TOOK     IN  OUT  COST      OUTCOME
        2    1     1        model default              2026-01-02 03:04:01Z  2000 ms  0   0    0.000009  model_cut
        4    1     2        model spare                2026-01-02 03:04:03Z  2000 ms  30  7    0.000042  tool_calls
        6    1     1        tool file.read   call_1_0  2026-01-02 03:04:05Z  1000 ms                     ok
        8    1     1        tool file.write  call_1_1  2026-01-02 03:04:06Z                              denied
        9    1     1        tool weather     call_1_2  2026-01-02 03:04:06Z                              handed
        10   2     1        model default              2026-01-02 03:04:06Z           0   0    0.000000  open
        ");
        let called = r#"{"call":"call_1_0","model":"small","samples":3}"#;
        let given = r#"{"call":"call_1_0","opinion":{"model":"small","go":2,"stop":1,"neither":0,"agree":2},"usage":{"input_tokens":9,"output_tokens":3},"cost_micros":5}"#;
        let entries = [
            entry(1, 1, "opinion_called", called),
            entry(2, 2, "opinion_given", given),
            entry(3, 3, "opinion_called", called),
            entry(4, 3, "opinion_given", r#"{"call":"call_1_0","cost_micros":9}"#),
        ];
        let ends: Vec<_> =
            steps_from_entries(&entries).into_iter().map(|step| (step.outcome, step.cost_micros)).collect();
        assert_eq!(ends, [(Some("2 of 3 go".to_owned()), 5), (Some("lost".to_owned()), 9)]);
        // A page may begin in the middle.
        assert!(steps_from_entries(&entries[1..2]).is_empty());
        // A call waits under its approval until it goes on.
        let id = "apr_0199c0de000000000000000000000000";
        let parked = format!(r#"{{"on":"approval","approval":"{id}","call":"call_1_0","until":"x"}}"#);
        let awaiting =
            format!(r#"{{"call":"call_1_0","tool":"exec","status":"awaiting","approval":"{id}"}}"#);
        let entries = [
            entry(1, 1, "run_parked", &parked),
            entry(2, 2, "run_parked", &parked),
            entry(3, 3, "tool_refused", &awaiting),
        ];
        let ends = |entries: &[JournalEntryResource]| {
            steps_from_entries(entries).iter().map(RunStep::end_of).collect::<Vec<_>>()
        };
        assert_eq!(ends(&entries[..2]), [format!("waits for {id}")]);
        assert_eq!(ends(&entries), [format!("awaiting {id}")]);
        let begun = [entry(3, 3, "tool_started", r#"{"call":"call_1_0","tool":"exec","attempt":1}"#)];
        assert_eq!(ends(&[&entries[..2], &begun[..]].concat()), ["open"]);
    }
}
