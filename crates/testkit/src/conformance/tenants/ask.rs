//! What a tenant asks: every read that takes a scope, about rows that one of the two tenants has.
//!
//! Answers are texts, so that all of them are compared alike. What a type's `Debug` holds back is written out here.

use bytes::Bytes;
use dromia_contracts::agent::Handle;
use dromia_contracts::session::{InboxOwner, SessionKey};
use dromia_contracts::store::{
    ApprovalFilter, Batch, DeliveryFilter, Mutation, Page, ReadError, RunFilter, Store, TailLimits,
};
use dromia_contracts::vault::{SealedSecret, Secret};
use dromia_contracts::{
    AgentId, ApprovalId, CapabilityId, DeliveryId, Digest, Operator, RunId, Scope, SessionId, TokenId,
};

use crate::conformance::random::tenant_id;
use crate::conformance::scene::{at, session_key};
use crate::sim::Dice;

/// The reads of the port that a tenant is answered by; `token` and `outbox_waiting` are asked for it by the server. What a
/// tenant erases is compared as a write.
pub const READS: &[&str] = &[
    "token",
    "tokens",
    "token_by_id",
    "budgets",
    "approval",
    "approvals",
    "approval_rules",
    "agents",
    "agent",
    "agent_by_handle",
    "revision",
    "session",
    "session_by_key",
    "sessions",
    "session_tail",
    "run",
    "runs",
    "run_spending",
    "journal",
    "inbox",
    "keyed",
    "pin",
    "state",
    "state_entry",
    "delivery",
    "deliveries",
    "outbox_waiting",
    "feed",
    "feed_state",
    "vault_key",
    "secrets",
    "secret",
    "capabilities",
    "file_label",
    "file_labels",
];

