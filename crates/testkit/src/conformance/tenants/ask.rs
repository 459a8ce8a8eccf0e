//! What a tenant asks: every read that takes a scope, about rows that one of the two tenants has.
//!
//! Answers are texts, so that all of them are compared alike. What a type's `Debug` holds back is written out here.

use bytes::Bytes;
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::id_fragment::IdKind;
use dromia_contracts::session::{InboxOwner, SessionKey};
use dromia_contracts::store::{
    ApprovalFilter, DeliveryFilter, Mutation, PageRequest, ReadError, RunFilter, Store, TailLimits,
    WriteBatch,
};
use dromia_contracts::vault::{SealedSecret, SecretSummary};
use dromia_contracts::{
    AgentId, ApprovalId, CapabilityId, DeliveryId, Digest, OperatorScope, RunId, Scope, SessionId, TokenId,
};

use crate::conformance::random::tenant_id;
use crate::conformance::scene::{scene_time, session_key};
use crate::sim::SeededRng;

/// The reads of the port that a tenant is answered by; `token` and `outbox_waiting` are asked for it by the server. What a
/// tenant erases is compared as a write.
pub const READS: &[&str] = &[
    "find_token_owner",
    "tenant_record",
    "tenant_counts",
    "tokens",
    "token_by_id",
    "budgets",
    "approval",
    "approvals",
    "approval_rules",
    "agents",
    "agent",
    "agent_by_handle",
    "agent_revision",
    "agent_revisions",
    "session",
    "session_by_key",
    "sessions",
    "session_tail",
    "ids_like",
    "run",
    "runs",
    "troubled_runs",
    "working_runs",
    "spending_since",
    "run_spending",
    "child_sessions",
    "session_children",
    "journal_entries",
    "run_checkpoint",
    "inbox_items",
    "opening_inputs",
    "find_keyed_item",
    "pinned_text",
    "session_hold",
    "held_sessions",
    "idle_sessions",
    "session_state",
    "state_entry",
    "delivery_record",
    "deliveries",
    "outbox_waiting",
    "feed_items",
    "feed_state",
    "kept_answer",
    "vault_key",
    "secrets",
    "secret",
    "capabilities",
    "file_label",
    "file_labels",
];

/// What there is to ask about, of both tenants: everything that a batch named, whether it was done or not.
#[derive(Debug, Default)]
pub(super) struct KnownIds {
    agents: Vec<AgentId>,
    revisions: Vec<Digest>,
    sessions: Vec<SessionId>,
    runs: Vec<RunId>,
    deliveries: Vec<DeliveryId>,
    approvals: Vec<ApprovalId>,
    capabilities: Vec<CapabilityId>,
    tokens: Vec<(TokenId, Digest)>,
    pins: Vec<Digest>,
}

impl KnownIds {
    /// Keeps the ids of a batch.
    pub(super) fn learn_ids(&mut self, batch: &WriteBatch) {
        self.runs.extend(batch.claim.as_ref().map(|claim| claim.run));
        for mutation in &batch.mutations {
            match mutation {
                Mutation::AgentCreate(create) => {
                    self.agents.push(create.agent);
                    self.revisions.push(create.revision);
                }
                Mutation::SessionOpen(open) => self.sessions.push(open.session),
                Mutation::DeliveryPrepare(prepare) => self.deliveries.push(prepare.delivery),
                Mutation::ApprovalAsk(approval) => self.approvals.push(approval.id),
                Mutation::CapabilityPut(capability) => self.capabilities.push(capability.id),
                Mutation::TokenCreate(create) => self.tokens.push((create.token, create.hash)),
                Mutation::PinPut(pin) => self.pins.push(pin.digest),
                _ => {}
            }
        }
    }
}

/// One read with everything that it may need.
#[derive(Debug, Clone)]
pub(super) struct StoreQuestion {
    read: &'static str,
    tenant: u8,
    narrow: Option<AgentId>,
    agent: AgentId,
    revision: Digest,
    session: SessionId,
    run: RunId,
    delivery: DeliveryId,
    approval: ApprovalId,
    capability: CapabilityId,
    token: (TokenId, Digest),
    pin: Digest,
    /// One of a few names that both tenants use.
    name: usize,
    is_paged: bool,
    limit: usize,
}

