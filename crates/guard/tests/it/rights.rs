//! Capabilities as they count: at the gate and at the way out, narrowed, handed on, taken back, and never across tenants.

mod ends;
mod forged;
mod reference;
mod reports;

use std::sync::{Arc, LazyLock};

use dromia_contracts::agent::AgentConfig;
use dromia_contracts::capability::{
    CapabilityRecord, CapabilityRegistry as _, CapabilityUse, NewCapability, within_grant,
};
use dromia_contracts::egress::{EgressClient, EgressTarget, HttpMethod};
use dromia_contracts::gate::{Gate as _, GateAction, GateVerdict, Principal};
use dromia_contracts::label::Label;
use dromia_contracts::plan::PlanContext;
use dromia_contracts::runtime::{Clock as _, Runtime};
use dromia_contracts::store::{AgentCreate, Mutation, Store};
use dromia_contracts::tool::{EffectClass, PreparedCall};
use dromia_contracts::{AgentId, CallId, CapabilityId, Digest, ErrorCode, Fault, Scope};
use dromia_guard::{GrantGate, PolicyEngine, StoreCapabilities, StoreVault};
use dromia_testkit::conformance::StoreScene;
use dromia_testkit::{ManualClock, ReferenceStore, answer_of, tokio_runtime_seeded};

use crate::server::{egress, get, granted, limits, rule};
use crate::vault::Keys;

fn shipped() -> PolicyEngine {
    static SHIPPED: LazyLock<PolicyEngine> =
        LazyLock::new(|| PolicyEngine::built_in().expect("the shipped policy compiles"));
    SHIPPED.clone()
}

/// A tenant with three agents, its capabilities, and a gate that asks them.
struct RightsFixture {
    scene: StoreScene,
    agents: [AgentId; 3],
    clock: ManualClock,
    capabilities: Arc<StoreCapabilities>,
    gate: GrantGate,
}

impl RightsFixture {
    async fn new() -> Self {
        Self::over(Arc::new(ReferenceStore::new()), 1).await
    }

    async fn over(store: Arc<dyn Store>, seed: u64) -> Self {
        let scene = StoreScene::open_scene(Arc::clone(&store), seed).await;
        let [second, third] = [scene.agent_id(), scene.agent_id()];
        for (agent, handle) in [(second, "second"), (third, "third")] {
            scene.commit_mutation(agent_create(agent, handle)).await;
        }
        let clock = ManualClock::new();
        let runtime = Runtime { clock: Arc::new(clock.clone()), ..tokio_runtime_seeded(seed + 90) };
        let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(Keys(7)), runtime.clone()));
        let capabilities = Arc::new(StoreCapabilities::new(store, vault, runtime));
        let gate = GrantGate::new(shipped()).with_capabilities(capabilities.live_capabilities());
        let agents = [scene.agent, second, third];
        Self { scene, agents, clock, capabilities, gate }
    }

    /// The same after a restart: nothing is in memory.
    fn later(fixture: Self) -> Self {
        let store = Arc::clone(&fixture.scene.store);
        let runtime = Runtime { clock: Arc::new(fixture.clock.clone()), ..tokio_runtime_seeded(5) };
        let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(Keys(7)), runtime.clone()));
        let capabilities = Arc::new(StoreCapabilities::new(store, vault, runtime));
        let gate = GrantGate::new(shipped()).with_capabilities(capabilities.live_capabilities());
        Self { capabilities, gate, ..fixture }
    }

    fn scope(&self) -> Scope {
        self.scene.tenant_scope()
    }

    async fn grant(&self, holder: usize, rights: &[&str]) -> CapabilityRecord {
        self.make(None, holder, rights, None).await.expect("it is granted")
    }

    async fn make(
        &self,
        from: Option<CapabilityId>,
        holder: usize,
        rights: &[&str],
        seconds: Option<i64>,
    ) -> Result<CapabilityRecord, Fault> {
        let until = seconds.map(|seconds| self.clock.now() + jiff::SignedDuration::from_secs(seconds));
        let new = NewCapability { until, ..new(from, self.agents[holder], rights) };
        self.capabilities.grant_capability(self.scope(), new).await
    }

    async fn words(&self, agent: usize) -> Vec<String> {
        self.capabilities.grant_words(&self.scope(), self.agents[agent]).await.expect("they are read")
    }

    async fn judged(&self, agent: usize, call: &PreparedCall) -> Result<String, String> {
        self.under(&self.words(agent).await, call)
    }

    /// Says why a call of an agent is denied.
    async fn why(&self, agent: usize, call: &PreparedCall) -> String {
        match self.verdict(&self.words(agent).await, call) {
            GateVerdict::Deny { reason, .. } => reason,
            other => panic!("it is not denied: {other:?}"),
        }
    }

    /// Judges a call under grants; gives the rule in any case.
    fn under(&self, grants: &[String], call: &PreparedCall) -> Result<String, String> {
        match self.verdict(grants, call) {
            GateVerdict::Allow { rule, .. } => Ok(rule),
            GateVerdict::Deny { rule, .. } => Err(rule),
            GateVerdict::Ask { rule, .. } => Err(format!("ask {rule}")),
            GateVerdict::Delay { rule, .. } => Err(format!("delay {rule}")),
        }
    }

    fn verdict(&self, grants: &[String], call: &PreparedCall) -> GateVerdict {
        judge(&self.gate, &self.scope(), grants, call)
    }

    async fn revoke(&self, id: CapabilityId) {
        let revoked = self.capabilities.revoke_capability(self.scope(), id).await.expect("it is taken back");
        assert!(revoked.revoked_at.is_some());
    }
}

