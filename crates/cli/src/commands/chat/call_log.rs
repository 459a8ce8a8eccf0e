//! What the calls of a chat gave, for `/output`: the screen has one line of each.

use std::collections::{BTreeMap, VecDeque};

use dromia_api::CallId;
use dromia_api::run::JournalEntryResource;
use serde::Deserialize;

use crate::commands::activity::call_text;

/// How many calls are kept with what they gave.
const CALLS_MAX: usize = 32;

/// How much is kept of what one call gave; `run show` has all of it.
const RESULT_BYTES_MAX: usize = 1 << 20;

/// The calls that have ended, newest last.
#[derive(Debug, Default)]
pub(super) struct CallLog {
    asked: BTreeMap<CallId, String>,
    ended: VecDeque<EndedCall>,
}

/// A call that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EndedCall {
    /// The tool and what it was asked with, in a line.
    pub(super) text: String,
    pub(super) status: String,
    pub(super) result: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CallFields {
    call: Option<CallId>,
    tool: String,
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CallBody {
    calls: Vec<AskedCall>,
    parts: Vec<ResultPart>,
}

#[derive(Debug, Deserialize)]
struct AskedCall {
    id: CallId,
    tool: String,
    arguments: String,
}

#[derive(Debug, Deserialize)]
struct ResultPart {
    #[serde(default)]
    text: String,
}

impl CallLog {
    /// Remembers what an entry says of calls.
    pub(super) fn take_entry(&mut self, entry: &JournalEntryResource) {
        if !matches!(entry.kind.as_str(), "model_replied" | "tool_finished" | "tool_refused") {
            return;
        }
        let body = entry.body.as_ref().and_then(|body| serde_json::from_str(body.get()).ok());
        let CallBody { calls, parts } = body.unwrap_or_default();
        if entry.kind == "model_replied" {
            let calls = calls.into_iter().take(CALLS_MAX);
            self.asked = calls.map(|call| (call.id, call_text(&call.tool, &call.arguments))).collect();
            return;
        }
        let fields: CallFields = serde_json::from_str(entry.fields.get()).unwrap_or_default();
        let asked = fields.call.and_then(|call| self.asked.remove(&call));
        let mut result = parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join("\n");
        result.truncate(result.floor_char_boundary(RESULT_BYTES_MAX));
        if self.ended.len() == CALLS_MAX {
            self.ended.pop_front();
        }
        let text = asked.unwrap_or(fields.tool);
        self.ended.push_back(EndedCall { text, status: fields.status, result });
    }

    /// The call that ended so many calls ago; 1 is the last.
    pub(super) fn ended_call(&self, back: usize) -> Option<&EndedCall> {
        self.ended.iter().rev().nth(back.checked_sub(1)?)
    }

    /// How many are kept.
    pub(super) fn count(&self) -> usize {
        self.ended.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, fields: &serde_json::Value, body: &serde_json::Value) -> JournalEntryResource {
        let entry = serde_json::json!({
            "seq": 3, "at": "2026-01-01T00:00:00Z", "epoch": 1, "kind": kind, "version": 1,
            "fields": fields, "body": body, "chain": "0".repeat(64),
        });
        serde_json::from_str(&entry.to_string()).unwrap()
    }

    #[test]
    fn the_newest_calls_are_kept_with_their_results() {
        let mut log = CallLog::default();
        assert_eq!(log.ended_call(1), None);
        for number in 0..CALLS_MAX + 2 {
            let calls = serde_json::json!([{
                "id": "call_1_0", "tool": "shell.execute", "arguments": format!("{{\"command\":\"ls {number}\"}}"),
            }]);
            log.take_entry(&entry(
                "model_replied",
                &serde_json::json!({}),
                &serde_json::json!({"calls": calls}),
            ));
            let fields = serde_json::json!({"call": "call_1_0", "status": "ok"});
            let body = serde_json::json!({"parts": [{"type": "text", "text": format!("out {number}")}]});
            log.take_entry(&entry("tool_finished", &fields, &body));
        }
        assert_eq!(log.count(), CALLS_MAX);
        let last = log.ended_call(1).unwrap();
        assert_eq!((last.text.as_str(), last.result.as_str()), ("shell.execute ls 33", "out 33"));
        assert_eq!(log.ended_call(2).unwrap().result, "out 32");
        assert_eq!(log.ended_call(0), None);
        assert_eq!(log.ended_call(CALLS_MAX + 1), None);
    }
}