impl StoreQuestion {
    /// Draws a question that a tenant asks.
    pub(super) fn draw_question(
        read: &'static str,
        tenant: usize,
        known: &KnownIds,
        dice: &mut SeededRng,
    ) -> Self {
        fn one<T: Copy>(all: &[T], dice: &mut SeededRng, nothing: T) -> T {
            all.get(dice.draw_below(all.len())).copied().unwrap_or(nothing)
        }
        let tenant = u8::from(tenant == 1);
        // A token authenticates its own tenant, so a tenant asks with its own tokens only.
        let own = |(_, hash): &&(TokenId, Digest)| hash.as_bytes()[1] == 1 + tenant;
        let tokens: Vec<_> =
            known.tokens.iter().filter(|token| read != "find_token_owner" || own(token)).copied().collect();
        let agent = one(&known.agents, dice, AgentId::from_bytes([0; 16]));
        Self {
            read,
            tenant,
            narrow: (dice.draw_below(6) == 0).then_some(agent),
            agent,
            revision: one(&known.revisions, dice, Digest::default()),
            session: one(&known.sessions, dice, SessionId::from_bytes([0; 16])),
            run: one(&known.runs, dice, RunId::from_bytes([0; 16])),
            delivery: one(&known.deliveries, dice, DeliveryId::from_bytes([0; 16])),
            approval: one(&known.approvals, dice, ApprovalId::from_bytes([0; 16])),
            capability: one(&known.capabilities, dice, CapabilityId::from_bytes([0; 16])),
            token: one(&tokens, dice, (TokenId::from_bytes([0; 16]), Digest::default())),
            pin: one(&known.pins, dice, Digest::default()),
            name: dice.draw_below(4),
            is_paged: dice.draw_below(4) == 0,
            limit: [1, 2, 8, 256][dice.draw_below(4)],
        }
    }

    /// Narrows the scope, where the question is asked under a narrow one.
    pub(super) fn narrow_scope(&self, scope: &Scope) -> Scope {
        self.narrow.map_or_else(|| scope.clone(), |agent| scope.narrowed_to(agent))
    }

    /// The id whose digits are typed, and its noun.
    fn typed_id(&self) -> (IdKind, [u8; 16]) {
        match (self.name, self.is_paged) {
            (0, false) => (IdKind::Run, *self.run.as_bytes()),
            (0, true) => (IdKind::Session, *self.session.as_bytes()),
            (1, _) => (IdKind::Approval, *self.approval.as_bytes()),
            (2, false) => (IdKind::Delivery, *self.delivery.as_bytes()),
            (2, true) => (IdKind::Capability, *self.capability.as_bytes()),
            _ => (IdKind::Token, *self.token.0.as_bytes()),
        }
    }

