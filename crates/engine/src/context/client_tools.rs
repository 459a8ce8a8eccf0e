//! What a client sends, as a run sees it: its tools beside the agent's, its sampling options, and the results of its
//! tools.
//!
//! A client's tool never runs here and never reaches the tool host. A name of an agent's tool belongs to the agent: the
//! input is refused, and if the agent got the tool since, the agent's is offered.

use std::sync::Arc;

use dromia_contracts::answer_format::AnswerFormat;
use dromia_contracts::client::{ClientOptions, ClientTool, SamplingOptions, ToolChoice};
use dromia_contracts::content::{ContentPart, ToolCall, ToolResult, parts_text};
use dromia_contracts::label::Label;
use dromia_contracts::tool::{PrepareError, ToolDescriptor};
use dromia_contracts::transcript::OpenUnit;
use dromia_contracts::{CallId, RunId};
use serde_json::Value;

use crate::byte_count::count_bytes;
use crate::decide::CallJudgement;

/// What the newest input offers.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientToolset {
    offer: Arc<ClientOptions>,
    /// The agent's tools and the client's, once they were asked for.
    joined: Option<Arc<[ToolDescriptor]>>,
}

/// What a conversation knows of its client: what the newest input offers, and the calls that the client has.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClientToolState {
    /// The client tools and options of the newest input.
    pub(crate) offered: ClientToolset,
    /// The calls of the open unit that are the client's.
    pub(super) handed: Vec<CallId>,
    /// Whether the run has completed, so that the client has its calls.
    pub(super) completed: bool,
    /// The unit with which a run ended, because its last calls are a client's.
    pub(super) waiting: Option<(RunId, OpenUnit)>,
}

impl ClientToolset {
    pub(crate) fn new(offer: ClientOptions) -> Self {
        Self { offer: Arc::new(offer), joined: None }
    }

    /// Returns about how many bytes it holds, without the agent's tools.
    pub(crate) fn held_bytes(&self) -> usize {
        count_bytes(&*self.offer)
    }

    /// Forgets the agent's tools, which the next owner of the run joins again.
    pub(crate) fn forget_agent_tools(&mut self) {
        self.joined = None;
    }

    /// Tells whether a name is that of a client's tool, and not of one of the agent's own.
    pub(crate) fn has_tool(&self, name: &str, own: &[ToolDescriptor]) -> bool {
        self.offer.tools.iter().any(|tool| tool.name == name) && !is_own(name, own)
    }

    /// The agent's tools and, after them, the client's.
    pub(crate) fn join_agent_tools(&mut self, own: &Arc<[ToolDescriptor]>) -> Arc<[ToolDescriptor]> {
        if self.offer.tools.is_empty() {
            return Arc::clone(own);
        }
        let joined = self.joined.get_or_insert_with(|| {
            let others = self.offer.tools.iter().filter(|tool| !is_own(&tool.name, own));
            own.iter().cloned().chain(others.map(ClientTool::to_descriptor)).collect()
        });
        Arc::clone(joined)
    }

    /// The most tokens of an answer: the operator's bound, or less.
    pub(crate) fn output_tokens_max(&self, most: u32) -> u32 {
        self.offer.wishes.output_tokens_max.map_or(most, |wished| wished.min(most))
    }

    /// The form that the last answer must have, if its client wants one.
    pub(crate) fn answer_format(&self) -> Option<AnswerFormat> {
        self.offer.wishes.answer.clone()
    }

    /// Adds to the system text what the last answer must be.
    pub(crate) fn extend_system(&self, system: &Arc<str>) -> Arc<str> {
        match &self.offer.wishes.answer {
            None => Arc::clone(system),
            Some(format) if system.is_empty() => format.instruction().into(),
            Some(format) => format!("{system}\n\n{}", format.instruction()).into(),
        }
    }

    /// Continues with the same client options in another run. The first run has called a tool that must be called.
    pub(crate) fn go_on(&mut self) {
        if !self.offer.wishes.choice.is_free() {
            Arc::make_mut(&mut self.offer).wishes.choice = ToolChoice::Free;
        }
    }

    /// The sampling options of a model step. Only the first step must call a required tool: otherwise a run of several
    /// steps would never come to its answer.
    pub(crate) fn sampling_options(&self, step: u32) -> SamplingOptions {
        let mut wishes = self.offer.wishes.clone();
        if step > 1 {
            wishes.choice = ToolChoice::Free;
        }
        wishes
    }
}

fn is_own(name: &str, own: &[ToolDescriptor]) -> bool {
    own.iter().any(|tool| tool.name == name)
}

/// Finds the first tool of a client whose name the agent has.
pub(crate) fn find_name_clash<'a>(tools: &'a [ClientTool], own: &[ToolDescriptor]) -> Option<&'a ClientTool> {
    tools.iter().find(|tool| is_own(&tool.name, own))
}

