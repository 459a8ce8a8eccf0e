//! Capabilities as they count: at the gate and at the way out, narrowed, handed on, taken back, and never across tenants.
//!
//! The reference of the last test knows no token and no row: it compares components of paths and names by itself.
//! `DROMIA_CAPABILITY_TREES` says how many random trees are compared, by default 200.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::agent::{AgentConfig, AgentState};
use dromia_contracts::capability::{
    Capabilities as _, Capability, CapabilityState, CapabilityUse, NewCapability, held_by, within,
};
use dromia_contracts::egress::{Line, Method, Reaches};
use dromia_contracts::gate::{Action, Gate as _, Principal, Verdict};
use dromia_contracts::label::Label;
use dromia_contracts::plan::Planning;
use dromia_contracts::runtime::{Clock as _, Runtime};
use dromia_contracts::store::{AgentCreate, AgentStateSet, CapabilityDrop, Mutation, Store};
use dromia_contracts::tool::{EffectClass, PreparedCall};
use dromia_contracts::vault::{GivenUpBy, Vault as _};
use dromia_contracts::{AgentId, CallId, CapabilityId, Digest, ErrorCode, Fault, Scope};
use dromia_guard::capability::{Asked, ROOT_ID, Resource, Right, RootKey, Roots, Token};
use dromia_guard::{GrantGate, Policies, StoreCapabilities, StoreVault};
use dromia_testkit::conformance::Scene;
use dromia_testkit::{ManualClock, ReferenceStore, tokio_runtime_seeded};
use proptest::prelude::*;

use crate::server::{egress, get, granted, limits};
use crate::vault::{Changing, Keys};

fn shipped() -> Policies {
    static SHIPPED: LazyLock<Policies> =
        LazyLock::new(|| Policies::built_in().expect("the shipped policy compiles"));
    SHIPPED.clone()
}

/// A tenant with three agents, its capabilities, and a gate that asks them.
struct House {
    scene: Scene,
    agents: [AgentId; 3],
    clock: ManualClock,
    capabilities: Arc<StoreCapabilities>,
    gate: GrantGate,
}

impl House {
    async fn new() -> Self {
        Self::over(Arc::new(ReferenceStore::new()), 1).await
    }

    async fn over(store: Arc<dyn Store>, seed: u64) -> Self {
        let scene = Scene::open(Arc::clone(&store), seed).await;
        let [second, third] = [scene.agent_id(), scene.agent_id()];
        for (agent, handle) in [(second, "second"), (third, "third")] {
            scene.done(scene.batch().with(agent_create(agent, handle))).await;
        }
        let clock = ManualClock::new();
        let runtime = Runtime { clock: Arc::new(clock.clone()), ..tokio_runtime_seeded(seed + 90) };
        let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(Keys(7)), runtime.clone()));
        let capabilities = Arc::new(StoreCapabilities::new(store, vault, runtime));
        let gate = GrantGate::new(shipped(), ["exec"]).with_capabilities(capabilities.live());
        let agents = [scene.agent, second, third];
        Self { scene, agents, clock, capabilities, gate }
    }

    /// The same after a restart: nothing is in memory.
    fn later(house: Self) -> Self {
        let store = Arc::clone(&house.scene.store);
        let runtime = Runtime { clock: Arc::new(house.clock.clone()), ..tokio_runtime_seeded(5) };
        let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(Keys(7)), runtime.clone()));
        let capabilities = Arc::new(StoreCapabilities::new(store, vault, runtime));
        let gate = GrantGate::new(shipped(), ["exec"]).with_capabilities(capabilities.live());
        Self { capabilities, gate, ..house }
    }

    fn scope(&self) -> Scope {
        self.scene.scope()
    }

    async fn grant(&self, holder: usize, rights: &[&str]) -> Capability {
        self.make(None, holder, rights, None).await.expect("it is granted")
    }

    async fn make(
        &self,
        from: Option<CapabilityId>,
        holder: usize,
        rights: &[&str],
        seconds: Option<i64>,
    ) -> Result<Capability, Fault> {
        let until = seconds.map(|seconds| self.clock.now() + jiff::SignedDuration::from_secs(seconds));
        let new = NewCapability { until, ..new(from, self.agents[holder], rights) };
        self.capabilities.grant(self.scope(), new).await
    }

    async fn words(&self, agent: usize) -> Vec<String> {
        self.capabilities.words(&self.scope(), self.agents[agent]).await.expect("they are read")
    }

    async fn judged(&self, agent: usize, call: &PreparedCall) -> Result<String, String> {
        self.under(&self.words(agent).await, call)
    }

    /// Says why a call of an agent is denied.
    async fn why(&self, agent: usize, call: &PreparedCall) -> String {
        match self.verdict(&self.words(agent).await, call) {
            Verdict::Deny { reason, .. } => reason,
            other => panic!("it is not denied: {other:?}"),
        }
    }

    /// Judges a call under grants; gives the rule in any case.
    fn under(&self, grants: &[String], call: &PreparedCall) -> Result<String, String> {
        match self.verdict(grants, call) {
            Verdict::Allow { rule, .. } => Ok(rule),
            Verdict::Deny { rule, .. } => Err(rule),
            Verdict::Ask { rule, .. } => Err(format!("ask {rule}")),
            Verdict::Delay { rule, .. } => Err(format!("delay {rule}")),
        }
    }

    fn verdict(&self, grants: &[String], call: &PreparedCall) -> Verdict {
        let scope = self.scope();
        let principal = Principal {
            scope: &scope,
            author: scope.actor(),
            grants,
            context: Label::PUBLIC_FACT,
            endorsed: &[],
            plan: Planning::OPEN,
        };
        self.gate.judge(principal, Action::Tool(call))
    }

    async fn revoke(&self, id: CapabilityId) {
        let revoked = self.capabilities.revoke(self.scope(), id).await.expect("it is taken back");
        assert!(revoked.revoked_at.is_some());
    }
}