/// What there is to ask about, of both tenants: everything that a batch named, whether it was done or not.
#[derive(Debug, Default)]
pub(super) struct Known {
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

impl Known {
    /// Keeps the ids of a batch.
    pub(super) fn learn(&mut self, batch: &Batch) {
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
pub(super) struct Question {
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

impl Question {
    /// Draws a question that a tenant asks.
    pub(super) fn draw(read: &'static str, tenant: usize, known: &Known, dice: &mut Dice) -> Self {
        fn one<T: Copy>(all: &[T], dice: &mut Dice, nothing: T) -> T {
            all.get(dice.below(all.len())).copied().unwrap_or(nothing)
        }
        let tenant = u8::from(tenant == 1);
        // Who holds another tenant's token is that tenant, so nobody asks with it.
        let own = |(_, hash): &&(TokenId, Digest)| hash.as_bytes()[1] == 1 + tenant;
        let tokens: Vec<_> =
            known.tokens.iter().filter(|token| read != "token" || own(token)).copied().collect();
        let agent = one(&known.agents, dice, AgentId::from_bytes([0; 16]));
        Self {
            read,
            tenant,
            narrow: (dice.below(6) == 0).then_some(agent),
            agent,
            revision: one(&known.revisions, dice, Digest::default()),
            session: one(&known.sessions, dice, SessionId::from_bytes([0; 16])),
            run: one(&known.runs, dice, RunId::from_bytes([0; 16])),
            delivery: one(&known.deliveries, dice, DeliveryId::from_bytes([0; 16])),
            approval: one(&known.approvals, dice, ApprovalId::from_bytes([0; 16])),
            capability: one(&known.capabilities, dice, CapabilityId::from_bytes([0; 16])),
            token: one(&tokens, dice, (TokenId::from_bytes([0; 16]), Digest::default())),
            pin: one(&known.pins, dice, Digest::default()),
            name: dice.below(4),
            is_paged: dice.below(4) == 0,
            limit: [1, 2, 8, 256][dice.below(4)],
        }
    }

    /// Narrows the scope, where the question is asked under a narrow one.
    pub(super) fn scope(&self, scope: &Scope) -> Scope {
        self.narrow.map_or_else(|| scope.clone(), |agent| scope.narrowed_to(agent))
    }

    /// Asks a store.
    pub(super) async fn answer(&self, store: &dyn Store, operator: &Operator, scope: &Scope) -> String {
        let named = |prefix: &str| format!("{prefix}{}", self.name);
        let runs = RunFilter {
            session: (self.name == 1).then_some(self.session),
            agent: (self.name == 2).then_some(self.agent),
            status: None,
        };
        match self.read {
            "token" => text(store.token(operator, self.token.1).await),
            "tokens" => {
                let name = [None, Some("ci"), Some("cd"), None][self.name];
                text(store.tokens(scope, name, self.page(self.token.0)).await)
            }
            "token_by_id" => text(store.token_by_id(scope, self.token.0).await),
            "budgets" => text(store.budgets(scope, at(9)).await),
            "approval" => text(store.approval(scope, self.approval).await),
            "approvals" => {
                let agent = (self.name == 1).then_some(self.agent);
                let filter = ApprovalFilter { agent, open_at: (self.name > 1).then(|| at(9)) };
                text(store.approvals(scope, filter, self.page(self.approval)).await)
            }
            "approval_rules" => text(store.approval_rules(scope).await),
            "agents" => text(store.agents(scope, None, self.page(self.agent)).await),
            "agent" => text(store.agent(scope, self.agent).await),
            "agent_by_handle" => {
                let handle: Handle = named("a").parse().expect("a letter and a digit");
                text(store.agent_by_handle(scope, &handle).await)
            }
            "revision" => text(store.revision(scope, self.agent, self.revision).await),
            "session" => text(store.session(scope, self.session).await),
            "session_by_key" => {
                let key: SessionKey = session_key(&named("c"));
                text(store.session_by_key(scope, self.agent, &key).await)
            }
            "sessions" => {
                let agent = (self.name == 1).then_some(self.agent);
                text(store.sessions(scope, agent, self.page(self.session)).await)
            }
            "session_tail" => {
                let limits = TailLimits { items: self.limit, bytes: 1 << 20 };
                text(store.session_tail(scope, self.session, limits).await)
            }
            "run" => text(store.run(scope, self.run).await),
            "runs" => text(store.runs(scope, runs, self.page(self.run)).await),
            "run_spending" => text(store.run_spending(scope, runs, self.page(self.run)).await),
            "journal" => text(store.journal(scope, self.run, self.after(), self.limit).await),
            "inbox" => {
                let owner = if self.name == 0 {
                    InboxOwner::Run(self.run)
                } else {
                    InboxOwner::Session(self.session)
                };
                text(store.inbox(scope, owner, self.after(), self.limit).await)
            }
            "keyed" => text(store.keyed(scope, &named("k"), at(3)).await),
            "pin" => text(store.pin(scope, self.pin).await),
            "state" => {
                let page = Page { after: self.is_paged.then_some("s0"), limit: self.limit };
                text(store.state(scope, self.session, page).await)
            }
            "state_entry" => {
                let name = ["s0", "s1", "s0", "s1"][self.name];
                text(store.state_entry(scope, self.session, name).await)
            }
            "delivery" => text(store.delivery(scope, self.delivery).await),
            "deliveries" => {
                let target = (self.name == 1).then(|| "webhook:t0".to_owned());
                let filter = DeliveryFilter { state: None, target };
                text(store.deliveries(scope, filter, self.page(self.delivery)).await)
            }
            "outbox_waiting" => {
                let target = ["webhook:t0", "webhook:t1", "webhook:t0", "webhook:t1"][self.name];
                text(store.outbox_waiting(operator, tenant_id(self.tenant), target).await)
            }
            "feed" => text(store.feed(scope, self.after(), self.limit).await),
            "feed_state" => text(store.feed_state(scope).await),
            "vault_key" => text(store.vault_key(scope).await),
            "secrets" => {
                let page = Page { after: self.is_paged.then_some("s0"), limit: self.limit };
                let secrets = store.secrets(scope, page).await;
                text(secrets.map(|all| all.into_iter().map(opened).collect::<Vec<_>>()))
            }
            "secret" => {
                let name = ["s0", "s1", "s0", "s1"][self.name];
                text(store.secret(scope, name).await.map(|secret| secret.map(opened)))
            }
            "file_label" => text(store.file_label(scope, self.agent, &named("f")).await),
            "file_labels" => {
                let page = Page { after: self.is_paged.then_some("f0"), limit: self.limit };
                text(store.file_labels(scope, self.agent, page).await)
            }
            "capabilities" => text(store.capabilities(scope, self.page(self.capability)).await),
            other => panic!("no read is called {other}"),
        }
    }

    fn page<Id>(&self, after: Id) -> Page<Id> {
        Page { after: self.is_paged.then_some(after), limit: self.limit }
    }

    fn after(&self) -> u64 {
        u64::from(self.is_paged)
    }
}

fn text<T: std::fmt::Debug>(answer: Result<T, ReadError>) -> String {
    answer.map_or_else(|error| format!("failed: {error:?}"), |found| format!("{found:?}"))
}

/// All of a sealed secret, which its `Debug` does not show.
fn opened(sealed: SealedSecret) -> (Secret, Bytes, Bytes) {
    (sealed.secret, sealed.key, sealed.value)
}
