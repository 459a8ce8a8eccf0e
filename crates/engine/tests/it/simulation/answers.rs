//! Calls that are handed to a client, and what comes back for them.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::client::{ClientOptions, ClientTool, ClientToolResults, SamplingOptions};
use dromia_contracts::content::{CallStatus, ContentPart, ToolResult};
use dromia_contracts::label::Label;
use dromia_contracts::runs::{EnginePort as _, ImportLabels, InputReceipt, InputTarget, NewInput};
use dromia_contracts::store::{ItemKey, KeyLifetime};
use dromia_contracts::tool::ToolDescriptor;
use dromia_contracts::{Actor, CallId, Digest, ErrorCode, Fault, RunId, SessionId};

use super::ports::descriptors;
use super::rests::Scene;
use super::world::scope_of;

/// What a client's tool gave for the first call of a run.
fn gave(run: RunId, text: &str) -> ClientToolResults {
    let call = CallId { step: 1, index: 0 };
    let parts = vec![ContentPart::new_text(text, Label::CLAIM)];
    ClientToolResults { run, results: vec![ToolResult { call, status: CallStatus::Ok, parts }] }
}

impl Scene {
    /// Sends an input that offers a tool, and lets its run end.
    fn offer(
        &mut self,
        target: InputTarget,
        answers: Option<ClientToolResults>,
        text: &str,
    ) -> Result<InputReceipt, Fault> {
        self.offer_under(None, target, answers, text)
    }

    fn offer_under(
        &mut self,
        key: Option<ItemKey>,
        target: InputTarget,
        answers: Option<ClientToolResults>,
        text: &str,
    ) -> Result<InputReceipt, Fault> {
        let parameters = serde_json::json!({"type": "object"});
        let tool = ClientTool { name: "weather".to_owned(), description: String::new(), parameters };
        let parts =
            if text.is_empty() { vec![] } else { vec![ContentPart::new_text(text, Label::ACTOR_TEXT)] };
        let input = NewInput {
            target,
            author: Actor::new("cli:ada"),
            history: Vec::new(),
            answers,
            offer: ClientOptions { tools: vec![tool], wishes: SamplingOptions::default() },
            call: None,
            workspace: None,
            when_busy: None,
            parts,
            key,
            wait: false,
        };
        let submitted = self.engine.submit_input(scope_of(self.world.tenants[0]), input);
        let submitted = self.sim.block_on(submitted).expect("submitting ends");
        self.pass(2_000);
        submitted
    }

    /// Sends a plan to the first place; gives the session and the run.
    fn first(&mut self, plan: &str) -> (SessionId, RunId) {
        let place = &self.world.places[0];
        let target = InputTarget::Key { agent: place.agent, key: place.key.clone() };
        let text = format!("r{plan}|{}|{plan}", place.name);
        let first = self.offer(target, None, &text).expect("nothing fails");
        (first.session, self.run().id)
    }

    /// The runs of a session, those that handed calls over first.
    fn runs_of(&self, session: SessionId) -> Vec<RunId> {
        let tenant = self.world.tenants[0];
        let runs = self.world.runs(tenant).into_iter().filter(|run| run.session == session);
        let mut runs: Vec<_> = runs.map(|run| run.id).collect();
        runs.sort_by_key(|run| {
            !self.world.journal(tenant, *run).iter().any(|entry| entry.kind == "tool_handed")
        });
        runs
    }
}

#[test]
fn an_exported_answer_is_not_answered_again_after_import() {
    let mut scene = Scene::new(31);
    let (session, run) = scene.first("weather");
    scene.offer(InputTarget::Session(session), Some(gave(run, "rain")), "").expect("the call is open");
    assert_eq!(scene.runs_of(session).len(), 2);

    let (scope, agent) = (scope_of(scene.world.tenants[0]), scene.world.places[0].agent);
    let file = scene.engine.export_session(scope.clone(), session);
    let file = scene.sim.block_on(file).expect("it ends").expect("nothing fails").file;
    let copy = scene.engine.import_session(scope, agent, file, ImportLabels::Doubted, None);
    let copy = scene.sim.block_on(copy).expect("it ends").expect("nothing fails");
    let runs = scene.runs_of(copy);
    assert_eq!(runs.len(), 2, "{runs:?}");
    let again = scene.offer(InputTarget::Session(copy), Some(gave(runs[0], "rain")), "").expect("it joins");
    assert_eq!((again.replayed, again.run), (true, Some(runs[1])));
    let fault =
        scene.offer(InputTarget::Session(copy), Some(gave(runs[0], "sun")), "").expect_err("it is another");
    assert_eq!(fault.code, ErrorCode::CallNotOpen, "{fault}");
    assert_eq!(scene.runs_of(copy), runs);
}

