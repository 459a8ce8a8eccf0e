//! A gateway on free doors, with two tenants that must never meet.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dromia_contracts::agent::{AgentConfig, AgentRecord, AgentState, TenantRecord};
use dromia_contracts::approval::{
    ApprovalDeadlines, ApprovalRequest, ApprovalRuleRecord, ApprovalState, BoundParts, CallSource,
    JudgedCall, RuleAnswer,
};
use dromia_contracts::budget::{BudgetDefinition, BudgetMeasure, BudgetPeriod, BudgetScope};
use dromia_contracts::compute::ComputeHere;
use dromia_contracts::identity_document::{DocumentDigest, DocumentName};
use dromia_contracts::label::Label;
use dromia_contracts::lease::NodeLife;
use dromia_contracts::plan::CallProvenance;
use dromia_contracts::run::{RunHead, RunKind, RunRecord, RunStatus};
use dromia_contracts::run_origin::RunOrigin;
use dromia_contracts::runs::NewToken;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::session::{SessionHead, SessionKey, SessionRecord};
use dromia_contracts::store::{BudgetSet, Mutation, StoredEntry};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::{
    Actor, AgentId, ApprovalId, CallId, CapabilityId, DeliveryId, Digest, RunId, ScopeAuthority, SessionId,
    TenantId, TokenId,
};
use dromia_gateway::{
    DrainReport, GatewayConfig, GatewayDeadlines, GatewayHandle, GatewayPorts, build_gateway,
};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake::audit::Ledger;
use crate::fake::capabilities::Cabinet;
use crate::fake::line::Line;
use crate::fake::outgoing::OneKey;
use crate::fake::tools::FakeToolHost;
use crate::fake::vault::Locker;
use crate::fake::{Rooms, Tasks, outgoing};

/// A tenant with one of everything.
#[derive(Debug, Clone)]
pub(crate) struct House {
    pub tenant: TenantId,
    pub token: String,
    pub token_id: TokenId,
    pub agent: AgentId,
    pub session: SessionId,
    pub child: SessionId,
    pub run: RunId,
    pub delivery: DeliveryId,
    pub approval: ApprovalId,
}

/// A served gateway.
pub(crate) struct World {
    pub rooms: Arc<Rooms>,
    pub keys: Arc<OneKey>,
    pub line: Arc<Line>,
    pub handle: GatewayHandle,
    pub ours: House,
    pub theirs: House,
    pub stop: CancellationToken,
    pub served: JoinHandle<DrainReport>,
    pub socket: PathBuf,
    _directory: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("dromia.sock");
        let rooms = Arc::new(Rooms::default());
        let ours = house(&rooms, "default");
        let theirs = house(&rooms, "other");
        let mut config = GatewayConfig {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            socket: Some(socket.clone()),
            default_agent: Some("ops".parse().unwrap()),
            deadlines: GatewayDeadlines { drain_ms: 1_000, ..GatewayConfig::default().deadlines },
            ..GatewayConfig::default()
        };
        change(&mut config);
        let runtime = Runtime {
            clock: rooms.clone(),
            ids: rooms.clone(),
            spawn: Arc::new(Tasks),
            compute: Arc::new(ComputeHere),
            life: Arc::new(NodeLife::new("test", [1; 32])),
        };
        let authority = ScopeAuthority::claim();
        let keys = Arc::new(OneKey::default());
        let outbox = outgoing::outbox(rooms.clone(), runtime.clone(), keys.clone());
        let shelf = Arc::new(FakeToolHost::default());
        let audit = Arc::new(Ledger(rooms.clone()));
        let line = Arc::new(Line::default());
        let ports = GatewayPorts {
            store: rooms.clone(),
            runs: rooms.clone(),
            outbox,
            tools: shelf.clone(),
            files: shelf.clone(),
            gate: shelf,
            reach: line.clone(),
            terms: Arc::new(ToolTerms::default()),
            vault: Arc::new(Locker(
                [&ours, &theirs].map(|house| (house.tenant, house.run.to_string())).to_vec(),
            )),
            audit: audit.clone(),
            notary: audit,
            capabilities: Arc::new(Cabinet::of(&[&ours, &theirs])),
            runtime,
            authority,
        };
        let (gateway, handle) = build_gateway(config, ports).await.unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(gateway.run(stop.clone().cancelled_owned()));
        Self { rooms, keys, line, handle, ours, theirs, stop, served, socket, _directory: directory }
    }

    /// Waits until something holds, at most a while.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(tokio::time::Instant::now() < deadline, "never: {what}");
            tokio::task::yield_now().await;
        }
    }
}

impl House {
    /// The id of its capability.
    pub(crate) fn capability(&self) -> CapabilityId {
        CapabilityId::from_bytes(*self.run.as_bytes())
    }

    /// The name of its budget.
    pub(crate) fn budget(&self) -> String {
        self.run.to_string().replace('_', "-")
    }
}

