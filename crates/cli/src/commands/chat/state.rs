//! What a chat knows while it goes on: the session, the agent, what was typed ahead and what it cost.

use std::collections::VecDeque;

use dromia_api::run::{JournalEntryResource, RunResource, StreamEnd};
use dromia_api::{AgentId, ApprovalId, RunId, SessionId, TokenUsage};
use serde::Deserialize;

use super::call_log::CallLog;
use crate::message_editor::MessageEditor;
use crate::output::format_short_cost;

/// The most messages that may wait for the end of a turn.
pub(super) const AHEAD_MAX: usize = 32;

/// A conversation with an agent.
#[derive(Default)]
pub(super) struct ChatState {
    pub(super) session: Option<SessionId>,
    /// The agent and the session of the last turn, as its journal names them.
    pub(super) played: Option<(AgentId, SessionId)>,
    /// The last turn that was shown.
    pub(super) last_turn: Option<RunId>,
    /// The session that `--continue` finds.
    pub(super) remembered: Option<SessionId>,
    /// The agent that the next session belongs to; the server's own if none is chosen.
    pub(super) agent: Option<String>,
    /// The agent's handle, for the prompt.
    pub(super) handle: Option<String>,
    /// Messages that were sent so far.
    pub(super) lines: u32,
    /// The terminal of a person; none where lines are read from a pipe.
    pub(super) editor: Option<Box<dyn MessageEditor>>,
    /// Messages that were typed while a turn ran.
    pub(super) ahead: VecDeque<String>,
    pub(super) calls: CallLog,
    pub(super) spent: ChatSpending,
    /// The sessions that `/resume` listed last.
    pub(super) listed: Vec<SessionId>,
    /// The approvals that `/approve` listed last.
    pub(super) approvals: Vec<ApprovalId>,
}

#[derive(Debug, Deserialize)]
struct StartedFields {
    agent: AgentId,
    session: SessionId,
}

impl ChatState {
    /// Takes an entry of the turn that is played.
    pub(super) fn take_entry(&mut self, entry: &JournalEntryResource) {
        self.calls.take_entry(entry);
        self.spent.take_entry(entry);
        if entry.kind == "run_started"
            && let Ok(StartedFields { agent, session }) = serde_json::from_str(entry.fields.get())
        {
            self.played = Some((agent, session));
        }
    }

    /// Begins with another session, or with a new one.
    pub(super) fn enter_session(&mut self, session: Option<SessionId>) {
        self.session = session;
        self.spent = ChatSpending::default();
    }

    /// The text before what a person types.
    pub(super) fn prompt(&self, is_plain: bool) -> String {
        let parts = self.handle.iter().cloned().chain(self.spent.short_texts());
        let parts: Vec<String> = parts.collect();
        let separator = if is_plain { " - " } else { " · " };
        if parts.is_empty() { "> ".to_owned() } else { format!("{} > ", parts.join(separator)) }
    }
}

/// What a session cost, and how much of it the model was sent last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ChatSpending {
    pub(super) cost_micros: u64,
    /// Tokens of the last request and its answer: what the next request has before the next input.
    pub(super) context_tokens: u64,
    unpriced_calls: u64,
    has_calls: bool,
}

#[derive(Debug, Deserialize)]
struct RepliedFields {
    usage: TokenUsage,
}

impl ChatSpending {
    /// Counts a run of before.
    pub(super) fn add_run(&mut self, run: &RunResource) {
        self.add_calls(run.cost_micros, run.model_calls, run.unpriced_calls);
    }

    /// Counts the end of a run.
    pub(super) fn add_end(&mut self, end: &StreamEnd) {
        self.add_calls(end.cost_micros, end.model_calls, end.unpriced_calls);
    }

    fn add_calls(&mut self, cost_micros: u64, model_calls: u32, unpriced_calls: u32) {
        self.cost_micros += cost_micros;
        self.unpriced_calls += u64::from(unpriced_calls);
        self.has_calls |= model_calls > 0;
    }

    /// Reads the size of the context off an answer of the model.
    fn take_entry(&mut self, entry: &JournalEntryResource) {
        if entry.kind == "model_replied"
            && let Ok(RepliedFields { usage }) = serde_json::from_str(entry.fields.get())
        {
            self.context_tokens = u64::from(usage.input_tokens) + u64::from(usage.output_tokens);
        }
    }

    /// Writes the cost, and the context, each if it is known.
    fn short_texts(self) -> Vec<String> {
        let mut texts = Vec::new();
        if self.has_calls {
            texts.push(format_short_cost(self.cost_micros, self.unpriced_calls));
        }
        if self.context_tokens > 0 {
            texts.push(format!("{} ctx", short_count(self.context_tokens)));
        }
        texts
    }
}

/// Writes a number of tokens short.
pub(super) fn short_count(tokens: u64) -> String {
    if tokens < 1_000 { tokens.to_string() } else { format!("{}k", tokens / 1_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_shows_cost_and_context_once_they_are_known() {
        let mut state = ChatState::default();
        assert_eq!(state.prompt(false), "> ");
        state.handle = Some("ops".to_owned());
        assert_eq!(state.prompt(false), "ops > ");
        state.spent = ChatSpending {
            cost_micros: 12_300,
            context_tokens: 12_345,
            has_calls: true,
            ..ChatSpending::default()
        };
        assert_eq!(state.prompt(false), "ops · $0.0123 · 12k ctx > ");
        assert_eq!(state.prompt(true), "ops - $0.0123 - 12k ctx > ");
        state.spent.cost_micros = 0;
        assert_eq!(state.prompt(true), "ops - $0 - 12k ctx > ", "a model that is known to be free");
        state.spent.unpriced_calls = 2;
        assert_eq!(state.prompt(true), "ops - unpriced - 12k ctx > ");
    }
}