#[test]
fn repeated_late_results_join_the_run_that_took_them() {
    let mut scene = Scene::new(33);
    let (session, run) = scene.first("weather");
    scene.offer(InputTarget::Session(session), Some(gave(run, "rain")), "").expect("the call is open");
    scene.offer(InputTarget::Session(session), None, "never mind").expect("nothing fails");
    let (scope, agent) = (scope_of(scene.world.tenants[0]), scene.world.places[0].agent);
    let file = scene.engine.export_session(scope.clone(), session);
    let file = scene.sim.block_on(file).expect("it ends").expect("nothing fails").file;
    // As if the message had slipped in before the results.
    let mut file: serde_json::Value = serde_json::from_slice(&file).expect("it is JSON");
    for list in ["items", "runs"] {
        file[list].as_array_mut().expect("a list").swap(1, 2);
    }
    let file = file.to_string().into_bytes();
    let copy = scene.engine.import_session(scope, agent, file, ImportLabels::Doubted, None);
    let copy = scene.sim.block_on(copy).expect("it ends").expect("nothing fails");
    let runs = scene.runs_of(copy);
    assert_eq!(runs.len(), 3, "{runs:?}");
    let again = scene.offer(InputTarget::Session(copy), Some(gave(runs[0], "rain")), "").expect("it joins");
    assert!(again.replayed && again.run.is_some_and(|run| runs[1..].contains(&run)), "{again:?}");
    assert_eq!(scene.runs_of(copy), runs);
}

#[test]
fn a_run_that_handed_nothing_over_takes_no_results() {
    let mut scene = Scene::new(32);
    let (session, run) = scene.first("look");
    for answers in [gave(run, "rain"), ClientToolResults { run, results: Vec::new() }] {
        let fault =
            scene.offer(InputTarget::Session(session), Some(answers), "").expect_err("no call is open");
        assert_eq!(fault.code, ErrorCode::InvalidRequest, "{fault}");
    }
    assert_eq!(scene.runs_of(session), [run]);
}

/// A key, and of what the request under it is the digest.
fn keyed(key: &str, request: u8) -> ItemKey {
    let request = Digest::from_bytes([request; 32]);
    ItemKey { key: key.to_owned(), request, lifetime: KeyLifetime::Day }
}

#[test]
fn a_repeat_joins_its_run_despite_a_new_refusal() {
    let mut scene = Scene::new(34);
    let place = &scene.world.places[0];
    let (tenant, agent, key) = (place.tenant, place.agent, place.key.clone());
    let text = format!("rlook|{}|look", place.name);
    let target = || InputTarget::Key { agent, key: key.clone() };
    let first = scene.offer_under(Some(keyed("k", 1)), target(), None, &text).expect("nothing fails");
    let run = scene.run().id;
    let repeat = |scene: &mut Scene, refused: ErrorCode| {
        let again = scene.offer_under(Some(keyed("k", 1)), target(), None, &text).expect("it joins");
        assert_eq!((again.replayed, again.item, again.run), (true, first.item, Some(run)), "{refused:?}");
        // Another key, another request under the key, and none at all were never let in.
        for key in [Some(keyed("l", 1)), Some(keyed("k", 2)), None] {
            let fault = scene.offer_under(key, target(), None, &text).expect_err("it is refused");
            assert_eq!(fault.code, refused, "{fault}");
        }
        assert_eq!(scene.world.runs(tenant).len(), 1);
    };

    // The next program gives agents a tool with the name of the client's.
    let mut tools = descriptors();
    tools.push(ToolDescriptor { name: "weather".to_owned(), ..tools[0].clone() });
    scene.world.outside = Arc::new(scene.world.outside.with_tools(tools));
    scene.crash();
    scene.engine.start();
    repeat(&mut scene, ErrorCode::InvalidRequest);

    // The one after it does not, and the agent ends.
    scene.world.outside = Arc::new(scene.world.outside.with_tools(descriptors()));
    scene.crash();
    scene.engine.start();
    let ended = scene.engine.agent_set_state(scope_of(tenant), agent, AgentState::Terminated);
    scene.sim.block_on(ended).expect("it ends").expect("nothing fails");
    repeat(&mut scene, ErrorCode::AgentTerminated);
}