/// Asks a gate about a call of whoever has a scope, under grants.
fn judge(gate: &GrantGate, scope: &Scope, grants: &[String], call: &PreparedCall) -> GateVerdict {
    let principal = Principal {
        scope,
        author: scope.actor(),
        grants,
        context: Label::PUBLIC_FACT,
        endorsed: &[],
        plan: PlanContext::OPEN,
    };
    answer_of(gate.evaluate_action(principal, GateAction::Tool(call)))
}

fn new(from: Option<CapabilityId>, holder: AgentId, rights: &[&str]) -> NewCapability {
    let rights = rights.iter().map(|&right| right.to_owned()).collect();
    NewCapability { holder, from, usage: CapabilityUse::Held, rights, until: None, wall_ms_max: None }
}

fn agent_create(agent: AgentId, handle: &str) -> Mutation {
    let config = AgentConfig { model: "scripted".to_owned(), ..AgentConfig::default() };
    Mutation::AgentCreate(AgentCreate {
        agent,
        handle: handle.parse().expect("a handle"),
        display_name: handle.to_owned(),
        labels: std::collections::BTreeMap::new(),
        at: jiff::Timestamp::UNIX_EPOCH,
        revision: Digest::from_bytes([1; 32]),
        config,
    })
}

fn call(tool: &str, arguments: &str) -> PreparedCall {
    PreparedCall {
        id: CallId { step: 1, index: 0 },
        tool: tool.to_owned(),
        effect: EffectClass::Unkeyed,
        arguments: arguments.to_owned(),
        action: Digest::from_bytes([4; 32]),
        reaches: None,
        network: None,
        contents: None,
    }
}