fn house(rooms: &Rooms, handle: &str) -> House {
    let mut inner = rooms.lock();
    let at = Timestamp::UNIX_EPOCH;
    let tenant = TenantId::from_uuid(inner.uuid());
    inner.tenants.push(TenantRecord {
        id: tenant,
        handle: handle.parse().unwrap(),
        created_at: at,
        suspended_at: None,
    });
    let token = format!("drm_{handle}");
    let new = NewToken { name: "ci".into(), scopes: TokenScopes::ADMIN, expires_at: None };
    let house = House {
        tenant,
        token_id: inner.token(tenant, &token, new).id,
        token,
        agent: AgentId::from_uuid(inner.uuid()),
        session: SessionId::from_uuid(inner.uuid()),
        run: RunId::from_uuid(inner.uuid()),
        delivery: DeliveryId::from_uuid(inner.uuid()),
        approval: ApprovalId::from_uuid(inner.uuid()),
        child: SessionId::from_uuid(inner.uuid()),
    };
    let agent = AgentRecord {
        id: house.agent,
        handle: "ops".parse().unwrap(),
        display_name: format!("Ops of {handle}"),
        labels: std::collections::BTreeMap::default(),
        created_at: at,
        state: AgentState::Running,
        revision: Digest::default(),
        revision_number: 1,
    };
    let config = AgentConfig {
        model: "default".into(),
        instructions: "Run the servers.".into(),
        grants: vec!["reply".into()],
        identity: [(DocumentName::Soul, DocumentDigest { digest: Digest::default(), bytes: 13 })].into(),
        ..AgentConfig::default()
    };
    inner.agents.push((house.tenant, agent, config));
    let (per, measure, period) = (BudgetScope::Tenant, BudgetMeasure::Calls, BudgetPeriod::Day);
    let budget =
        BudgetDefinition { name: house.budget(), per, of: None, measure, period, limit: 9, declared: false };
    let rule = ApprovalRuleRecord {
        name: house.budget(),
        answer: RuleAnswer::Allow,
        rule: "file.read path=notes/**".to_owned(),
        agent: Some(house.agent),
        session: None,
        owner: Actor::new("token:ci"),
        created_at: at,
        expires_at: Timestamp::MAX,
    };
    inner.approvals.push((house.tenant, asked(&house)));
    let key = SessionKey { platform: "cli".into(), channel: "c".into(), actor: Actor::new("cli:1") };
    let head = SessionHead { last: 3, taken: 1, active: Some(house.run) };
    inner.sessions.push((
        house.tenant,
        SessionRecord { id: house.session, agent: house.agent, key, opened_at: at, head, origin: None },
    ));
    let key = SessionKey { platform: "branch".into(), channel: "d".into(), actor: Actor::new("agent:ops") };
    let head = SessionHead { last: 1, taken: 0, active: None };
    let origin = Some(Box::new(branch_origin(&house)));
    inner.sessions.push((
        house.tenant,
        SessionRecord { id: house.child, agent: house.agent, key, opened_at: at, head, origin },
    ));
    let head = RunHead {
        status: RunStatus::Running,
        wake_at: None,
        model_calls: 0,
        usage: dromia_contracts::model::TokenUsage::default(),
        cost_micros: 0,
        unpriced_calls: 0,
    };
    inner.runs.push((
        house.tenant,
        RunRecord {
            id: house.run,
            kind: RunKind::Turn,
            agent: house.agent,
            session: house.session,
            started_at: at,
            updated_at: at,
            last_seq: 0,
            epoch: 1,
            entry_epoch: 1,
            head,
            signals_last: 0,
            signals_taken: 0,
            holder: None,
        },
    ));
    drop(inner);
    outgoing::dead_message(rooms, &house, handle);
    rooms.settle(house.tenant, Mutation::BudgetSet(BudgetSet { budget }));
    rooms.settle(house.tenant, Mutation::ApprovalRulePut(rule));
    house
}

/// Where the branch of a house comes from.
fn branch_origin(house: &House) -> RunOrigin {
    RunOrigin {
        run: house.run,
        call: CallId { step: 1, index: 0 },
        kind: RunKind::Branch,
        session: house.session,
        position: 1,
        topic: None,
        role: None,
        deadline_ms: None,
        agent: house.agent,
        root: house.run,
        depth: 1,
        grants: Vec::new(),
    }
}

/// A call of a house that waits for a person.
fn asked(house: &House) -> ApprovalRequest {
    ApprovalRequest {
        id: house.approval,
        rule: "permission".to_owned(),
        reason: String::new(),
        approvers: Vec::new(),
        state: ApprovalState::Holding,
        released: false,
        answer: None,
        used_by: None,
        source: CallSource {
            agent: house.agent,
            session: house.session,
            run: house.run,
            call: CallId { step: 1, index: 0 },
            author: Actor::new("cli:1"),
            hops: 0,
        },
        judged: JudgedCall {
            context: Label::ACTOR_TEXT,
            provenance: CallProvenance::default(),
            tool: "file.read".to_owned(),
            arguments: r#"{"path":"notes"}"#.to_owned(),
            action: Digest::default(),
            binding: Digest::default(),
            bound: BoundParts { call: 1, tool: 2, asker: 3, rule: 4, contents: None },
            origins: Vec::new(),
        },
        deadlines: ApprovalDeadlines {
            asked_at: Timestamp::UNIX_EPOCH,
            holds_until: Timestamp::MAX,
            expires_at: Timestamp::MAX,
            cools_until: None,
        },
    }
}

/// An entry that only its number tells from others.
pub(crate) fn entry(seq: u64) -> StoredEntry {
    stored(seq, "tool_started", "{}", None)
}

/// An entry as the store keeps it.
pub(crate) fn stored(seq: u64, kind: &str, fields: &str, body: Option<&str>) -> StoredEntry {
    StoredEntry {
        seq,
        at: Timestamp::UNIX_EPOCH,
        epoch: 1,
        kind: kind.to_owned(),
        version: 1,
        fields: fields.to_owned(),
        body: body.map(|body| Bytes::from(body.to_owned())),
        chain: Digest::default(),
    }
}