    /// Asks a store.
    pub(super) async fn ask_store(
        &self,
        store: &dyn Store,
        operator: &OperatorScope,
        scope: &Scope,
    ) -> String {
        let named = |prefix: &str| format!("{prefix}{}", self.name);
        let runs = RunFilter {
            session: (self.name == 1).then_some(self.session),
            agent: (self.name == 2).then_some(self.agent),
            status: None,
        };
        match self.read {
            "find_token_owner" => answer_text(store.find_token_owner(operator, self.token.1).await),
            "tokens" => {
                let name = [None, Some("ci"), Some("cd"), None][self.name];
                answer_text(store.tokens(scope, name, self.page_after(self.token.0)).await)
            }
            "token_by_id" => answer_text(store.token_by_id(scope, self.token.0).await),
            "tenant_record" => answer_text(store.tenant_record(scope).await),
            "tenant_counts" => answer_text(store.tenant_counts(scope).await),
            "budgets" => answer_text(store.budgets(scope, scene_time(9)).await),
            "approval" => answer_text(store.approval(scope, self.approval).await),
            "approvals" => {
                let agent = (self.name == 1).then_some(self.agent);
                let filter = ApprovalFilter { agent, open_at: (self.name > 1).then(|| scene_time(9)) };
                answer_text(store.approvals(scope, filter, self.page_after(self.approval)).await)
            }
            "approval_rules" => answer_text(store.approval_rules(scope).await),
            "agents" => answer_text(store.agents(scope, None, self.page_after(self.agent)).await),
            "agent" => answer_text(store.agent(scope, self.agent).await),
            "agent_by_handle" => {
                let handle: HandleSlug = named("a").parse().expect("a letter and a digit");
                answer_text(store.agent_by_handle(scope, &handle).await)
            }
            "agent_revision" => answer_text(store.agent_revision(scope, self.agent, self.revision).await),
            "agent_revisions" => {
                let page = PageRequest { after: self.is_paged.then_some(2), limit: self.limit };
                answer_text(store.agent_revisions(scope, self.agent, page).await)
            }
            "session" => answer_text(store.session(scope, self.session).await),
            "session_by_key" => {
                let key: SessionKey = session_key(&named("c"));
                answer_text(store.session_by_key(scope, self.agent, &key).await)
            }
            "sessions" => {
                let agent = (self.name == 1).then_some(self.agent);
                answer_text(store.sessions(scope, agent, self.page_after(self.session)).await)
            }
            "session_tail" => {
                let limits = TailLimits { after: 0, items: self.limit, bytes: 1 << 20, until: None };
                answer_text(store.session_tail(scope, self.session, limits).await)
            }
            "ids_like" => {
                let (kind, id) = self.typed_id();
                let hex = format!("{:032x}", u128::from_be_bytes(id));
                let part = if self.is_paged { &hex[..8] } else { &hex[24..] };
                let part = part.parse().expect("eight digits");
                answer_text(store.ids_like(scope, kind, part, self.limit).await)
            }
            "run" => answer_text(store.run(scope, self.run).await),
            "runs" => answer_text(store.runs(scope, runs, self.page_after(self.run)).await),
            "troubled_runs" => {
                answer_text(store.troubled_runs(scope, jiff::Timestamp::MIN, self.limit).await)
            }
            "working_runs" => answer_text(store.working_runs(scope, self.limit).await),
            "spending_since" => answer_text(store.spending_since(scope, self.run, self.limit).await),
            "run_spending" => answer_text(store.run_spending(scope, runs, self.page_after(self.run)).await),
            "child_sessions" => {
                answer_text(store.child_sessions(scope, self.run, self.page_after(self.session)).await)
            }
            "session_children" => {
                let page = self.page_after(self.session);
                answer_text(store.session_children(scope, self.session, false, page).await)
            }
            "journal_entries" => {
                answer_text(store.journal_entries(scope, self.run, self.after_position(), self.limit).await)
            }
            "run_checkpoint" => answer_text(store.run_checkpoint(scope, self.run).await),
            "inbox_items" => {
                let owner = if self.name == 0 {
                    InboxOwner::Run(self.run)
                } else {
                    InboxOwner::Session(self.session)
                };
                answer_text(store.inbox_items(scope, owner, self.after_position(), self.limit).await)
            }
            "opening_inputs" => {
                let owners = [InboxOwner::Session(self.session), InboxOwner::Run(self.run)];
                answer_text(store.opening_inputs(scope, &owners).await)
            }
            "find_keyed_item" => answer_text(store.find_keyed_item(scope, &named("k"), scene_time(3)).await),
            "pinned_text" => answer_text(store.pinned_text(scope, self.pin).await),
            "session_hold" => answer_text(store.session_hold(scope, self.session).await),
            "held_sessions" => answer_text(store.held_sessions(scope, self.page_after(self.session)).await),
            "idle_sessions" => {
                let before = scene_time(1 << 43);
                answer_text(store.idle_sessions(scope, before, self.page_after(self.session)).await)
            }
            "session_state" => {
                let page = PageRequest { after: self.is_paged.then_some("s0"), limit: self.limit };
                answer_text(store.session_state(scope, self.session, page).await)
            }
            "state_entry" => {
                let name = ["s0", "s1", "s0", "s1"][self.name];
                answer_text(store.state_entry(scope, self.session, name).await)
            }
            "delivery_record" => answer_text(store.delivery_record(scope, self.delivery).await),
            "deliveries" => {
                let target = (self.name == 1).then(|| "webhook:t0".to_owned());
                let filter = DeliveryFilter { state: None, target };
                answer_text(store.deliveries(scope, filter, self.page_after(self.delivery)).await)
            }
            "outbox_waiting" => {
                let target = ["webhook:t0", "webhook:t1", "webhook:t0", "webhook:t1"][self.name];
                answer_text(store.outbox_waiting(operator, tenant_id(self.tenant), target).await)
            }
            "feed_items" => answer_text(store.feed_items(scope, self.after_position(), self.limit).await),
            "feed_state" => answer_text(store.feed_state(scope).await),
            "kept_answer" => {
                let key = [[0; 32], [1; 32], [2; 32], [3; 32]][self.name];
                answer_text(store.kept_answer(scope, Digest::from_bytes(key)).await)
            }
            "vault_key" => answer_text(store.vault_key(scope).await),
            "secrets" => {
                let page = PageRequest { after: self.is_paged.then_some("s0"), limit: self.limit };
                let secrets = store.secrets(scope, page).await;
                answer_text(secrets.map(|all| all.into_iter().map(sealed_parts).collect::<Vec<_>>()))
            }
            "secret" => {
                let name = ["s0", "s1", "s0", "s1"][self.name];
                answer_text(store.secret(scope, name).await.map(|secret| secret.map(sealed_parts)))
            }
            "file_label" => answer_text(store.file_label(scope, self.agent, &named("f")).await),
            "file_labels" => {
                let page = PageRequest { after: self.is_paged.then_some("f0"), limit: self.limit };
                answer_text(store.file_labels(scope, self.agent, page).await)
            }
            "capabilities" => answer_text(store.capabilities(scope, self.page_after(self.capability)).await),
            other => panic!("no read is called {other}"),
        }
    }

    fn page_after<Id>(&self, after: Id) -> PageRequest<Id> {
        PageRequest { after: self.is_paged.then_some(after), limit: self.limit }
    }

    fn after_position(&self) -> u64 {
        u64::from(self.is_paged)
    }
}

fn answer_text<T: std::fmt::Debug>(answer: Result<T, ReadError>) -> String {
    answer.map_or_else(|error| format!("failed: {error:?}"), |found| format!("{found:?}"))
}

/// All of a sealed secret, which its `Debug` does not show.
fn sealed_parts(sealed: SealedSecret) -> (SecretSummary, Bytes, Bytes) {
    (sealed.secret, sealed.key, sealed.value)
}