fn write(path: &str) -> PreparedCall {
    call("file.write", &format!(r#"{{"content":"x","path":"{path}"}}"#))
}

fn request(url: &str) -> PreparedCall {
    let reaches = EgressTarget { method: HttpMethod::Get, url: url.to_owned(), secrets: Vec::new() };
    PreparedCall { reaches: Some(reaches), ..call("http.request", &format!(r#"{{"url":"{url}"}}"#)) }
}

fn default_deny() -> Result<String, String> {
    Err("default deny".to_owned())
}

#[tokio::test]
async fn a_capability_allows_exactly_its_holder_exactly_what_it_covers() {
    let fixture = RightsFixture::new().await;
    assert_eq!(fixture.words(0).await, Vec::<String>::new(), "who holds nothing is not looked up");
    let rights = ["file:write:docs", "file:read:", "net:http:*.example.com", "tool:time.now", "tool:shell.*"];
    let made = fixture.grant(0, &rights).await;
    let by = |right: &str| Ok(format!("capability {} block 0 {right}", made.id));
    for (asked, expected) in [
        (write("docs/a/b"), by("file:write:docs")),
        (write("docs"), by("file:write:docs")),
        (write("docs2/a"), default_deny()),
        (write("a"), default_deny()),
        (call("file.read", r#"{"path":"a/b"}"#), by("file:read:")),
        (call("file.list", r#"{"path":"."}"#), by("file:read:")),
        (call("file.append", r#"{"content":"","path":"docs/a"}"#), by("file:write:docs")),
        (call("time.now", "{}"), by("tool:time.now")),
        (call("shell.execute", r#"{"command":"true"}"#), by("tool:shell.*")),
        (call("message.send", "{}"), default_deny()),
        (request("https://api.example.com/x"), by("net:http:*.example.com")),
        (request("https://example.com/x"), default_deny()),
        (request("https://api.example.com:8443/x"), default_deny()),
        (request("https://bad-example.com/x"), default_deny()),
    ] {
        assert_eq!(fixture.judged(0, &asked).await, expected, "{} {}", asked.tool, asked.arguments);
        assert_eq!(fixture.judged(1, &asked).await, default_deny(), "another agent: {}", asked.arguments);
    }
    // Before a model is asked, which is told of the tools: any place will do then.
    for (tool, id, is_covered) in [
        ("file.write", CallId::PROBE, true),
        ("http.request", CallId::PROBE, true),
        ("http.request", CallId { step: 1, index: 0 }, false),
        ("message.send", CallId::PROBE, false),
    ] {
        let probe = PreparedCall { id, ..call(tool, "{}") };
        assert_eq!(fixture.judged(0, &probe).await.is_ok(), is_covered, "{tool} {id:?}");
        assert_eq!(fixture.judged(1, &probe).await, default_deny());
    }
}

#[tokio::test]
async fn a_denial_names_the_held_capability_that_does_not_cover() {
    let fixture = RightsFixture::new().await;
    let made = fixture.grant(0, &["file:write:docs", "net:http:api.example.com"]).await;
    let beside = |kind: &str, allows: &str| {
        format!(
            "the agent has a capability for {kind}, but it does not cover this call ({}: its block 0 allows {kind} {allows}); ",
            made.id
        )
    };
    for (asked, says) in [
        (write("etc/a"), beside("file:write", "under docs")),
        (request("https://x.example/"), beside("net:http", "to api.example.com at the port of the scheme")),
        (
            request("https://api.example.com:8443/"),
            beside("net:http", "to api.example.com at the port of the scheme"),
        ),
    ] {
        assert_eq!(fixture.judged(0, &asked).await, default_deny(), "the rule stays");
        let why = fixture.why(0, &asked).await;
        assert!(why.starts_with(&says) && why.contains("`dromia capability explain`"), "{why}");
        let of_another = fixture.why(1, &asked).await;
        assert!(of_another.contains("is not granted") && !of_another.contains("cap_"), "{of_another}");
    }
    // Another kind, another tool, and what counts no more are not beside it.
    for asked in [call("file.read", r#"{"path":"a"}"#), call("message.send", "{}")] {
        assert!(fixture.why(0, &asked).await.contains("is not granted the tool"), "{}", asked.tool);
    }
    fixture.revoke(made.id).await;
    assert!(fixture.why(0, &write("etc/a")).await.contains("is not granted the tool"));
}

#[tokio::test]
async fn a_child_capability_is_narrower_and_ends_with_its_parent() {
    let fixture = RightsFixture::new().await;
    let whole = fixture.grant(0, &["file:write:docs"]).await;
    let wrong: [(&[&str], ErrorCode); 6] = [
        (&["file:write:"], ErrorCode::CapabilityRefused),
        (&["file:write:docs2"], ErrorCode::CapabilityRefused),
        (&["file:read:docs"], ErrorCode::CapabilityRefused),
        (&["tool:file.write"], ErrorCode::CapabilityRefused),
        (&["file:write:docs/../etc"], ErrorCode::InvalidRequest),
        (&["root"], ErrorCode::InvalidRequest),
    ];
    for (rights, code) in wrong {
        let refused = fixture.make(Some(whole.id), 1, rights, None).await.map(|made| made.id);
        assert_eq!(refused.map_err(|fault| fault.code), Err(code), "{rights:?}");
    }
    let handed = fixture.make(Some(whole.id), 1, &["file:write:docs/a"], None).await.expect("handed on");
    let last = fixture.make(Some(handed.id), 2, &[], None).await.expect("handed on as it is");
    let by = |id, block| Ok(format!("capability {id} block {block} file:write:docs/a"));
    assert_eq!(fixture.judged(1, &write("docs/a/x")).await, by(handed.id, 1));
    assert_eq!(fixture.judged(1, &write("docs/b")).await, default_deny());
    assert_eq!(fixture.judged(2, &write("docs/a/x")).await, by(last.id, 2));
    let probe = PreparedCall { id: CallId::PROBE, ..call("file.write", "{}") };
    assert_eq!(fixture.judged(2, &probe).await, by(last.id, 2), "any place");
    assert!(fixture.judged(0, &write("docs/b")).await.is_ok(), "whoever hands on keeps what he has");

    fixture.revoke(handed.id).await;
    let dead = |id| Err(format!("capability {id} block 1"));
    assert_eq!(fixture.judged(1, &write("docs/a/x")).await, dead(handed.id));
    assert_eq!(fixture.judged(2, &write("docs/a/x")).await, dead(last.id));
    assert!(fixture.judged(0, &write("docs/a/x")).await.is_ok());
    let late = fixture.make(Some(last.id), 0, &[], None).await.map(|made| made.id);
    assert_eq!(late.map_err(|fault| fault.code), Err(ErrorCode::CapabilityRefused));
    fixture.revoke(whole.id).await;
    assert_eq!(fixture.judged(0, &write("docs/b")).await, Err(format!("capability {} block 0", whole.id)));
}

#[tokio::test]
async fn a_task_stays_within_its_capability_despite_its_agents_grants() {
    let fixture = RightsFixture::new().await;
    let parent = fixture.grant(0, &["file:write:docs", "tool:time.now"]).await;
    let bound = NewCapability { usage: CapabilityUse::Task, ..new(Some(parent.id), fixture.agents[1], &[]) };
    let bound = fixture.capabilities.grant_capability(fixture.scope(), bound).await.expect("granted");
    let word = within_grant(fixture.scene.tenant, fixture.agents[1], bound.id);
    let free: Vec<_> =
        ["file.*", "time.now", "http.request", "net:*"].map(str::to_owned).into_iter().collect();
    let bounded = [free.clone(), vec![word.clone()]].concat();
    let outside = Err(format!("within {} block 0", bound.id));
    // The tool is the agent's by a grant; the task has the file, not the tool.
    let inside = format!("grant file.* and within {} block 1 file:write:docs", bound.id);
    assert_eq!(fixture.under(&bounded, &write("docs/a")), Ok(inside));
    assert!(fixture.under(&bounded, &call("time.now", "{}")).is_ok());
    for call in [write("a"), call("file.read", r#"{"path":"docs/a"}"#), request("https://example.com/")] {
        assert!(fixture.under(&free, &call).is_ok(), "{}", call.arguments);
        assert_eq!(fixture.under(&bounded, &call), outside, "{}", call.arguments);
    }
    assert_eq!(fixture.words(1).await, Vec::<String>::new(), "what bounds a task gives nothing");
    assert_eq!(fixture.under(std::slice::from_ref(&word), &write("docs/a")), default_deny());

    for wrong in [
        "within:nonsense".to_owned(),
        within_grant(fixture.scene.tenant, fixture.agents[2], bound.id),
        within_grant(fixture.scene.tenant, fixture.agents[1], parent.id),
        within_grant(fixture.scene.tenant, fixture.agents[1], CapabilityId::from_bytes([9; 16])),
        within_grant(dromia_contracts::TenantId::from_bytes([9; 16]), fixture.agents[1], bound.id),
    ] {
        let grants = [free.clone(), vec![wrong.clone()]].concat();
        let judged = fixture.under(&grants, &write("docs/a"));
        assert!(judged.as_ref().is_err_and(|rule| rule.starts_with("within ")), "{wrong}: {judged:?}");
    }
    let refused = fixture.make(Some(bound.id), 0, &[], None).await.map(|made| made.id);
    assert_eq!(refused.map_err(|fault| fault.code), Err(ErrorCode::CapabilityRefused));
    fixture.revoke(parent.id).await;
    assert_eq!(fixture.under(&bounded, &write("docs/a")), outside);
    fixture.capabilities.forget_task_capability(fixture.scope(), bound.id).await.expect("let go of");
    assert_eq!(fixture.under(&bounded, &write("docs/a")), Err(format!("within {}", bound.id)));
}

/// A fixture where a task of the second agent has what each of these lists says, one capability for each list.
async fn tasks(fixture: &RightsFixture, rights: &[&[&str]]) -> Vec<(CapabilityId, String)> {
    let mut found = Vec::new();
    for rights in rights {
        let parent = fixture.grant(0, rights).await;
        let bound =
            NewCapability { usage: CapabilityUse::Task, ..new(Some(parent.id), fixture.agents[1], &[]) };
        let bound = fixture.capabilities.grant_capability(fixture.scope(), bound).await.expect("granted");
        found.push((bound.id, within_grant(fixture.scene.tenant, fixture.agents[1], bound.id)));
    }
    found
}

/// What a task with the tool, with the host, and with both may do about one address, by a check of each.
async fn within_each(mut check: impl AsyncFnMut(&RightsFixture, &[String]) -> Result<String, String>) {
    let fixture = RightsFixture::new().await;
    let rights: [&[&str]; 3] = [
        &["tool:http.request"],
        &["net:http:api.example.com"],
        &["tool:http.request", "net:http:api.example.com"],
    ];
    let found = tasks(&fixture, &rights).await;
    let free = ["http.request", "net:*"].map(str::to_owned).to_vec();
    for (words, fails) in [
        (&[0][..], Some(0)),
        // The agent has the tool by a grant; a task may narrow what it leads to alone.
        (&[1], None),
        (&[2], None),
        (&[], None),
        // More than one bound: each of them counts, in whatever order.
        (&[2, 0], Some(0)),
        (&[0, 2], Some(0)),
        (&[2, 2], None),
    ] {
        let bounds = words.iter().map(|word| found[*word].1.clone());
        let checked = check(&fixture, &free.iter().cloned().chain(bounds).collect::<Vec<_>>()).await;
        match fails {
            None => assert!(checked.is_ok(), "{words:?}: {checked:?}"),
            Some(task) => {
                let outside = format!("within {} ", found[task].0);
                assert!(
                    checked.as_ref().is_err_and(|rule| rule.starts_with(&outside)),
                    "{words:?}: {checked:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_gate_alone_holds_a_task_to_tool_and_host() {
    within_each(async |fixture, grants| fixture.under(grants, &request("https://api.example.com/x"))).await;
}

#[tokio::test]
#[should_panic(expected = "[0]: Ok(")]
async fn a_gate_that_checks_only_a_tasks_tool_is_caught() {
    // A call that says nothing of where it leads is one whose host is not asked about.
    within_each(async |fixture, grants| fixture.under(grants, &call("http.request", "{}"))).await;
}

#[tokio::test]
async fn the_way_out_alone_holds_a_task_to_its_host() {
    let fixture = RightsFixture::new().await;
    let found = tasks(&fixture, &[&["tool:http.request"], &["net:http:api.example.com"]]).await;
    let way = egress(&[], &Arc::default()).with_capabilities(fixture.capabilities.live_capabilities());
    let line = granted(&way, limits());
    let blind = granted(&egress(&[], &Arc::default()), limits());
    let ask = get("https://api.example.com/x", &["net:*".to_owned(), found[1].1.clone()]);
    let error = blind.send_request(ask).await.expect_err("it cannot read what bounds the task");
    assert_eq!(rule(&error), "within");
    let judged = async |words: &[usize]| {
        let bounds = words.iter().map(|word| found[*word].1.clone());
        let grants: Vec<_> = ["net:*".to_owned()].into_iter().chain(bounds).collect();
        judged_outside(&*line, "http://api.example.com/", &grants).await
    };
    assert_eq!(judged(&[]).await, "grant net:*");
    for words in [&[0][..], &[1, 0], &[0, 1]] {
        let rule = judged(words).await;
        assert_eq!(rule, "within", "{words:?}");
    }
    let inside = judged(&[1]).await;
    assert!(
        inside.contains(&format!("within {} block", found[1].0)) && inside.starts_with("grant net:*"),
        "{inside}"
    );
}

/// Asks for an address whose name nobody knows, and returns the rule by which it was judged.
async fn judged_outside(line: &dyn EgressClient, url: &str, grants: &[String]) -> String {
    let error = line.send_request(get(url, grants)).await.expect_err("no such name is known here");
    error.decisions.last().expect("it was judged").rule.clone()
}

#[tokio::test]
async fn the_way_out_asks_capabilities_at_every_request() {
    let fixture = RightsFixture::new().await;
    let made = fixture.grant(0, &["net:http:api.example.com"]).await;
    let way = egress(&[], &Arc::default()).with_capabilities(fixture.capabilities.live_capabilities());
    let line = granted(&way, limits());
    let words = fixture.words(0).await;
    let covered = judged_outside(&*line, "http://api.example.com/", &words).await;
    assert_eq!(covered, format!("capability {} block 0 net:http:api.example.com", made.id));
    assert_eq!(judged_outside(&*line, "http://other.example.com/", &words).await, "default deny");
    let word = within_grant(fixture.scene.tenant, fixture.agents[0], CapabilityId::from_bytes([9; 16]));
    let bounded = [words.clone(), vec![word]].concat();
    assert_eq!(judged_outside(&*line, "http://api.example.com/", &bounded).await, "within");
    fixture.revoke(made.id).await;
    assert_eq!(judged_outside(&*line, "http://api.example.com/", &words).await, "default deny");
}
