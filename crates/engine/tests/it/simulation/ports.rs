//! The outside of the engine: a model that follows the plan in its input, a tool per effect class, a gate, homes.
//!
//! Model and tools decide nothing by themselves: what they do is written in the input, so a request that is
//! rebuilt after a crash gets the same answer. Only whether and when they fail is drawn by the seed.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::agent::AgentConfig;
use dromia_contracts::content::{ContentPart, InputMessage, ToolCall, parts_text};
use dromia_contracts::encoded_request::{RequestEncoding, TaintedPast};
use dromia_contracts::entry::Entry;
use dromia_contracts::file::{FileLabel, FileLabels};
use dromia_contracts::gate::{Gate, GateAction, GateVerdict, Principal, RightsHold};
use dromia_contracts::input::InputBody;
use dromia_contracts::label::Label;
use dromia_contracts::model::{
    DeltaSink, FinishReason, LanguageModel, ModelError, ModelReply, ModelRequest, PreparedAttempt,
    ProposedCall, TokenUsage, UsageDetail,
};
use dromia_contracts::plan::DECLARE;
use dromia_contracts::redacted_history;
use dromia_contracts::runs::HomeDirectories;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::sandbox::ProcessLimits;
use dromia_contracts::session::{InboxOwner, ItemKind};
use dromia_contracts::store::{InboxPut, ItemKey, KeyLifetime, Store as _, StoredEntry};
use dromia_contracts::tool::{
    ArgumentRole, CallProgressSink, EffectClass, EffectSink, LIVE_PIECE_BYTES_MAX, PrepareError,
    PreparedCall, Sensitivity, ToolContext, ToolDescriptor, ToolHost, ToolOutput,
};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::transcript::TranscriptTurn;
use dromia_contracts::workspace::WorkspaceReference;
use dromia_contracts::{Actor, AgentId, BoxFuture, CallId, Digest, ErrorCode, Fault, RunId, Scope, TenantId};
use dromia_testkit::ReferenceStore;

use super::approvals::GATED;
use super::opinions::SECOND;
use super::plans::WIRE;
use super::witness::{Execution, Witness};
use super::world::{Chance, Lie, at_once};

/// The tools: each name with what a repeated call truly may do.
pub(crate) const TOOLS: [(&str, EffectClass); 11] = [
    ("fetch", EffectClass::Pure),
    ("forbidden", EffectClass::Pure),
    (GATED, EffectClass::Unkeyed),
    ("look", EffectClass::Pure),
    (redacted_history::READ, EffectClass::Pure),
    ("pay", EffectClass::Keyed),
    (DECLARE, EffectClass::Pure),
    ("post", EffectClass::Unkeyed),
    ("send", EffectClass::Transactional),
    ("set", EffectClass::Idempotent),
    (WIRE, EffectClass::Idempotent),
];

/// The configuration of a simulated agent.
pub(crate) fn config(model_calls_max: u32) -> AgentConfig {
    AgentConfig {
        model: "script".to_owned(),
        instructions: "Follow the plan.".to_owned(),
        grants: vec!["*".to_owned()],
        model_calls_max: Some(model_calls_max),
        ..AgentConfig::default()
    }
}

/// What model and tools share.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) witness: Arc<Witness>,
    pub(crate) chance: Arc<Chance>,
    pub(crate) runtime: Runtime,
    pub(crate) truth: ReferenceStore,
    pub(crate) lie: Option<Lie>,
    /// Whether calls fail at the moment.
    pub(crate) storm: AtomicBool,
    /// Whether one engine at a time works, so that two runs of a session at once are wrong.
    pub(crate) alone: bool,
    /// Whether the gated tool is put off, and asks nobody.
    pub(crate) delays: bool,
    pub(crate) catalogue: ToolCatalogue,
    /// Whether requests are written in other words than at first, as another program may write them.
    pub(crate) other_words: AtomicBool,
}

impl Outside {
    /// The same outside with other tools to show.
    pub(crate) fn with_tools(&self, descriptors: Vec<ToolDescriptor>) -> Self {
        Self {
            witness: Arc::clone(&self.witness),
            chance: Arc::clone(&self.chance),
            runtime: self.runtime.clone(),
            truth: self.truth.clone(),
            lie: self.lie,
            storm: AtomicBool::new(self.storm.load(Ordering::SeqCst)),
            alone: self.alone,
            delays: self.delays,
            catalogue: ToolCatalogue::from_builtins(descriptors),
            other_words: AtomicBool::new(self.other_words.load(Ordering::SeqCst)),
        }
    }