/// Judges a call to a client's tool. Its schema is the client's to check; that the arguments are an object is what
/// every API promises its clients, so the model corrects anything else itself.
pub(crate) fn judge_client_call(call: &ToolCall) -> CallJudgement {
    let problem = match serde_json::from_str::<Value>(&call.arguments) {
        Ok(Value::Object(_)) => return CallJudgement::ForClient,
        Ok(_) => "the arguments are not a JSON object".to_owned(),
        Err(error) => error.to_string(),
    };
    CallJudgement::Malformed(PrepareError::Arguments { tool: call.tool.clone(), problem })
}

/// The input parts for a client's result of a call that is already closed.
pub(crate) fn late_result_parts(result: &ToolResult) -> Vec<ContentPart> {
    let text = parts_text(&result.parts);
    let text = format!("A result for a call that was closed already ({}):\n{text}", result.call);
    let pictures = result.parts.iter().filter(|part| part.is_image()).cloned();
    std::iter::once(ContentPart::new_text(text, Label::CLAIM)).chain(pictures).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dromia_contracts::content::{CallStatus, ImageMediaType};
    use dromia_contracts::tool::EffectClass;

    fn tool(name: &str) -> ClientTool {
        let parameters = serde_json::json!({"type": "object"});
        ClientTool { name: name.into(), description: String::new(), parameters }
    }

    fn own() -> Arc<[ToolDescriptor]> {
        Arc::from([ToolDescriptor { effect: EffectClass::Pure, ..tool("time.now").to_descriptor() }])
    }

    #[test]
    fn a_name_that_the_agent_has_is_the_agents() {
        let offer = ClientOptions {
            tools: vec![tool("weather"), tool("time.now")],
            wishes: SamplingOptions::default(),
        };
        assert_eq!(find_name_clash(&offer.tools, &own()).map(|tool| tool.name.as_str()), Some("time.now"));
        let mut client = ClientToolset::new(offer);
        let own = own();
        let joined = client.join_agent_tools(&own);
        let names: Vec<_> = joined.iter().map(|tool| (tool.name.as_str(), tool.effect)).collect();
        assert_eq!(names, [("time.now", EffectClass::Pure), ("weather", EffectClass::Unkeyed)]);
        assert!(
            client.has_tool("weather", &own)
                && !client.has_tool("time.now", &own)
                && !client.has_tool("moon", &own)
        );
        assert!(Arc::ptr_eq(&joined, &client.join_agent_tools(&own)), "it is joined once");
        assert!(
            Arc::ptr_eq(&own, &ClientToolset::default().join_agent_tools(&own)),
            "without tools nothing is joined"
        );
    }

    #[test]
    fn a_client_option_lowers_bounds_and_requires_tools_once() {
        let wishes = SamplingOptions {
            choice: ToolChoice::Required,
            output_tokens_max: Some(9),
            ..SamplingOptions::default()
        };
        let mut client = ClientToolset::new(ClientOptions { tools: vec![], wishes });
        assert_eq!((client.output_tokens_max(4), client.output_tokens_max(10)), (4, 9));
        assert_eq!(client.sampling_options(1).choice, ToolChoice::Required);
        assert_eq!(client.sampling_options(2).choice, ToolChoice::Free);
        client.go_on();
        assert_eq!(
            client.sampling_options(1),
            SamplingOptions { output_tokens_max: Some(9), ..SamplingOptions::default() }
        );
    }

    #[test]
    fn a_late_result_keeps_its_pictures() {
        let image = ContentPart::Image {
            media: ImageMediaType::Png,
            data: "iVBORw0KGgo=".into(),
            label: Label::CLAIM,
        };
        let parts = vec![
            ContentPart::new_text("a", Label::CLAIM),
            image.clone(),
            ContentPart::new_text("b", Label::CLAIM),
        ];
        let call = CallId { step: 1, index: 0 };
        let told = late_result_parts(&ToolResult { call, status: CallStatus::Ok, parts });
        assert_eq!(told.len(), 2);
        assert!(told[0].as_text().ends_with("(call_1_0):\na\nb"), "{told:?}");
        assert_eq!(told[1], image);
    }

    #[test]
    fn only_an_object_is_handed_on() {
        for (arguments, handed) in
            [("{}", true), ("{\"a\":1}", true), ("[]", false), ("{", false), ("", false)]
        {
            let id = CallId { step: 1, index: 0 };
            let call = ToolCall { id, tool: "weather".into(), arguments: arguments.into() };
            assert_eq!(matches!(judge_client_call(&call), CallJudgement::ForClient), handed, "{arguments}");
        }
    }
}
