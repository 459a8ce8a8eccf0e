//! What a client brings along, as a run sees it: its tools beside the agent's, its wishes, and what it says that its
//! tools gave.
//!
//! A client's tool never runs here and the tools' host never hears of it. A name that the agent has is the agent's:
//! it is refused when the input comes, and where the agent got the tool since, its own is offered.

use std::sync::Arc;

use dromia_contracts::client::{ClientTool, Offer, ToolChoice, Wishes};
use dromia_contracts::content::{Part, ToolCall, ToolResult, parts_text};
use dromia_contracts::label::Label;
use dromia_contracts::tool::{PrepareError, ToolDescriptor};
use serde_json::Value;

use crate::decide::Judgement;

/// What the newest input offers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    offer: Arc<Offer>,
    /// The agent's tools and the client's, once they were asked for.
    joined: Option<Arc<[ToolDescriptor]>>,
}

impl Client {
    pub(crate) fn new(offer: Offer) -> Self {
        Self { offer: Arc::new(offer), joined: None }
    }

    /// Tells whether a name is that of a client's tool, and not of one of the agent's own.
    pub(crate) fn has(&self, name: &str, own: &[ToolDescriptor]) -> bool {
        self.offer.tools.iter().any(|tool| tool.name == name) && !is_own(name, own)
    }

    /// The agent's tools and, after them, the client's.
    pub(crate) fn beside(&mut self, own: &Arc<[ToolDescriptor]>) -> Arc<[ToolDescriptor]> {
        if self.offer.tools.is_empty() {
            return Arc::clone(own);
        }
        let joined = self.joined.get_or_insert_with(|| {
            let others = self.offer.tools.iter().filter(|tool| !is_own(&tool.name, own));
            own.iter().cloned().chain(others.map(ClientTool::descriptor)).collect()
        });
        Arc::clone(joined)
    }

    /// The most tokens of an answer: the operator's bound, or less.
    pub(crate) fn output_tokens_max(&self, most: u32) -> u32 {
        self.offer.wishes.output_tokens_max.map_or(most, |wished| wished.min(most))
    }

    /// Goes on with the same offer in another run. A tool that must be called was called in the first.
    pub(crate) fn go_on(&mut self) {
        if !self.offer.wishes.choice.is_free() {
            Arc::make_mut(&mut self.offer).wishes.choice = ToolChoice::Free;
        }
    }

    /// What is wished of a model step. A tool that must be called is called in the first: a run of several steps would
    /// never come to its answer.
    pub(crate) fn wishes(&self, step: u32) -> Wishes {
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
pub(crate) fn taken<'a>(tools: &'a [ClientTool], own: &[ToolDescriptor]) -> Option<&'a ClientTool> {
    tools.iter().find(|tool| is_own(&tool.name, own))
}

/// Judges a call to a client's tool. Its schema is the client's to check; that the arguments are an object is what
/// every API promises its clients, so the model mends anything else itself.
pub(crate) fn judge(call: &ToolCall) -> Judgement {
    let problem = match serde_json::from_str::<Value>(&call.arguments) {
        Ok(Value::Object(_)) => return Judgement::ForClient,
        Ok(_) => "they are no JSON object".to_owned(),
        Err(error) => error.to_string(),
    };
    Judgement::Malformed(PrepareError::Arguments { tool: call.tool.clone(), problem })
}

/// What a client says of a call that does not wait for it any more.
pub(crate) fn late(result: &ToolResult) -> Vec<Part> {
    let text = parts_text(&result.parts);
    let text = format!("A result for a call that was closed already ({}):\n{text}", result.call);
    let pictures = result.parts.iter().filter(|part| part.is_image()).cloned();
    std::iter::once(Part::text(text, Label::CLAIM)).chain(pictures).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dromia_contracts::CallId;
    use dromia_contracts::content::{CallStatus, Media};
    use dromia_contracts::tool::EffectClass;

    fn tool(name: &str) -> ClientTool {
        let parameters = serde_json::json!({"type": "object"});
        ClientTool { name: name.into(), description: String::new(), parameters }
    }

    fn own() -> Arc<[ToolDescriptor]> {
        Arc::from([ToolDescriptor { effect: EffectClass::Pure, ..tool("time.now").descriptor() }])
    }

    #[test]
    fn a_name_that_the_agent_has_is_the_agents() {
        let offer = Offer { tools: vec![tool("weather"), tool("time.now")], wishes: Wishes::default() };
        assert_eq!(taken(&offer.tools, &own()).map(|tool| tool.name.as_str()), Some("time.now"));
        let mut client = Client::new(offer);
        let own = own();
        let joined = client.beside(&own);
        let names: Vec<_> = joined.iter().map(|tool| (tool.name.as_str(), tool.effect)).collect();
        assert_eq!(names, [("time.now", EffectClass::Pure), ("weather", EffectClass::Unkeyed)]);
        assert!(client.has("weather", &own) && !client.has("time.now", &own) && !client.has("moon", &own));
        assert!(Arc::ptr_eq(&joined, &client.beside(&own)), "it is joined once");
        assert!(Arc::ptr_eq(&own, &Client::default().beside(&own)), "without tools nothing is joined");
    }

    #[test]
    fn a_wish_lowers_a_bound_and_a_tool_is_required_in_the_first_step_only() {
        let wishes = Wishes { choice: ToolChoice::Required, output_tokens_max: Some(9), ..Wishes::default() };
        let mut client = Client::new(Offer { tools: vec![], wishes });
        assert_eq!((client.output_tokens_max(4), client.output_tokens_max(10)), (4, 9));
        assert_eq!(client.wishes(1).choice, ToolChoice::Required);
        assert_eq!(client.wishes(2).choice, ToolChoice::Free);
        client.go_on();
        assert_eq!(client.wishes(1), Wishes { output_tokens_max: Some(9), ..Wishes::default() });
    }

    #[test]
    fn a_late_result_is_told_with_its_pictures() {
        let image = Part::Image { media: Media::Png, data: "iVBORw0KGgo=".into(), label: Label::CLAIM };
        let parts = vec![Part::text("a", Label::CLAIM), image.clone(), Part::text("b", Label::CLAIM)];
        let call = CallId { step: 1, index: 0 };
        let told = late(&ToolResult { call, status: CallStatus::Ok, parts });
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
            assert_eq!(matches!(judge(&call), Judgement::ForClient), handed, "{arguments}");
        }
    }
}
