//! How full a session's next request is, part by part.

use std::sync::Arc;

use dromia_contracts::compaction::ContextUse;
use dromia_contracts::model::{ModelRequest, PreparedAttempt};
use dromia_contracts::transcript::{Transcript, TranscriptTurn};
use dromia_contracts::{Fault, Scope, SessionId};

use super::CompactedSession;
use crate::agents::{AgentSnapshot, read_fault};
use crate::context::summary::ConversationSummary;
use crate::context::transcript::ConversationTranscript;
use crate::core::EngineCore;
use crate::encoded_request::SentRequestReader;
use crate::model_request::ModelRequestSpec;
use crate::refusal::session_not_found;
use crate::summary_reads::read_newest_summary;
use crate::window_use::{BEGIN_PERCENT, WindowUse, past_limits};

/// A session with the request that its next input would be added to.
pub(crate) struct SessionContext {
    /// The session, as a compaction needs it.
    pub(crate) compacted: CompactedSession,
    request: ModelRequest,
    prepared: PreparedAttempt,
    summary: Option<Arc<ConversationSummary>>,
    is_window_known: bool,
}

impl SessionContext {
    /// Builds the request as a turn would that begins now.
    pub(crate) async fn of_session(
        core: &Arc<EngineCore>,
        scope: &Scope,
        session: SessionId,
    ) -> Result<Self, Fault> {
        let store = &*core.ports.store;
        let found = store.session(scope, session).await.map_err(read_fault)?;
        let found = found.ok_or_else(|| session_not_found(session))?;
        let agent: Arc<AgentSnapshot> = core.caches.agents.agent_snapshot(scope, found.agent).await?;
        let agent = agent.within_session(scope.tenant(), &found.key);
        let summary = read_newest_summary(store, scope, agent.id, session).await.map_err(read_fault)?;
        let after = summary.as_ref().map_or(0, |summary| summary.upto());
        let limits = past_limits(core.window_tokens(&agent.config.model), after);
        let tail = store.session_tail(scope, session, limits).await.map_err(read_fault)?;
        let mut tail = tail.ok_or_else(|| session_not_found(session))?;
        tail.items.retain(|item| item.taken_by.is_some());
        let tainted_past = core.config().tainted_past;
        let (reader, origin) = (SentRequestReader::new(&core.ports), tail.session.origin.as_deref());
        let start = reader.read_start(scope, origin, summary.clone(), tainted_past).await?;
        let story = ConversationTranscript::from_tail(&tail, None, tainted_past, start);
        let mut story = story.map_err(|error| super::unreadable_fault(&error))?;
        story.close_past();
        let tools = agent.tools.offered_tools(&story, &agent.system);
        let request = story.build_model_request(ModelRequestSpec {
            model: &agent.config.model,
            system: &agent.system,
            tools,
            output_tokens_max: core.config().output_tokens_max,
            run: core.ports.runtime.run_id(),
            step: 1,
            concludes: false,
        });
        let prepared = prepare(core, &request)?;
        let used = WindowUse {
            input_tokens: prepared.input_tokens,
            output_tokens_max: prepared.output_tokens_max,
            window: prepared.window.unwrap_or(core.config().window_tokens),
        };
        let is_window_known = prepared.window.is_some();
        let compacted = CompactedSession { scope: scope.clone(), agent, session, used };
        Ok(Self { compacted, request, prepared, summary, is_window_known })
    }

    /// Counts the tokens of each part.
    pub(crate) fn count_parts(mut self, core: &Arc<EngineCore>) -> Result<ContextUse, Fault> {
        let WindowUse { input_tokens, output_tokens_max, window } = self.compacted.used;
        let percent = self.compacted.used.percent();
        let left_out = self.prepared.wording.left_out;
        self.request.tools = Arc::default();
        let without_tools = prepare(core, &self.request)?.input_tokens;
        self.request.system = Arc::from("");
        let conversation = prepare(core, &self.request)?.input_tokens;
        let turns = self.request.transcript.turns().to_vec();
        self.request.transcript = Transcript::default();
        let frame = prepare(core, &self.request)?.input_tokens;
        for turn in turns {
            if let TranscriptTurn::Summary(parts) = turn {
                self.request.transcript.push_summary(parts);
            }
        }
        let summary = prepare(core, &self.request)?.input_tokens;
        Ok(ContextUse {
            model: self.compacted.agent.config.model.clone(),
            window,
            is_window_known: self.is_window_known,
            system_tokens: without_tools.saturating_sub(conversation) + frame,
            tools_tokens: input_tokens.saturating_sub(without_tools),
            summary_tokens: summary.saturating_sub(frame),
            past_tokens: conversation.saturating_sub(summary),
            output_tokens_max,
            summaries: self.summary.map(|summary| summary.sections().to_vec()).unwrap_or_default(),
            left_out,
            percent,
            compaction_percent: BEGIN_PERCENT,
        })
    }
}

fn prepare(core: &Arc<EngineCore>, request: &ModelRequest) -> Result<PreparedAttempt, Fault> {
    core.ports.model.prepare_attempt(request).map_err(|error| Fault::new(error.code, error.message))
}
