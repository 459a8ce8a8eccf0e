//! What a model is asked: the story told so far, with the prompt that the run is pinned to.
//!
//! One function makes the request, for the call that is made and for whoever looks at it later ([`crate::sent`]), so the
//! two cannot differ. Whatever else a request comes to depend on belongs into [`Asking`] or into the story.

use std::sync::Arc;

use dromia_contracts::RunId;
use dromia_contracts::model::ModelRequest;
use dromia_contracts::tool::ToolDescriptor;

use crate::story::Story;

/// What a request is made of beside the story.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
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
}

impl Story {
    /// Lends the transcript to a request; [`Story::keep`] takes it back, so nothing is copied.
    pub(crate) fn ask(&mut self, asking: Asking<'_>) -> ModelRequest {
        let Asking { model, system, tools, output_tokens_max, run, step } = asking;
        ModelRequest {
            model: model.to_owned(),
            system: Arc::clone(system),
            transcript: std::mem::take(&mut self.transcript),
            tools: self.client.beside(tools),
            output_tokens_max: self.client.output_tokens_max(output_tokens_max),
            wishes: self.client.wishes(step),
            key: format!("{run}:{step}"),
        }
    }

    /// Takes the transcript back.
    pub(crate) fn keep(&mut self, request: ModelRequest) {
        self.transcript = request.transcript;
    }
}