    fn storms(&self, one_in: usize) -> bool {
        self.storm.load(Ordering::SeqCst) && self.chance.one_in(one_in)
    }

    async fn sleep(&self, milliseconds: usize) {
        self.runtime.clock.sleep(Duration::from_millis(milliseconds as u64)).await;
    }

    fn journal(&self, tenant: TenantId, run: RunId) -> Vec<Entry> {
        let scope = super::world::scope_of(tenant);
        let mut stored = Vec::new();
        loop {
            let after = stored.len() as u64;
            let page = at_once(self.truth.journal_entries(&scope, run, after, 256)).expect("it reads");
            if page.is_empty() {
                return stored.iter().filter_map(|entry: &StoredEntry| entry.decode().ok()).collect();
            }
            stored.extend(page);
        }
    }
}

/// The tools that a session's descriptors show.
pub(crate) fn descriptors() -> Vec<ToolDescriptor> {
    let descriptor = |(name, effect): (&str, EffectClass)| ToolDescriptor {
        name: name.to_owned(),
        description: format!("Does {name}."),
        parameters: serde_json::json!({"type": "object"}),
        effect,
        roles: if name == WIRE { vec![("to".to_owned(), ArgumentRole::Destination)] } else { Vec::new() },
        result_label: Label::PUBLIC_FACT,
        sensitivity: Sensitivity::Low,
        records: None,
    };
    TOOLS.into_iter().map(descriptor).collect()
}

/// An input's text, read: its name, the place it was sent to, and the calls of each step.
struct Plan<'a> {
    name: &'a str,
    place: &'a str,
    steps: Vec<Vec<&'a str>>,
}

impl<'a> Plan<'a> {
    fn read(text: &'a str) -> Self {
        let mut fields = text.split('|');
        let name = fields.next().unwrap_or_default();
        let place = fields.next().unwrap_or_default();
        let steps = fields.next().unwrap_or_default().split(';').filter(|step| !step.is_empty());
        Self { name, place, steps: steps.map(|step| step.split(',').collect()).collect() }
    }
}

/// What the model says at the end of the run that takes an input.
pub(crate) fn answer_to(text: &str) -> String {
    format!("done {}", Plan::read(text).name)
}

/// Ends an attempt in the book, also when its future is dropped.
struct Asking<'a> {
    outside: &'a Outside,
    place: String,
    run: RunId,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.outside.witness.book().asked(&self.place, self.run);
    }
}

impl LanguageModel for Outside {
    fn knows_alias(&self, alias: &str) -> bool {
        alias == "script" || alias == SECOND
    }

    /// Anything fits but an input that calls itself endless.
    fn prepare_attempt(&self, request: &ModelRequest) -> Result<PreparedAttempt, ModelError> {
        let newest = request.transcript.turns().iter().rev().find_map(|turn| match turn {
            TranscriptTurn::Input(message) => Some(parts_text(&message.parts)),
            TranscriptTurn::Unit(_) | TranscriptTurn::Summary(_) => None,
        });
        if newest.is_some_and(|text| text.contains("endless")) {
            let message = "it is endless".to_owned();
            return Err(ModelError { code: ErrorCode::ContextExceeded, message, retry_after: None });
        }
        let wording = RequestEncoding {
            by: None,
            form: "script/1".to_owned(),
            model: "script".to_owned(),
            whole: true,
            limit: None,
            left_out: 0,
            shortened: 0,
            tainted_past: TaintedPast::Whole,
            answer_field: false,
            concludes: false,
        };
        let body = self.encode_request(&wording, request)?;
        let output_tokens_max = request.output_tokens_max;
        Ok(PreparedAttempt {
            wording,
            body,
            input_tokens: 10,
            output_tokens_max,
            reserved_micros: 7,
            priced: true,
            window: None,
        })
    }

    fn encode_request(&self, _: &RequestEncoding, request: &ModelRequest) -> Result<Bytes, ModelError> {
        let ModelRequest { system, transcript, tools, output_tokens_max, .. } = request;
        let other = if self.other_words.load(Ordering::SeqCst) { "!" } else { "" };
        Ok(format!("{system} {tools:?} {transcript:?} {output_tokens_max}{other}").into())
    }

