//! The number of tokens of an input's first request, before it is sent.
//!
//! The request is made as for the first turn of a session that has nothing yet, by the functions that make it for a run.
//! Nothing is written, no model is asked and nothing is judged, so the number says nothing of what the agent may do.
//! It is the one that decides what fits the model's window: on the safe side, and not what a provider would report.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::input::InputBody;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::{AgentId, ErrorCode, Fault, Scope};

use crate::agents::AgentDirectory;
use crate::config::EngineConfig;
use crate::context::transcript::ConversationTranscript;
use crate::core::EngineCore;
use crate::model_request::ModelRequestSpec;
use crate::ports::EnginePorts;
use crate::refusal::agent_terminated;
use crate::submit::encode_input;

/// Counts the tokens of requests that are not sent.
pub(crate) struct RequestTokenCount<'a> {
    ports: &'a EnginePorts,
    agents: &'a AgentDirectory,
    config: Arc<EngineConfig>,
}

impl<'a> RequestTokenCount<'a> {
    /// Begins with the parts that it needs.
    pub(crate) fn new(core: &'a EngineCore) -> Self {
        Self { ports: &core.ports, agents: &core.caches.agents, config: core.config() }
    }

    /// Counts the tokens of the request that an input begins, as it would be sent: without what does not fit.
    pub(crate) async fn count_input_tokens(
        &self,
        scope: &Scope,
        agent: AgentId,
        body: InputBody,
    ) -> Result<u32, Fault> {
        let agent = self.agents.agent_snapshot(scope, agent).await?;
        if matches!(agent.state, AgentState::Terminated | AgentState::Deleting) {
            return Err(agent_terminated(agent.id));
        }
        agent.check_offer(&body.offer)?;
        let runtime = &self.ports.runtime;
        let item = InboxItem {
            id: runtime.item_id(),
            position: 0,
            at: runtime.clock.now(),
            kind: ItemKind::Input,
            body: Some(encode_input(&body)?),
            author: body.message.author,
            taken_by: None,
        };
        let mut story = ConversationTranscript::new(1);
        story.add_item(&item).map_err(|error| Fault::new(ErrorCode::Internal, error.to_string()))?;
        let request = story.build_model_request(ModelRequestSpec {
            model: &agent.config.model,
            system: &agent.system,
            tools: agent.tools.offered_tools(&story, &agent.system),
            output_tokens_max: self.config.output_tokens_max,
            run: runtime.run_id(),
            step: 1,
            concludes: false,
        });
        let prepared = self.ports.model.prepare_attempt(&request);
        Ok(prepared.map_err(|error| Fault::new(error.code, error.message))?.input_tokens)
    }
}
