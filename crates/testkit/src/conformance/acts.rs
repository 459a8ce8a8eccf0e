//! Claims about acts: whatever changes what somebody may do, use or spend leaves one record of who did it, in the commit
//! that does it, and nothing else leaves one.
//!
//! How acts are read is no part of the port that stores share, so whoever runs this says it ([`ReadActs`]). Which kind of
//! record a mutation leaves is said here once more (`leaves`), mutation by mutation: a new one has to be put there.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::ApprovalState;
use dromia_contracts::audit::{Act, AuditCursor, AuditFilter, AuditLog, AuditWhat};
use dromia_contracts::delivery::DeliveryState;
use dromia_contracts::store::{
    AgentStateSet, ApprovalRuleRemove, Batch, BudgetRemove, Commit, DeliveryRedrive, Mutation, SessionOpen,
    StatePut, Store, TenantCreate, TokenCreate, TokenRevoke,
};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{Actor, AgentId, Authority, BoxFuture, Digest, Scope, TenantId};
use jiff::Timestamp;

use super::random::{Op, TENANTS, Writer, tenant_id};
use super::scene::{Scene, agent_create, at, pin, session_key, session_open};
use super::{approval, budget, capability, vault};
use crate::reference::ReferenceStore;

/// Every kind of record that a mutation leaves. Three have none: `config_applied`, `before_sealed` and
/// `session_exported` change no row.
pub const KINDS: [&str; 19] = [
    "tenant_created",
    "token_created",
    "token_revoked",
    "agent_created",
    "agent_state_set",
    "state_put",
    "delivery_redriven",
    "secret_set",
    "secret_erased",
    "capability_granted",
    "capability_delegated",
    "capability_revoked",
    "budget_set",
    "budget_removed",
    "approval_answered",
    "approval_rule_set",
    "approval_rule_removed",
    "session_trusted",
    "vault_key_replaced",
];

/// Reads acts, as a store keeps them.
pub trait ReadActs: Send + Sync {
    /// Returns every act of a scope's tenant with its time, in their order.
    fn acts_of(&self, scope: Scope) -> BoxFuture<'_, Vec<(Timestamp, Act)>>;
}

impl ReadActs for ReferenceStore {
    fn acts_of(&self, scope: Scope) -> BoxFuture<'_, Vec<(Timestamp, Act)>> {
        Box::pin(std::future::ready(self.acts(&scope)))
    }
}

/// Acts as they are read off a chain of seals.
#[derive(Debug)]
pub struct Sealed(pub Arc<dyn AuditLog>);

impl ReadActs for Sealed {
    fn acts_of(&self, scope: Scope) -> BoxFuture<'_, Vec<(Timestamp, Act)>> {
        Box::pin(async move {
            let (mut acts, mut after) = (Vec::new(), AuditCursor::default());
            loop {
                let page = self.0.audit_items(&scope, AuditFilter::default(), after, 256).await;
                let page = page.expect("the chain is read");
                acts.extend(page.items.into_iter().filter_map(|item| match item.what {
                    AuditWhat::Act { act, .. } => Some((item.at, act)),
                    AuditWhat::Entry { .. } | AuditWhat::Unknown { .. } => None,
                }));
                after = page.next;
                if page.is_last {
                    return acts;
                }
            }
        })
    }
}

/// Says which record a mutation leaves that changes something and that somebody wants.
fn leaves(mutation: &Mutation) -> Option<&'static str> {
    Some(match mutation {
        Mutation::TenantCreate(_) => "tenant_created",
        Mutation::TokenCreate(_) => "token_created",
        Mutation::TokenRevoke(_) => "token_revoked",
        Mutation::AgentCreate(_) => "agent_created",
        Mutation::AgentStateSet(_) => "agent_state_set",
        Mutation::StatePut(_) => "state_put",
        Mutation::DeliveryRedrive(_) => "delivery_redriven",
        Mutation::SecretPut(_) => "secret_set",
        Mutation::SecretErase(_) => "secret_erased",
        Mutation::CapabilityPut(put) if put.parent.is_none() => "capability_granted",
        Mutation::CapabilityPut(_) => "capability_delegated",
        Mutation::CapabilityRevoke(_) | Mutation::CapabilityDrop(_) => "capability_revoked",
        Mutation::BudgetSet(_) => "budget_set",
        Mutation::BudgetRemove(_) => "budget_removed",
        Mutation::ApprovalAnswer(_) => "approval_answered",
        Mutation::ApprovalRulePut(_) => "approval_rule_set",
        Mutation::ApprovalRuleRemove(_) => "approval_rule_removed",
        Mutation::SessionOpen(open) if open.believes => "session_trusted",
        Mutation::VaultKeyPut(put) if put.replaces.is_some() => "vault_key_replaced",
        // What runs and machinery write: journals tell of it, or it gives nobody more and nobody less.
        Mutation::SessionOpen(_)
        | Mutation::ImportEnd(_)
        | Mutation::InboxPut(_)
        | Mutation::PinPut(_)
        | Mutation::RunAppend(_)
        | Mutation::RunTakeover(_)
        | Mutation::DeliveryPrepare(_)
        | Mutation::DeliveryStart(_)
        | Mutation::DeliverySettle(_)
        | Mutation::DeliveryDrop(_)
        | Mutation::FeedNumber(_)
        | Mutation::CursorMove(_)
        | Mutation::VaultKeyPut(_)
        | Mutation::FileLabelsPut(_)
        | Mutation::ApprovalAsk(_) => return None,
    })
}