    fn call_model<'a>(
        &'a self,
        request: &'a ModelRequest,
        prepared: &'a PreparedAttempt,
        deltas: &'a dyn DeltaSink,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(async move {
            if self.encode_request(&prepared.wording, request).as_ref() != Ok(&prepared.body) {
                self.witness.blame("J4", "what is sent is not what was prepared");
            }
            if request.model == SECOND {
                return self.opinion(request).await;
            }
            let turns = request.transcript.turns();
            let said = |turn: &TranscriptTurn| match turn {
                TranscriptTurn::Input(message) => Some(parts_text(&message.parts)),
                TranscriptTurn::Unit(_) | TranscriptTurn::Summary(_) => None,
            };
            let last = turns.iter().rposition(|turn| matches!(turn, TranscriptTurn::Input(_)));
            let text = last.and_then(|at| said(&turns[at])).unwrap_or_default();
            let step = turns.len() - last.map_or(0, |at| at + 1);
            let plan = Plan::read(&text);
            let run: RunId =
                request.key.split(':').next().unwrap_or_default().parse().expect("the key names the run");
            {
                let mut book = self.witness.book();
                *book.attempts.entry(request.key.clone()).or_default() += 1;
                // What the engine says by itself names no place.
                book.ask(plan.place, run, self.alone && !plan.place.is_empty());
            }
            let _asking = Asking { outside: self, place: plan.place.to_owned(), run };
            deltas.push_delta("well");
            if self.storms(3) {
                self.sleep(self.chance.below(4_000)).await;
            }
            if let Some(code) = self.failure() {
                let retry_after = self.chance.one_in(3).then(|| Duration::from_millis(100));
                return Err(ModelError { code, message: "the model is unwell".to_owned(), retry_after });
            }
            let calls: Vec<ProposedCall> = plan.steps.get(step).map_or_else(Vec::new, |calls| {
                calls.iter().enumerate().map(|(index, call)| propose(plan.name, step, index, call)).collect()
            });
            let finish = if calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls };
            let text = if calls.is_empty() { answer_to(&text) } else { String::new() };
            let usage = TokenUsage { input_tokens: 10, output_tokens: 5 };
            let detail = UsageDetail::default();
            Ok(ModelReply { text, calls, usage, detail, cost_micros: 3, finish, stopped_at: None })
        })
    }
}

impl Outside {
    /// A second model goes along with everybody but eve, after some time.
    async fn opinion(&self, request: &ModelRequest) -> Result<ModelReply, ModelError> {
        let text = |turn: &TranscriptTurn| match turn {
            TranscriptTurn::Input(message) => parts_text(&message.parts),
            TranscriptTurn::Unit(unit) => format!("{unit:?}"),
            TranscriptTurn::Summary(parts) => parts_text(parts),
        };
        let shown: String = request.transcript.turns().iter().map(text).collect();
        let word = if shown.contains("\"to\":\"eve\"") { "stop" } else { "go" };
        self.witness.book().shown.push((request.key.clone(), shown));
        self.sleep(30).await;
        Ok(ModelReply {
            text: word.to_owned(),
            calls: Vec::new(),
            usage: TokenUsage { input_tokens: 4, output_tokens: 1 },
            detail: UsageDetail::default(),
            cost_micros: 2,
            finish: FinishReason::Stop,
            stopped_at: None,
        })
    }

    fn failure(&self) -> Option<ErrorCode> {
        if self.storms(10) {
            return Some(ErrorCode::ModelUnavailable);
        }
        if self.storms(20) {
            return Some(ErrorCode::ModelCut);
        }
        self.storms(50).then_some(ErrorCode::ModelRejected)
    }
}

/// Every call that is asked for says something that no other call says.
fn propose(name: &str, step: usize, index: usize, call: &str) -> ProposedCall {
    let (tool, to) = call.split_once('>').unwrap_or((call, ""));
    let arguments = match tool {
        "garbled" => "{".to_owned(),
        DECLARE => serde_json::json!({"tools": { WIRE: {"to": [to]} }}).to_string(),
        _ => serde_json::json!({"say": format!("{name}.{step}.{index}"), "to": to}).to_string(),
    };
    let tool = if tool == "garbled" { "look" } else { tool };
    ProposedCall { tool: tool.to_owned(), arguments }
}

/// The file that a call says it wrote.
pub(crate) fn file_of(run: RunId, call: CallId) -> String {
    format!("{run}/{call}")
}