fn new(from: Option<CapabilityId>, holder: AgentId, rights: &[&str]) -> NewCapability {
    let rights = rights.iter().map(|&right| right.to_owned()).collect();
    NewCapability { holder, from, usage: CapabilityUse::Held, rights, until: None, wall_ms_max: None }
}

fn agent_create(agent: AgentId, handle: &str) -> Mutation {
    let config = AgentConfig {
        model: "scripted".to_owned(),
        instructions: String::new(),
        grants: Vec::new(),
        model_calls_max: None,
    };
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
    let reaches = Reaches { method: Method::Get, url: url.to_owned(), secrets: Vec::new() };
    PreparedCall { reaches: Some(reaches), ..call("http.request", &format!(r#"{{"url":"{url}"}}"#)) }
}

fn default_deny() -> Result<String, String> {
    Err("default deny".to_owned())
}

#[tokio::test]
async fn a_capability_lets_its_holder_do_what_it_covers_and_nobody_else() {
    let house = House::new().await;
    assert_eq!(house.words(0).await, Vec::<String>::new(), "who holds nothing is not looked up");
    let rights = ["file:write:docs", "file:read:", "net:http:*.example.com", "tool:time.now", "tool:shell.*"];
    let made = house.grant(0, &rights).await;
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
        assert_eq!(house.judged(0, &asked).await, expected, "{} {}", asked.tool, asked.arguments);
        assert_eq!(house.judged(1, &asked).await, default_deny(), "another agent: {}", asked.arguments);
    }
    let probe = PreparedCall { id: CallId::PROBE, ..call("file.write", "{}") };
    assert!(house.judged(0, &probe).await.is_ok(), "its model is told of the tool");
    assert_eq!(house.judged(1, &probe).await, default_deny());
}

#[tokio::test]
async fn whoever_holds_a_capability_for_another_place_is_told_of_it() {
    let house = House::new().await;
    let made = house.grant(0, &["file:write:docs", "net:http:api.example.com"]).await;
    let beside = |kind: &str, allows: &str| {
        format!(
            "a capability for {kind} is held, and does not cover this call ({}: its block 0 allows {kind} {allows}); ",
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
        assert_eq!(house.judged(0, &asked).await, default_deny(), "the rule stays");
        let why = house.why(0, &asked).await;
        assert!(why.starts_with(&says) && why.contains("`dromia capability explain`"), "{why}");
        let of_another = house.why(1, &asked).await;
        assert!(of_another.contains("is not granted") && !of_another.contains("cap_"), "{of_another}");
    }
    // Another kind, another tool, and what counts no more are not beside it.
    for asked in [call("file.read", r#"{"path":"a"}"#), call("message.send", "{}")] {
        assert!(house.why(0, &asked).await.contains("is not granted the tool"), "{}", asked.tool);
    }
    house.revoke(made.id).await;
    assert!(house.why(0, &write("etc/a")).await.contains("is not granted the tool"));
}

#[tokio::test]
async fn what_is_handed_on_is_narrowed_and_ends_with_what_it_was_made_from() {
    let house = House::new().await;
    let whole = house.grant(0, &["file:write:docs"]).await;
    let wrong: [(&[&str], ErrorCode); 6] = [
        (&["file:write:"], ErrorCode::CapabilityRefused),
        (&["file:write:docs2"], ErrorCode::CapabilityRefused),
        (&["file:read:docs"], ErrorCode::CapabilityRefused),
        (&["tool:file.write"], ErrorCode::CapabilityRefused),
        (&["file:write:docs/../etc"], ErrorCode::InvalidRequest),
        (&["root"], ErrorCode::InvalidRequest),
    ];
    for (rights, code) in wrong {
        let refused = house.make(Some(whole.id), 1, rights, None).await.map(|made| made.id);
        assert_eq!(refused.map_err(|fault| fault.code), Err(code), "{rights:?}");
    }
    let handed = house.make(Some(whole.id), 1, &["file:write:docs/a"], None).await.expect("handed on");
    let last = house.make(Some(handed.id), 2, &[], None).await.expect("handed on as it is");
    let by = |id, block| Ok(format!("capability {id} block {block} file:write:docs/a"));
    assert_eq!(house.judged(1, &write("docs/a/x")).await, by(handed.id, 1));
    assert_eq!(house.judged(1, &write("docs/b")).await, default_deny());
    assert_eq!(house.judged(2, &write("docs/a/x")).await, by(last.id, 2));
    assert!(house.judged(0, &write("docs/b")).await.is_ok(), "whoever hands on keeps what he has");

    house.revoke(handed.id).await;
    let dead = |id| Err(format!("capability {id} block 1"));
    assert_eq!(house.judged(1, &write("docs/a/x")).await, dead(handed.id));
    assert_eq!(house.judged(2, &write("docs/a/x")).await, dead(last.id));
    assert!(house.judged(0, &write("docs/a/x")).await.is_ok());
    let late = house.make(Some(last.id), 0, &[], None).await.map(|made| made.id);
    assert_eq!(late.map_err(|fault| fault.code), Err(ErrorCode::CapabilityRefused));
    house.revoke(whole.id).await;
    assert_eq!(house.judged(0, &write("docs/b")).await, Err(format!("capability {} block 0", whole.id)));
}

#[tokio::test]
async fn a_revocation_counts_at_the_next_look_of_a_run_that_goes_on() {
    let house = House::new().await;
    let made = house.grant(0, &["file:write:docs"]).await;
    // A run keeps the grants that it began with.
    let grants = house.words(0).await;
    assert_eq!(grants, [held_by(house.scene.tenant, house.agents[0])]);
    assert!(house.under(&grants, &write("docs/a")).is_ok());
    house.revoke(made.id).await;
    assert_eq!(house.under(&grants, &write("docs/a")), Err(format!("capability {} block 0", made.id)));
    let again = house.capabilities.revoke(house.scope(), made.id).await.expect("again");
    assert_eq!(again.revoked_at, Some(house.clock.now()), "the first time counts");
    // What a later life of the process reads says the same.
    let store = Arc::clone(&house.scene.store);
    let runtime = Runtime { clock: Arc::new(house.clock.clone()), ..tokio_runtime_seeded(5) };
    let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(Keys(7)), runtime.clone()));
    let later = StoreCapabilities::new(store, vault, runtime);
    assert_eq!(later.words(&house.scope(), house.agents[0]).await, Ok(grants.clone()));
    let gate = GrantGate::new(shipped(), ["exec"]).with_capabilities(later.live());
    let scope = house.scope();
    let principal = Principal {
        scope: &scope,
        author: scope.actor(),
        grants: &grants,
        context: Label::PUBLIC_FACT,
        endorsed: &[],
        plan: Planning::OPEN,
    };
    assert!(matches!(gate.judge(principal, Action::Tool(&write("docs/a"))), Verdict::Deny { .. }));
}

#[tokio::test]
async fn what_an_erased_agent_handed_on_ends_at_once() {
    let house = House::new().await;
    let parent = house.grant(0, &["file:write:docs"]).await;
    let child = house.make(Some(parent.id), 1, &[], None).await.expect("handed on");
    let grandchild = house.make(Some(child.id), 2, &[], None).await.expect("handed on");
    let own = house.grant(2, &["file:write:own"]).await;
    assert!(house.judged(2, &write("docs/a")).await.is_ok());
    let (from, to) = (vec![AgentState::Running], AgentState::Deleting);
    let set = AgentStateSet { agent: house.agents[0], from, to };
    house.scene.done(house.scene.batch().with(Mutation::AgentStateSet(set))).await;
    house.capabilities.erased(house.scene.tenant, house.agents[0]).await;
    assert_eq!(house.words(0).await, Vec::<String>::new());
    for (agent, id) in [(1, child.id), (2, grandchild.id)] {
        assert_eq!(house.judged(agent, &write("docs/a")).await, Err(format!("capability {id}")));
    }
    assert_eq!(
        house.judged(2, &write("own/a")).await,
        Ok(format!("capability {} block 0 file:write:own", own.id))
    );
    let again = house.make(Some(parent.id), 1, &[], None).await.map(|made| made.id);
    assert_eq!(again.map_err(|fault| fault.code), Err(ErrorCode::CapabilityNotFound));

    // Whoever reads the store from then on finds the same, also before the last row is gone.
    let listed = house.capabilities.list(house.scope(), None, 9).await.expect("a list");
    assert_eq!((listed.len(), listed.iter().any(|(row, _)| row.id == parent.id)), (3, false));
    let state = |id: CapabilityId| listed.iter().find(|(row, _)| row.id == id).map(|(_, state)| *state);
    let gone = Some(CapabilityState::ParentGone);
    assert_eq!([child.id, grandchild.id].map(state), [gone; 2]);
    assert_eq!(state(own.id), Some(CapabilityState::Active));
    let later = House::later(house);
    assert_eq!(later.judged(1, &write("docs/a")).await, Err(format!("capability {}", child.id)));
    assert_eq!(later.words(0).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_capability_ends_with_its_time_and_bounds_how_long_a_call_takes() {
    let house = House::new().await;
    let short = house.make(None, 0, &["file:write:docs"], Some(60)).await.expect("granted");
    let longer = house.make(Some(short.id), 1, &[], Some(600)).await.expect("handed on");
    assert_eq!(longer.until, short.until, "none lasts longer than what it is made from");
    let limited = NewCapability { wall_ms_max: Some(5_000), ..new(None, house.agents[2], &["tool:exec"]) };
    let limited = house.capabilities.grant(house.scope(), limited).await.expect("granted");
    let by = Ok(format!("capability {} block 0 tool:exec", limited.id));
    let run = |seconds: &str| call("exec", &format!(r#"{{"argv":["true"]{seconds}}}"#));
    assert_eq!(house.judged(2, &run(r#","timeout_s":5"#)).await, by);
    let too_long = Err(format!("capability {} block 0", limited.id));
    assert_eq!(house.judged(2, &run(r#","timeout_s":6"#)).await, too_long);
    assert_eq!(house.judged(2, &run("")).await, too_long, "who does not say it may take for ever");
    let why = house.why(2, &run("")).await;
    assert!(why.contains("at most 5000 ms: set `timeout_s` to 5 or less"), "{why}");
    let of_files = NewCapability { wall_ms_max: Some(1), ..new(None, house.agents[2], &["file:read:"]) };
    let refused = house.capabilities.grant(house.scope(), of_files).await.map(|made| made.id);
    assert_eq!(refused.map_err(|fault| fault.code), Err(ErrorCode::InvalidRequest));

    house.clock.advance(Duration::from_secs(59));
    assert!(house.judged(0, &write("docs/a")).await.is_ok());
    assert!(house.judged(1, &write("docs/a")).await.is_ok());
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(house.judged(0, &write("docs/a")).await, Err(format!("capability {} block 0", short.id)));
    assert_eq!(house.judged(1, &write("docs/a")).await, Err(format!("capability {} block 0", longer.id)));
}

#[tokio::test]
async fn a_task_stays_within_its_capability_whatever_its_agent_may_do() {
    let house = House::new().await;
    let parent = house.grant(0, &["file:write:docs", "tool:time.now"]).await;
    let bound = NewCapability { usage: CapabilityUse::Task, ..new(Some(parent.id), house.agents[1], &[]) };
    let bound = house.capabilities.grant(house.scope(), bound).await.expect("granted");
    let word = within(house.scene.tenant, house.agents[1], bound.id);
    let free: Vec<_> =
        ["file.*", "time.now", "http.request", "net:*"].map(str::to_owned).into_iter().collect();
    let bounded = [free.clone(), vec![word.clone()]].concat();
    let outside = Err(format!("within {} block 0", bound.id));
    // The tool is the agent's by a grant; the task has the file, not the tool.
    let inside = format!("grant file.* and within {} block 1 file:write:docs", bound.id);
    assert_eq!(house.under(&bounded, &write("docs/a")), Ok(inside));
    assert!(house.under(&bounded, &call("time.now", "{}")).is_ok());
    for call in [write("a"), call("file.read", r#"{"path":"docs/a"}"#), request("https://example.com/")] {
        assert!(house.under(&free, &call).is_ok(), "{}", call.arguments);
        assert_eq!(house.under(&bounded, &call), outside, "{}", call.arguments);
    }
    assert_eq!(house.words(1).await, Vec::<String>::new(), "what bounds a task gives nothing");
    assert_eq!(house.under(std::slice::from_ref(&word), &write("docs/a")), default_deny());

    for wrong in [
        "within:nonsense".to_owned(),
        within(house.scene.tenant, house.agents[2], bound.id),
        within(house.scene.tenant, house.agents[1], parent.id),
        within(house.scene.tenant, house.agents[1], CapabilityId::from_bytes([9; 16])),
        within(dromia_contracts::TenantId::from_bytes([9; 16]), house.agents[1], bound.id),
    ] {
        let grants = [free.clone(), vec![wrong.clone()]].concat();
        let judged = house.under(&grants, &write("docs/a"));
        assert!(judged.as_ref().is_err_and(|rule| rule.starts_with("within ")), "{wrong}: {judged:?}");
    }
    let refused = house.make(Some(bound.id), 0, &[], None).await.map(|made| made.id);
    assert_eq!(refused.map_err(|fault| fault.code), Err(ErrorCode::CapabilityRefused));
    house.revoke(parent.id).await;
    assert_eq!(house.under(&bounded, &write("docs/a")), outside);
    house.capabilities.forget(house.scope(), bound.id).await.expect("let go of");
    assert_eq!(house.under(&bounded, &write("docs/a")), Err(format!("within {}", bound.id)));
}

#[tokio::test]
async fn a_stranger_finds_and_uses_no_capability() {
    let mine = House::new().await;
    let theirs = House::over(Arc::clone(&mine.scene.store), 2).await;
    let made = mine.grant(0, &["file:write:docs"]).await;
    let listed = theirs.capabilities.list(theirs.scope(), None, 99).await.expect("a list");
    assert_eq!(listed, []);
    let code = |answer: Result<Capability, Fault>| answer.map(|made| made.id).map_err(|fault| fault.code);
    let revoked = theirs.capabilities.revoke(theirs.scope(), made.id).await;
    assert_eq!(code(revoked), Err(ErrorCode::CapabilityNotFound));
    assert_eq!(code(theirs.make(Some(made.id), 0, &[], None).await), Err(ErrorCode::CapabilityNotFound));
    let foreign = theirs.capabilities.grant(theirs.scope(), new(None, mine.agents[0], &["tool:exec"])).await;
    assert_eq!(code(foreign), Err(ErrorCode::AgentNotFound));
    // The word of a tenant is no word in another, even where one gate serves both.
    let word = mine.words(0).await;
    assert_eq!(theirs.under(&word, &write("docs/a")), default_deny());
    let stranger = theirs.scope();
    let principal = Principal {
        scope: &stranger,
        author: stranger.actor(),
        grants: &word,
        context: Label::PUBLIC_FACT,
        endorsed: &[],
        plan: Planning::OPEN,
    };
    assert!(matches!(mine.gate.judge(principal, Action::Tool(&write("docs/a"))), Verdict::Deny { .. }));
    assert!(mine.judged(0, &write("docs/a")).await.is_ok());
}

#[tokio::test]
async fn what_is_no_token_foreign_handed_over_expired_or_replayed_is_told_so() {
    let mine = House::new().await;
    let theirs = House::over(Arc::clone(&mine.scene.store), 2).await;
    let made = mine.make(None, 0, &["file:write:docs"], Some(60)).await.expect("granted");
    theirs.grant(0, &["file:write:docs"]).await;
    let call = write("docs/a");
    let weigh = async |house: &House, agent: usize, token: Bytes| {
        let scope = house.scope();
        let answer = house.capabilities.weigh(&scope, house.agents[agent], &call, Some(token)).await;
        answer.map(|weighed| (weighed[0].covers, weighed[0].why.clone())).map_err(|fault| fault.code)
    };
    assert!(weigh(&mine, 0, made.token.clone()).await.is_ok_and(|(covers, _)| covers));
    let mut torn = made.token.to_vec();
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    for wrong in [Bytes::new(), Bytes::from_static(b"nonsense"), torn.into(), vec![0_u8; 70 << 10].into()] {
        assert_eq!(weigh(&mine, 0, wrong).await, Err(ErrorCode::CapabilityUnreadable));
    }
    // The numbers of two tenants' keys are alike, so a foreign signature does not hold; another number is no key here.
    assert_eq!(weigh(&theirs, 0, made.token.clone()).await, Err(ErrorCode::CapabilityUnreadable));
    let other = RootKey::new(ROOT_ID + 1, &[3; 32]).expect("a key");
    let write = Resource::parse("file:write:docs").expect("a right");
    let foreign = Token::grant(&other, mine.agents[0], &[Right::to(write)], &[4; 32]).expect("granted");
    let foreign = Bytes::from(foreign.to_bytes().expect("bytes"));
    assert_eq!(weigh(&mine, 0, foreign).await, Err(ErrorCode::CapabilityForeign));
    let told = |answer: Result<(bool, String), ErrorCode>| answer.expect("it is a token of the tenant");
    let (covers, why) = told(weigh(&mine, 1, made.token.clone()).await);
    assert!(!covers && why.contains("held by another agent"), "{why}");
    mine.clock.advance(Duration::from_mins(1));
    let (covers, why) = told(weigh(&mine, 0, made.token.clone()).await);
    assert!(!covers && why.contains("block 0 of its token has expired"), "{why}");
    mine.revoke(made.id).await;
    let (covers, why) = told(weigh(&mine, 0, made.token.clone()).await);
    assert!(!covers && why.contains("block 0 of its token was revoked"), "{why}");
    mine.capabilities.forget(mine.scope(), made.id).await.expect("let go of");
    let (covers, why) = told(weigh(&mine, 0, made.token.clone()).await);
    assert!(!covers && why.contains("counts no more"), "a token without a row is none: {why}");
}

/// Asks for an address whose name nobody knows, and returns the rule by which it was judged.
async fn judged_outside(line: &dyn Line, url: &str, grants: &[String]) -> String {
    let error = line.send(get(url, grants)).await.expect_err("no such name is known here");
    error.decisions.last().expect("it was judged").rule.clone()
}

#[tokio::test]
async fn the_way_out_asks_capabilities_at_every_request() {
    let house = House::new().await;
    let made = house.grant(0, &["net:http:api.example.com"]).await;
    let way = egress(&[], &Arc::default()).with_capabilities(house.capabilities.live());
    let line = granted(&way, limits());
    let words = house.words(0).await;
    let covered = judged_outside(&*line, "http://api.example.com/", &words).await;
    assert_eq!(covered, format!("capability {} block 0 net:http:api.example.com", made.id));
    assert_eq!(judged_outside(&*line, "http://other.example.com/", &words).await, "default deny");
    let word = within(house.scene.tenant, house.agents[0], CapabilityId::from_bytes([9; 16]));
    let bounded = [words.clone(), vec![word]].concat();
    assert_eq!(judged_outside(&*line, "http://api.example.com/", &bounded).await, "within");
    house.revoke(made.id).await;
    assert_eq!(judged_outside(&*line, "http://api.example.com/", &words).await, "default deny");
}

#[tokio::test]
async fn a_row_that_somebody_widened_in_the_store_is_caught() {
    let house = House::new().await;
    let made = house.grant(0, &["file:write:docs"]).await;
    let widened = Capability {
        id: CapabilityId::from_bytes([8; 16]),
        rights: vec!["file:write:".to_owned(), "tool:exec".to_owned()],
        ..made.clone()
    };
    let handed_over =
        Capability { id: CapabilityId::from_bytes([9; 16]), holder: house.agents[1], ..made.clone() };
    let batch = house.scene.batch().with(Mutation::CapabilityPut(widened));
    house.scene.done(batch.with(Mutation::CapabilityPut(handed_over))).await;
    let later = House::later(house);
    assert!(later.judged(0, &write("docs/a")).await.is_ok());
    for (agent, call) in [(0, write("a")), (0, call("exec", r#"{"argv":["true"]}"#)), (1, write("docs/a"))] {
        let judged = later.judged(agent, &call).await;
        assert!(judged.as_ref().is_err_and(|rule| rule.starts_with("capability cap_")), "{judged:?}");
    }
}

#[tokio::test]
async fn a_capability_of_a_key_that_was_given_up_is_caught() {
    let house = House::new().await;
    let keys = Arc::new(Changing::new(7));
    let store = Arc::clone(&house.scene.store);
    let runtime = Runtime { clock: Arc::new(house.clock.clone()), ..tokio_runtime_seeded(6) };
    let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::clone(&keys) as _, runtime.clone()));
    let capabilities = Arc::new(StoreCapabilities::new(store, Arc::clone(&vault), runtime));
    let gate = GrantGate::new(shipped(), ["exec"]).with_capabilities(capabilities.live());
    let house = House { capabilities, gate, ..house };
    let parent = house.grant(0, &["file:write:docs"]).await;
    let task = NewCapability { usage: CapabilityUse::Task, ..new(Some(parent.id), house.agents[0], &[]) };
    let task = house.capabilities.grant(house.scope(), task).await.expect("granted");
    assert!(house.judged(0, &write("docs/a")).await.is_ok());
    keys.becomes(8);
    assert!(house.judged(0, &write("docs/a")).await.is_ok(), "it was opened before");
    // As an agent's snapshot keeps them: nobody asks for them again before the next call.
    let words = house.words(0).await;
    let bounded = vec!["file.*".to_owned(), within(house.scene.tenant, house.agents[0], task.id)];
    assert!(house.under(&bounded, &write("docs/a")).is_ok(), "it lies within the task");
    let elsewhere = Scene::open(Arc::clone(&house.scene.store), 44).await;
    let granted =
        house.capabilities.grant(elsewhere.scope(), new(None, elsewhere.agent, &["file:write:docs"]));
    granted.await.expect("the other tenant gets a key under the present one");
    let words_elsewhere = house.capabilities.words(&elsewhere.scope(), elsewhere.agent).await;
    let words_elsewhere = words_elsewhere.expect("they are read");
    let judged_elsewhere = || {
        let scope = elsewhere.scope();
        let principal = Principal {
            scope: &scope,
            author: scope.actor(),
            grants: &words_elsewhere,
            context: Label::PUBLIC_FACT,
            endorsed: &[],
            plan: Planning::OPEN,
        };
        house.gate.judge(principal, Action::Tool(&write("docs/a")))
    };
    assert!(matches!(judged_elsewhere(), Verdict::Allow { .. }));
    vault.reset(house.scope(), GivenUpBy::Tenant).await.expect("nobody opens the tenant's key any more");
    let after = house.under(&words, &write("docs/a"));
    assert!(after.is_err(), "it goes on to cover what was asked about before: {after:?}");
    let after = house.under(&bounded, &write("docs/a"));
    assert!(after.is_err(), "it goes on to let a task do something: {after:?}");
    assert!(matches!(judged_elsewhere(), Verdict::Allow { .. }), "another tenant lost nothing");
    let after = house.judged(0, &write("docs/a")).await;
    assert!(after.is_err(), "its root key is gone: {after:?}");
    let listed = house.capabilities.list(house.scope(), None, 9).await.expect("a list");
    assert!(listed.iter().all(|(_, state)| *state != CapabilityState::Active), "{listed:?}");
    // Without a restart, what is granted from now on counts.
    house.grant(0, &["file:write:docs"]).await;
    assert!(house.judged(0, &write("docs/a")).await.is_ok());
}

#[tokio::test]
async fn a_look_at_the_signature_alone_is_caught() {
    let house = House::new().await;
    let made = house.grant(0, &["file:write:docs"]).await;
    house.revoke(made.id).await;
    // A check that knows no revocations lets it pass; the gate does not.
    let root = house.root().await;
    let token = root.open(&made.token).expect("its signature holds");
    let resource = Resource::parse("file:write:docs/a").expect("a file");
    let presenter = house.agents[0];
    let asked = Asked { presenter, resource: &resource, wall_ms: 1, at: house.clock.now() };
    assert_eq!(token.check(&asked, &std::collections::BTreeSet::new()), Ok(()));
    assert!(house.judged(0, &write("docs/a")).await.is_err());
}

#[tokio::test]
async fn a_gate_that_asks_no_capabilities_is_caught() {
    let house = House::new().await;
    house.grant(0, &["file:write:docs"]).await;
    let grants = house.words(0).await;
    let unplugged = House { gate: GrantGate::new(shipped(), ["exec"]), ..house };
    assert_eq!(unplugged.under(&grants, &write("docs/a")), default_deny());
    let word = within(unplugged.scene.tenant, unplugged.agents[0], CapabilityId::from_bytes([9; 16]));
    let bounded = vec!["file.*".to_owned(), word];
    assert_eq!(unplugged.under(&bounded, &write("docs/a")), Err("within".to_owned()));
}

#[tokio::test]
async fn a_child_that_outlives_the_row_of_its_parent_is_caught() {
    let house = House::new().await;
    let parent = house.grant(0, &["file:write:docs"]).await;
    let child = house.make(Some(parent.id), 1, &[], None).await.expect("handed on");
    assert!(house.judged(1, &write("docs/a")).await.is_ok());
    house.scene.done(house.scene.batch().with(forget(parent.id))).await;
    let store = Arc::clone(&house.scene.store);
    let runtime = Runtime { clock: Arc::new(house.clock.clone()), ..tokio_runtime_seeded(5) };
    let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(Keys(7)), runtime.clone()));
    let later = Arc::new(StoreCapabilities::new(store, vault, runtime));
    let gate = GrantGate::new(shipped(), ["exec"]).with_capabilities(later.live());
    let later = House { capabilities: later, gate, ..house };
    assert_eq!(later.judged(1, &write("docs/a")).await, Err(format!("capability {}", child.id)));
}

fn forget(capability: CapabilityId) -> Mutation {
    Mutation::CapabilityDrop(CapabilityDrop { capability })
}

impl House {
    /// The key that checks the tenant's tokens, derived as the keeper does it.
    async fn root(&self) -> Roots {
        let runtime = Runtime { clock: Arc::new(self.clock.clone()), ..tokio_runtime_seeded(6) };
        let vault = StoreVault::new(Arc::clone(&self.scene.store), Arc::new(Keys(7)), runtime);
        vault.capability_roots(&self.scope()).await.expect("the tenant has a key")
    }
}

/// A right as the reference knows it: of a tool, or of a file below a directory.
#[derive(Debug, Clone, PartialEq)]
enum Known {
    Tool(Vec<&'static str>),
    Family(Vec<&'static str>),
    Write(Vec<&'static str>),
}

impl Known {
    fn text(&self) -> String {
        match self {
            Self::Tool(words) => format!("tool:{}", words.join(".")),
            Self::Family(words) => format!("tool:{}.*", words.join(".")),
            Self::Write(names) => format!("file:write:{}", names.join("/")),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tool(mine), Self::Tool(words)) => mine == words,
            (Self::Family(mine), Self::Tool(words)) => words.len() > mine.len() && words.starts_with(mine),
            (Self::Family(mine), Self::Family(words)) => words.starts_with(mine),
            (Self::Write(mine), Self::Write(names)) => names.starts_with(mine),
            _ => false,
        }
    }
}

/// A capability of the tree: made from an earlier one or from the root, for an agent, for so many seconds or for ever.
#[derive(Debug, Clone)]
struct Node {
    from: Option<usize>,
    holder: usize,
    rights: Vec<Known>,
    seconds: Option<i64>,
    revoked: bool,
}

fn place() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 0..3)
}

fn right() -> impl Strategy<Value = Known> {
    prop_oneof![
        4 => place().prop_map(Known::Write),
        1 => Just(Known::Tool(vec!["file", "write"])),
        1 => Just(Known::Family(vec!["file"])),
        1 => Just(Known::Tool(vec!["time", "now"])),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let from = prop::option::weighted(0.7, any::<usize>());
    let rights = prop::collection::vec(right(), 1..4);
    (from, 0..3_usize, rights, prop::option::of(1..4_i64), prop::bool::weighted(0.15))
        .prop_map(|(from, holder, rights, seconds, revoked)| Node { from, holder, rights, seconds, revoked })
}

fn trees() -> u32 {
    std::env::var("DROMIA_CAPABILITY_TREES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// Those of the gate are signed and stored one by one, so there are fewer of them.
fn stored_trees() -> u32 {
    (trees() / 10).max(100)
}

/// What the reference says of a tree: for each node the chain that leads to it, or nothing if it cannot be made.
fn chains(nodes: &[Node]) -> Vec<Option<Vec<usize>>> {
    let mut chains: Vec<Option<Vec<usize>>> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let parent = match node.from {
            Some(from) if index > 0 => match &chains[from % index] {
                // What could not be made cannot be handed on: this one is left out as well.
                None => {
                    chains.push(None);
                    continue;
                }
                Some(chain) => chain.clone(),
            },
            Some(_) | None => Vec::new(),
        };
        let is_within = node
            .rights
            .iter()
            .all(|right| parent.iter().all(|&at| nodes[at].rights.iter().any(|known| known.covers(right))));
        chains.push(is_within.then(|| [parent, vec![index]].concat()));
    }
    chains
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(stored_trees()))]

    #[test]
    fn the_gate_allows_what_the_reference_allows(
        nodes in prop::collection::vec(node(), 1..7),
        questions in prop::collection::vec((0..3_usize, place(), any::<bool>()), 6),
        waits in 0..4_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let house = House::new().await;
            let chains = chains(&nodes);
            let mut made: Vec<Option<CapabilityId>> = Vec::new();
            for (index, node) in nodes.iter().enumerate() {
                let from = node.from.filter(|_| index > 0).map(|from| made[from % index]);
                if from == Some(None) {
                    made.push(None);
                    continue;
                }
                let rights: Vec<_> = node.rights.iter().map(Known::text).collect();
                let rights: Vec<_> = rights.iter().map(String::as_str).collect();
                let answer = house.make(from.flatten(), node.holder, &rights, node.seconds).await;
                let found = answer.as_ref().map(|made| made.id).map_err(|fault| fault.code);
                assert_eq!(found.is_ok(), chains[index].is_some(), "{index} of {nodes:?}: {found:?}");
                made.push(found.ok());
            }
            for (node, id) in nodes.iter().zip(&made) {
                if let Some(id) = id.filter(|_| node.revoked) {
                    house.revoke(id).await;
                }
            }
            house.clock.advance(Duration::from_secs(waits));
            for (agent, place, is_write) in &questions {
                let (call, sought) = if *is_write && !place.is_empty() {
                    let tool = Known::Tool(vec!["file", "write"]);
                    (write(&place.join("/")), vec![tool, Known::Write(place.clone())])
                } else {
                    (call("time.now", "{}"), vec![Known::Tool(vec!["time", "now"])])
                };
                let stands = |at: usize| {
                    let seconds = nodes[at].seconds.map(i64::unsigned_abs);
                    !nodes[at].revoked && seconds.is_none_or(|seconds| waits < seconds)
                };
                let covers = |chain: &Vec<usize>| sought.iter().any(|sought| {
                    chain.iter().all(|&at| nodes[at].rights.iter().any(|right| right.covers(sought)))
                });
                let expected = chains.iter().flatten().any(|chain| {
                    let holder = chain.last().map(|&at| nodes[at].holder);
                    holder == Some(*agent) && chain.iter().all(|&at| stands(at)) && covers(chain)
                });
                let found = house.judged(*agent, &call).await;
                assert_eq!(found.is_ok(), expected, "{agent} {} in {nodes:?}: {found:?}", call.arguments);
            }
        });
    }
}

proptest! {
    #[test]
    fn any_text_is_a_right_that_is_spelled_one_way_or_is_refused(
        text in prop_oneof![
            "\\PC{0,24}",
            "(file:(read|write)(:[a-z./ ]{0,12})?|net:http:[a-z.*-]{0,12}|tool:[a-z.*_-]{0,12})",
        ],
    ) {
        if let Ok(right) = Resource::parse(&text) {
            prop_assert_eq!(Resource::parse(&right.to_string()), Ok(right.clone()), "{}", text);
            prop_assert!(right.covers(&right), "{}", text);
        }
    }

    #[test]
    fn any_bytes_are_no_token(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let roots = RootKey::new(ROOT_ID, &[7; 32]).and_then(|root| Roots::new(vec![root.public()]));
        prop_assert!(roots.expect("a key").open(&bytes).is_err());
    }
}