/// Plays every act against a fresh store and looks for its record: one, by whoever wanted it, and none for the same batch
/// sent again, for a batch that is refused and for what machinery writes.
pub async fn every_act_leaves_one_record(store: Arc<dyn Store>, read: &dyn ReadActs) -> Result<(), String> {
    let scene = Scene::open(store, 1).await;
    let mut met = BTreeSet::new();
    for (ms, batch) in (100..).zip(story(&scene).await) {
        let expected: Vec<_> = batch.mutations.iter().filter_map(leaves).collect();
        met.extend(expected.iter().copied());
        plays(&scene, read, batch, ms, &expected).await?;
    }
    if let Some(kind) = KINDS.iter().find(|kind| !met.contains(**kind)) {
        return Err(format!("nothing is played that leaves {kind}"));
    }
    for (ms, batch) in (200..).zip(machinery(&scene)) {
        plays(&scene, read, batch, ms, &[]).await?;
    }
    let before = read.acts_of(scene.scope()).await;
    let wanted = scene.batch().wanted_by(&Actor::new("token:ops"), at(300));
    let good = wanted.with(budget::set(budget::calls(7)));
    scene.refused(good.with(Mutation::SecretPut(vault::sealed("late", 9)))).await;
    if read.acts_of(scene.scope()).await != before {
        return Err("a batch that was refused left a record".to_owned());
    }
    Ok(())
}

/// Commits a batch twice, and compares what is new with what is expected.
async fn plays(
    scene: &Scene,
    read: &dyn ReadActs,
    batch: Batch,
    ms: i64,
    expected: &[&str],
) -> Result<(), String> {
    let by = Actor::new("token:ops");
    let batch = batch.wanted_by(&by, at(ms));
    let scope = Authority::claim().scope(batch.tenant, by.clone());
    let before = read.acts_of(scope.clone()).await;
    for time in ["once", "twice"] {
        scene.done(batch.clone()).await;
        let after = read.acts_of(scope.clone()).await;
        let Some(new) = after.strip_prefix(before.as_slice()) else {
            return Err(format!("{:?} changed what was there", batch.mutations));
        };
        let kinds: Vec<_> = new.iter().map(|(_, act)| act.change.kind()).collect();
        if kinds != expected {
            let played = &batch.mutations;
            return Err(format!("expected {expected:?}, found {kinds:?} after {played:?}, played {time}"));
        }
        if let Some((_, act)) = new.iter().find(|(_, act)| act.by.as_ref() != Some(&by)) {
            return Err(format!("{act:?} is not by {by}"));
        }
    }
    Ok(())
}