/// Marks an execution as finished only if it came to its end.
fn begin(outside: &Outside, context: &ToolContext, call: &PreparedCall) -> usize {
    let mut book = outside.witness.book();
    book.executions.push(Execution {
        key: context.key.clone(),
        tool: call.tool.clone(),
        arguments: call.arguments.clone(),
        run: context.run,
        call: call.id,
        workspace: context.workspace.clone(),
        finished: false,
    });
    book.executions.len() - 1
}

impl ToolHost for Outside {
    fn shared_catalogue(&self) -> ToolCatalogue {
        self.catalogue.clone()
    }

    fn prepare_call(&self, _: &ToolCatalogue, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
        let known = TOOLS.into_iter().find(|(name, _)| *name == call.tool);
        let (tool, effect) = known.ok_or_else(|| PrepareError::UnknownTool { name: call.tool.clone() })?;
        let value: serde_json::Value = serde_json::from_str(&call.arguments)
            .map_err(|error| PrepareError::Arguments { tool: tool.to_owned(), problem: error.to_string() })?;
        let arguments = value.to_string();
        let action = Digest::from_bytes(*blake3::hash(format!("{tool}\0{arguments}").as_bytes()).as_bytes());
        let effect = match (self.lie, effect) {
            (Some(Lie::UnkeyedAsIdempotent), EffectClass::Unkeyed) => EffectClass::Idempotent,
            _ => effect,
        };
        Ok(PreparedCall {
            id: call.id,
            tool: tool.to_owned(),
            effect,
            arguments,
            action,
            reaches: None,
            network: None,
            contents: None,
        })
    }

    fn process_limits(&self, _: &str, _: &ToolTerms) -> Option<ProcessLimits> {
        None
    }

    fn check_workspace<'a>(
        &'a self,
        _: TenantId,
        workspace: &'a WorkspaceReference,
    ) -> BoxFuture<'a, Result<(), String>> {
        let is_fit = workspace.directory().starts_with("/srv");
        Box::pin(async move { if is_fit { Ok(()) } else { Err("workspace lies below no root".to_owned()) } })
    }

    fn execute_call<'a>(
        &'a self,
        mut context: ToolContext,
        call: PreparedCall,
        pieces: &'a dyn CallProgressSink,
    ) -> BoxFuture<'a, ToolOutput> {
        Box::pin(async move {
            let value: serde_json::Value = serde_json::from_str(&call.arguments).unwrap_or_default();
            let said = value["say"].as_str().unwrap_or_default().to_owned();
            if call.tool == "send" {
                self.sleep(self.chance.below(50)).await;
                return self.send(&context, &call, value["to"].as_str().unwrap_or_default(), &said);
            }
            let started = self.journal(context.scope.tenant(), context.run);
            let started = started
                .iter()
                .filter(|entry| matches!(entry, Entry::ToolStarted(started) if started.call == call.id))
                .count();
            let before =
                self.witness.book().executions.iter().filter(|known| known.is(&context, &call)).count();
            if self.lie == Some(Lie::KeyPerAttempt) {
                context.key = format!("{}#{before}", context.key);
            }
            if before >= started {
                let text = format!("{} runs for the {}. time after {started} starts", call.id, before + 1);
                self.witness.blame("E1", &text);
            }
            let execution = begin(self, &context, &call);
            pieces.push_piece(0, said.len() as u64, &said);
            // More than a piece may hold: nobody is told.
            pieces.push_piece(said.len() as u64, 1 << 20, &"x".repeat(LIVE_PIECE_BYTES_MAX + 1));
            self.sleep(self.chance.below(if self.storms(3) { 3_000 } else { 60 })).await;
            self.witness.book().executions[execution].finished = true;
            let failed = self.storms(12);
            // What is fetched is somebody else's word.
            let said_by = if call.tool == "fetch" { Label::OUTSIDE } else { Label::PUBLIC_FACT };
            let mut parts = vec![ContentPart::new_text(format!("{} {said}", call.tool), said_by)];
            if call.tool == redacted_history::READ {
                let told = context.past.find_content(value["to"].as_str().unwrap_or_default());
                parts = told.map_or_else(
                    || vec![ContentPart::new_text("nothing", Label::PUBLIC_FACT)],
                    <[ContentPart]>::to_vec,
                );
            }
            if call.tool == redacted_history::READ && self.lie == Some(Lie::PastIsTrusted) {
                parts = vec![ContentPart::new_text(parts_text(&parts), Label::PUBLIC_FACT)];
            }
            // A file of its own, so that each call can be asked for.
            let ToolContext { run, label, author, .. } = context;
            let holds = FileLabel { content: call.action, label, author };
            let files = FileLabels::for_file(file_of(run, call.id), Some(holds));
            ToolOutput { failed, parts, files, ..ToolOutput::default() }
        })
    }
}

