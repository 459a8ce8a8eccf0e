//! The request to a model: the transcript so far, with the prompt that the run is pinned to.
//!
//! One function makes the request, for the call that is made and for its later reconstruction ([`crate::sent`]), so the
//! two cannot differ. Everything else that a request comes to depend on belongs in [`ModelRequestSpec`] or in the
//! transcript.

use std::sync::Arc;

use dromia_contracts::content::{ContentPart, InputMessage};
use dromia_contracts::label::Label;
use dromia_contracts::model::ModelRequest;
use dromia_contracts::tool::ToolDescriptor;
use dromia_contracts::transcript::TranscriptTurn;
use dromia_contracts::{Actor, RunId, SessionId};

use crate::context::transcript::ConversationTranscript;

/// What a request is made of beside the transcript.
#[derive(Clone, Copy)]
pub(crate) struct ModelRequestSpec<'a> {
    /// The alias of the model.
    pub(crate) model: &'a str,
    /// The system text.
    pub(crate) system: &'a Arc<str>,
    /// The tools.
    pub(crate) tools: &'a Arc<[ToolDescriptor]>,
    /// The most tokens the answer may have.
    pub(crate) output_tokens_max: u32,
    /// The run that asks.
    pub(crate) run: RunId,
    /// The model step.
    pub(crate) step: u32,
    /// Whether it asks for a conclusion, without tools.
    pub(crate) concludes: bool,
}

/// What asks for a conclusion at the last model call of a run.
const CONCLUDE: &str = "[This is your last step: no tool can be called any more. Answer now with what you have, and say what is \
                        still missing.]";

impl ConversationTranscript {
    /// Returns whether the model can know a session to send to: the system text or the transcript contains the id of
    /// one.
    pub(crate) fn names_a_session(&self, system: &str) -> bool {
        let told = |parts: &[ContentPart]| {
            parts.iter().any(|part| !part.is_image() && holds_session(part.as_text()))
        };
        holds_session(system)
            || self.transcript.turns().iter().any(|turn| match turn {
                TranscriptTurn::Input(message) => told(&message.parts),
                TranscriptTurn::Summary(parts) => told(parts),
                TranscriptTurn::Unit(unit) => {
                    told(&unit.message().parts) || unit.results().iter().any(|result| told(&result.parts))
                }
            })
    }

    /// Lends the transcript to a request; [`ConversationTranscript::restore_transcript`] takes it back, so nothing is copied.
    pub(crate) fn build_model_request(&mut self, asking: ModelRequestSpec<'_>) -> ModelRequest {
        let ModelRequestSpec { model, system, tools, output_tokens_max, run, step, concludes } = asking;
        self.insert_briefing();
        if concludes {
            let parts = vec![ContentPart::new_text(CONCLUDE, Label::PUBLIC_FACT)];
            self.transcript.push_input(InputMessage { author: Actor::new("engine"), parts, hops: self.hops });
        }
        let tools = if concludes { Arc::default() } else { self.client.offered.join_agent_tools(tools) };
        ModelRequest {
            model: model.to_owned(),
            system: self.client.offered.extend_system(system),
            transcript: std::mem::take(&mut self.transcript),
            tools,
            output_tokens_max: self.client.offered.output_tokens_max(output_tokens_max),
            wishes: self.client.offered.sampling_options(step),
            key: format!("{run}:{step}"),
        }
    }

    /// Takes the transcript back, without the words that only this request had.
    pub(crate) fn restore_transcript(&mut self, request: ModelRequest, concludes: bool) {
        self.transcript = request.transcript;
        if concludes {
            self.transcript.pop_turn();
        }
        self.remove_briefing();
    }
}

/// Returns whether a text contains the id of a session.
fn holds_session(text: &str) -> bool {
    const PREFIX: &str = "ses_";
    const BYTES: usize = PREFIX.len() + 32;
    let id = |at: usize| text.get(at..at + BYTES).is_some_and(|id| id.parse::<SessionId>().is_ok());
    text.match_indices(PREFIX).any(|(at, _)| id(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_is_found_in_text_only_when_complete() {
        let id = SessionId::from_bytes([7; 16]).to_string();
        for (text, holds) in [
            (format!("tell {id}, please"), true),
            (id.clone(), true),
            (format!("ses_, sess_x, {id}"), true),
            (id[..20].to_owned(), false),
            (format!("ses_{}", "ä".repeat(20)), false),
            ("nobody".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(holds_session(&text), holds, "{text}");
        }
    }
}