/// Every act, each in a batch that nobody sent before.
async fn story(scene: &Scene) -> Vec<Batch> {
    let run = scene.turn(0).await;
    let dead = scene.replied(run, "webhook:t0").await;
    scene.begun(dead, 1).await;
    scene.settled(dead, 1, DeliveryState::Dead).await;
    let run = scene.turn(1).await;
    let run = scene.store.run(&scene.scope(), run).await.expect("a read").expect("the run");
    let asked = approval::asked_by(&run, 2);
    let answer = approval::answer(asked.id, ApprovalState::Holding, true, 50);
    scene.done(scene.batch().with(Mutation::ApprovalAsk(Box::new(asked)))).await;

    let (token, bob) = (scene.token_id(), scene.agent_id());
    let (other, handle) = (TenantId::from_bytes([0xac; 16]), "other".parse().expect("a handle"));
    let create = TenantCreate { handle, at: at(9), body_key: [9; 32] };
    let mutations = vec![
        Mutation::TokenCreate(TokenCreate {
            token,
            hash: Digest::from_bytes([4; 32]),
            name: "ci".to_owned(),
            scopes: TokenScopes::ADMIN,
            expires_at: None,
            at: at(10),
        }),
        Mutation::TokenRevoke(TokenRevoke { token, at: at(11) }),
        agent_create(bob, "bob"),
        becomes(bob, AgentState::Paused),
        becomes(bob, AgentState::Running),
        becomes(bob, AgentState::Terminated),
        becomes(bob, AgentState::Deleting),
        Mutation::StatePut(StatePut {
            session: scene.session,
            name: "note".to_owned(),
            expected: None,
            value: Bytes::from_static(b"1"),
            at: at(12),
        }),
        Mutation::DeliveryRedrive(DeliveryRedrive { delivery: dead, redrives: 0, at: at(70) }),
        Mutation::SecretPut(vault::sealed("key", 1)),
        Mutation::SecretPut(vault::sealed("key", 2)),
        vault::erase("key", 2),
        vault::key("first", None),
        vault::key("next", Some("first")),
        Mutation::CapabilityPut(capability::capability(scene.agent, 1)),
        Mutation::CapabilityPut(capability::capability(scene.agent, 2)),
        Mutation::CapabilityPut(capability::capability(scene.agent, 3)),
        capability::revoke(1, 20),
        // It counts, as far as its own row goes.
        capability::forget(2),
        budget::set(budget::calls(5)),
        budget::set(budget::calls(6)),
        Mutation::BudgetRemove(BudgetRemove { name: "b".to_owned() }),
        answer,
        approval::rule_of(scene.agent, 5),
        Mutation::ApprovalRuleRemove(ApprovalRuleRemove { name: "r5".to_owned() }),
        Mutation::SessionOpen(SessionOpen {
            session: scene.session_id(),
            agent: scene.agent,
            key: session_key("from a file"),
            at: at(13),
            believes: true,
            importing: false,
        }),
    ];
    let mut story: Vec<_> = mutations.into_iter().map(|mutation| scene.batch().with(mutation)).collect();
    story.push(Batch::new(other).with(Mutation::TenantCreate(create)));
    story
}

/// What changes no rights, and what changes nothing any more.
fn machinery(scene: &Scene) -> Vec<Batch> {
    let mutations = vec![
        session_open(scene.session_id(), scene.agent, "more"),
        Mutation::InboxPut(scene.put(scene.item_id())),
        Mutation::PinPut(pin("a text")),
        vault::key("sealed", None),
        // It was taken back, so nobody has less for it.
        capability::forget(1),
        Mutation::BudgetRemove(BudgetRemove { name: "b".to_owned() }),
        vault::erase("key", 2),
    ];
    mutations.into_iter().map(|mutation| scene.batch().with(mutation)).collect()
}

fn becomes(agent: AgentId, to: AgentState) -> Mutation {
    let from = vec![AgentState::Running, AgentState::Paused, AgentState::Terminated];
    Mutation::AgentStateSet(AgentStateSet { agent, from, to })
}

/// Plays random operations against a store and the reference, as wanted by somebody, and compares their acts.
pub async fn equal_acts(store: Arc<dyn Store>, read: &dyn ReadActs, ops: &[Op]) -> Result<(), String> {
    let oracle = ReferenceStore::new();
    let mut writer = Writer::new(oracle.clone());
    for batch in Writer::world() {
        both(&oracle, &store, batch).await?;
    }
    for op in ops {
        if let Some(batch) = writer.batch(op) {
            both(&oracle, &store, batch).await?;
        }
    }
    for tenant in 0..TENANTS {
        let scope = Authority::claim().scope(tenant_id(tenant), Actor::new("test:acts"));
        let (mine, theirs) = (oracle.acts(&scope), read.acts_of(scope).await);
        // The order of acts within one batch is a store's own.
        let (mine, theirs) = (sorted(&mine), sorted(&theirs));
        if mine != theirs {
            return Err(format!("acts differ\n  reference: {mine:#?}\n  store: {theirs:#?}"));
        }
    }
    Ok(())
}

async fn both(oracle: &ReferenceStore, store: &Arc<dyn Store>, batch: Batch) -> Result<(), String> {
    let batch = batch.wanted_by(&Actor::new("token:ops"), at(500));
    let (mine, theirs) = (oracle.commit(batch.clone()).await, store.commit(batch).await);
    match (&mine, &theirs) {
        (Commit::Done(_), Commit::Done(_)) | (Commit::Refused(_), Commit::Refused(_)) => Ok(()),
        _ => Err(format!("the reference answers {mine:?}, the store {theirs:?}")),
    }
}

/// Writes acts with their times, in an order of their own.
pub fn sorted(acts: &[(Timestamp, Act)]) -> Vec<String> {
    let mut lines: Vec<_> = acts.iter().map(|(at, act)| format!("{at} {act:?}")).collect();
    lines.sort();
    lines
}