impl Execution {
    fn is(&self, context: &ToolContext, call: &PreparedCall) -> bool {
        (self.run, self.call) == (context.run, call.id)
    }
}

impl Outside {
    /// The one transactional tool: a note for another session, which becomes durable with the call's result.
    fn send(&self, context: &ToolContext, call: &PreparedCall, to: &str, said: &str) -> ToolOutput {
        let text = |text: String| vec![ContentPart::new_text(text, Label::PUBLIC_FACT)];
        let Some(session) = self.witness.book().sessions.get(to).copied() else {
            return ToolOutput { failed: true, parts: text(format!("no {to}")), ..ToolOutput::default() };
        };
        let author = Actor::new(&format!("agent:{}", context.agent));
        let message = InputMessage {
            author: author.clone(),
            parts: text(format!("{said}|{to}|")),
            hops: context.hops + 1,
        };
        let put = InboxPut {
            owner: InboxOwner::Session(session),
            item: self.runtime.item_id(),
            at: self.runtime.clock.now(),
            kind: ItemKind::Input,
            author,
            body: Bytes::from(InputBody::from_message(message).encode().expect("a message is data")),
            key: Some(ItemKey {
                key: context.key.clone(),
                request: call.action,
                lifetime: KeyLifetime::Forever,
            }),
        };
        ToolOutput { parts: text(format!("sent {said}")), sends: vec![put], ..ToolOutput::default() }
    }
}

impl Gate for Outside {
    fn call_sink(&self, call: &PreparedCall) -> EffectSink {
        if self.is_irreversible(call) { EffectSink::Outside } else { EffectSink::Inside }
    }

    fn is_irreversible(&self, call: &PreparedCall) -> bool {
        call.tool == "post"
    }

    fn note_rights(&self, _: TenantId, _: AgentId, _: u64, _: &[String]) -> RightsHold {
        RightsHold::NOTHING
    }

    fn await_withdrawal<'a>(
        &'a self,
        _: &'a Scope,
        _: &'a [String],
        _: &'a PreparedCall,
    ) -> BoxFuture<'a, String> {
        Box::pin(pending())
    }

    fn check_grants(&self, _: &[String], _: &ToolCatalogue) -> Result<(), String> {
        Ok(())
    }

    fn evaluate_action<'a>(
        &'a self,
        principal: Principal<'a>,
        action: GateAction<'a>,
    ) -> BoxFuture<'a, GateVerdict> {
        let in_plan = principal.plan.in_plan || self.lie == Some(Lie::PlanHoldsAll);
        Box::pin(std::future::ready(match action {
            GateAction::Tool(call) if call.tool == WIRE && !in_plan => {
                let (rule, reason) = ("unplanned".to_owned(), "nobody planned it".to_owned());
                GateVerdict::Deny { rule, reason, policy: None }
            }
            GateAction::Tool(call) if call.tool == "forbidden" => {
                let (rule, reason) = ("forbidden".to_owned(), "it is forbidden".to_owned());
                GateVerdict::Deny { rule, reason, policy: None }
            }
            GateAction::Tool(call) if call.tool == GATED && self.delays => {
                let (rule, reason) = ("gated".to_owned(), "not in haste".to_owned());
                GateVerdict::Delay { rule, reason, policy: None }
            }
            GateAction::Tool(call) if call.tool == GATED => {
                let (rule, reason) = ("gated".to_owned(), "a person looks".to_owned());
                GateVerdict::Ask { rule, reason, policy: None }
            }
            GateAction::Tool(_) | GateAction::Model { .. } | GateAction::Reply { .. } => {
                GateVerdict::Allow { rule: "all".to_owned(), policy: None }
            }
        }))
    }
}

impl HomeDirectories for Outside {
    fn wipe_home(&self, _: TenantId, _: AgentId) -> BoxFuture<'_, Result<u64, Fault>> {
        Box::pin(std::future::ready(Ok(0)))
    }
}
