//! Claims about acts: each change of what a user or an agent may do, use or spend leaves one record of who did it, in
//! the commit that does it, and nothing else leaves one.
//!
//! The port that stores share has no read for acts, so the caller passes one ([`ReadActs`]). `record_kind` lists once
//! more which kind of record a mutation leaves: a new mutation has to be added there.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::ApprovalState;
use dromia_contracts::audit::{AuditAct, AuditChange, AuditCursor, AuditFilter, AuditLog, AuditWhat};
use dromia_contracts::delivery::DeliveryState;
use dromia_contracts::store::{
    AgentStateSet, ApprovalRuleRemove, BudgetRemove, CommitOutcome, DeliveryRedrive, Mutation, SessionOpen,
    StatePut, Store, TenantCreate, TokenCreate, TokenRevoke, WriteBatch,
};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{Actor, AgentId, BoxFuture, Digest, Scope, ScopeAuthority, TenantId};
use jiff::Timestamp;

use super::random::{BatchWriter, StoreOp, TENANTS, tenant_id};
use super::scene::{StoreScene, agent_create, pin_text, scene_time, session_key, session_open};
use super::{approval, budget, capability, retention, revision, vault};
use crate::reference::ReferenceStore;

/// The kinds of records that no mutation leaves: they change no row.
pub const WITHOUT_ROW: [&str; 4] = ["config_applied", "session_exported", "file_put", "picture_fetched"];

/// Reads acts, as a store keeps them.
pub trait ReadActs: Send + Sync {
    /// Returns every act of a scope's tenant with its time, in their order.
    fn acts_of(&self, scope: Scope) -> BoxFuture<'_, Vec<(Timestamp, AuditAct)>>;
}

impl ReadActs for ReferenceStore {
    fn acts_of(&self, scope: Scope) -> BoxFuture<'_, Vec<(Timestamp, AuditAct)>> {
        Box::pin(std::future::ready(self.list_acts(&scope)))
    }
}

/// Acts as they are read off a chain of seals.
#[derive(Debug)]
pub struct SealedActs(pub Arc<dyn AuditLog>);

impl ReadActs for SealedActs {
    fn acts_of(&self, scope: Scope) -> BoxFuture<'_, Vec<(Timestamp, AuditAct)>> {
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

/// Returns the kind of record that a mutation leaves if it changes something and its batch has a requester.
fn record_kind(mutation: &Mutation) -> Option<&'static str> {
    Some(match mutation {
        Mutation::TenantCreate(_) => "tenant_created",
        Mutation::TenantSuspensionSet(_) => "tenant_suspension_set",
        Mutation::TenantErase(_) => "tenant_deleted",
        Mutation::TokenCreate(_) => "token_created",
        Mutation::TokenRevoke(_) => "token_revoked",
        Mutation::AgentCreate(_) => "agent_created",
        Mutation::AgentStateSet(_) => "agent_state_set",
        Mutation::AgentRevise(_) => "agent_revised",
        Mutation::AgentRename(_) => "agent_renamed",
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
        Mutation::SessionErase(_) => "session_erased",
        Mutation::SessionHoldSet(_) => "session_hold_set",
        Mutation::VaultKeyPut(put) if put.replaces.is_some() => "vault_key_replaced",
        // What runs and background tasks write: journals record it, or it changes no right and no budget.
        Mutation::SessionOpen(_)
        | Mutation::ImportEnd(_)
        | Mutation::AnswerPut(_)
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

/// Plays every act against a fresh store and looks for its record: one, with the batch's requester, and none for the
/// same batch sent again, for a batch that is refused and for what background tasks write.
pub async fn every_act_leaves_one_record(store: Arc<dyn Store>, read: &dyn ReadActs) -> Result<(), String> {
    let scene = StoreScene::open_scene(store, 1).await;
    let mut met = BTreeSet::new();
    for (ms, batch) in (100..).zip(act_batches(&scene).await) {
        let expected: Vec<_> = batch.mutations.iter().filter_map(record_kind).collect();
        met.extend(expected.iter().copied());
        check_records(&scene, read, batch, ms, &expected).await?;
    }
    let mut expected = AuditChange::KINDS.iter().filter(|kind| !WITHOUT_ROW.contains(kind));
    if let Some(kind) = expected.find(|kind| !met.contains(**kind)) {
        return Err(format!("nothing is played that leaves {kind}"));
    }
    for (ms, batch) in (200..).zip(machinery_batches(&scene)) {
        check_records(&scene, read, batch, ms, &[]).await?;
    }
    let before = read.acts_of(scene.tenant_scope()).await;
    let wanted = scene.new_batch().wanted_by(&Actor::new("token:ops"), scene_time(300));
    let good = wanted.with_mutation(budget::set_budget(budget::call_budget(7)));
    scene.commit_refused(good.with_mutation(Mutation::SecretPut(vault::sealed_secret("late", 9)))).await;
    if read.acts_of(scene.tenant_scope()).await != before {
        return Err("a batch that was refused left a record".to_owned());
    }
    Ok(())
}

/// Commits a batch twice, and compares what is new with what is expected.
async fn check_records(
    scene: &StoreScene,
    read: &dyn ReadActs,
    batch: WriteBatch,
    ms: i64,
    expected: &[&str],
) -> Result<(), String> {
    let by = Actor::new("token:ops");
    let batch = batch.wanted_by(&by, scene_time(ms));
    let scope = ScopeAuthority::claim().issue_scope(batch.tenant, by.clone());
    let before = read.acts_of(scope.clone()).await;
    for time in ["once", "twice"] {
        scene.commit_done(batch.clone()).await;
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

/// Every act, each in a batch of its own that was not sent before.
async fn act_batches(scene: &StoreScene) -> Vec<WriteBatch> {
    let run = scene.begin_turn(0).await;
    let dead = scene.commit_reply(run, "webhook:t0").await;
    scene.begin_attempt(dead, 1).await;
    scene.settle_attempt(dead, 1, DeliveryState::Dead).await;
    let run = scene.begin_turn(1).await;
    let run = scene.store.run(&scene.tenant_scope(), run).await.expect("a read").expect("the run");
    let asked = approval::asked_by(&run, 2);
    let answer = approval::answer_mutation(asked.id, ApprovalState::Holding, true, 50);
    scene.commit_mutation(Mutation::ApprovalAsk(Box::new(asked))).await;

    let (token, bob) = (scene.token_id(), scene.agent_id());
    let (other, handle) = (TenantId::from_bytes([0xac; 16]), "other".parse().expect("a handle"));
    let create = TenantCreate { handle, at: scene_time(9), body_key: [9; 32] };
    let mutations = vec![
        Mutation::TokenCreate(TokenCreate {
            token,
            hash: Digest::from_bytes([4; 32]),
            name: "ci".to_owned(),
            scopes: TokenScopes::ADMIN,
            expires_at: None,
            at: scene_time(10),
        }),
        Mutation::TokenRevoke(TokenRevoke { token, at: scene_time(11) }),
        Mutation::TenantSuspensionSet(Some(scene_time(12))),
        Mutation::TenantSuspensionSet(None),
        agent_create(bob, "bob"),
        revision::agent_revise(bob, 1, 14, &["reply", "exec"]),
        revision::agent_rename(bob, "rob"),
        set_agent_state(bob, AgentState::Paused),
        set_agent_state(bob, AgentState::Running),
        set_agent_state(bob, AgentState::Terminated),
        set_agent_state(bob, AgentState::Deleting),
        Mutation::StatePut(StatePut {
            session: scene.session,
            name: "note".to_owned(),
            expected: None,
            value: Bytes::from_static(b"1"),
            at: scene_time(12),
            write: scene.write_id(),
        }),
        Mutation::DeliveryRedrive(DeliveryRedrive { delivery: dead, redrives: 0, at: scene_time(70) }),
        Mutation::SecretPut(vault::sealed_secret("key", 1)),
        Mutation::SecretPut(vault::sealed_secret("key", 2)),
        vault::erase_mutation("key", 2),
        vault::key_mutation("first", None),
        vault::key_mutation("next", Some("first")),
        Mutation::CapabilityPut(capability::new_capability(scene.agent, 1)),
        Mutation::CapabilityPut(capability::new_capability(scene.agent, 2)),
        Mutation::CapabilityPut(capability::new_capability(scene.agent, 3)),
        capability::revoke_mutation(1, 20),
        // It counts, as far as its own row goes.
        capability::drop_mutation(2),
        budget::set_budget(budget::call_budget(5)),
        budget::set_budget(budget::call_budget(6)),
        Mutation::BudgetRemove(BudgetRemove { name: "b".to_owned() }),
        answer,
        approval::rule_of(scene.agent, 5),
        Mutation::ApprovalRuleRemove(ApprovalRuleRemove { name: "r5".to_owned() }),
        Mutation::SessionOpen(SessionOpen {
            session: scene.session_id(),
            agent: scene.agent,
            key: session_key("from a file"),
            at: scene_time(13),
            believes: true,
            importing: false,
            origin: None,
        }),
    ];
    let erased = scene.session_id();
    scene.commit_mutation(session_open(erased, scene.agent, "erased")).await;
    let mutations = mutations.into_iter().chain([
        retention::hold_mutation(erased, true),
        retention::hold_mutation(erased, false),
        retention::erase_mutation(erased),
    ]);
    let mut story: Vec<_> = mutations.map(|mutation| scene.new_batch().with_mutation(mutation)).collect();
    // An agent keeps the tenant there, so that its erasure can be sent again.
    let of_other = [
        Mutation::TenantCreate(create),
        agent_create(scene.agent_id(), "kept"),
        Mutation::TenantSuspensionSet(Some(scene_time(14))),
        Mutation::TenantErase(scene_time(15)),
    ];
    story.extend(of_other.map(|mutation| WriteBatch::new(other).with_mutation(mutation)));
    story
}

/// What changes no rights, and what changes nothing any more.
fn machinery_batches(scene: &StoreScene) -> Vec<WriteBatch> {
    let mutations = vec![
        session_open(scene.session_id(), scene.agent, "more"),
        Mutation::InboxPut(scene.put_input(scene.item_id())),
        Mutation::PinPut(pin_text("a text")),
        vault::key_mutation("sealed", None),
        // The capability is already revoked, so dropping it changes no right.
        capability::drop_mutation(1),
        Mutation::BudgetRemove(BudgetRemove { name: "b".to_owned() }),
        vault::erase_mutation("key", 2),
    ];
    mutations.into_iter().map(|mutation| scene.new_batch().with_mutation(mutation)).collect()
}

fn set_agent_state(agent: AgentId, to: AgentState) -> Mutation {
    let from = vec![AgentState::Running, AgentState::Paused, AgentState::Terminated];
    Mutation::AgentStateSet(AgentStateSet { agent, from, to })
}

/// Plays random operations against a store and the reference, each batch with a requester, and compares their acts.
pub async fn equal_acts(store: Arc<dyn Store>, read: &dyn ReadActs, ops: &[StoreOp]) -> Result<(), String> {
    let oracle = ReferenceStore::new();
    let mut writer = BatchWriter::new(oracle.clone());
    for batch in BatchWriter::world_batches() {
        commit_both(&oracle, &store, batch).await?;
    }
    for op in ops {
        if let Some(batch) = writer.batch_of_op(op) {
            commit_both(&oracle, &store, batch).await?;
        }
    }
    for tenant in 0..TENANTS {
        let scope = ScopeAuthority::claim().issue_scope(tenant_id(tenant), Actor::new("test:acts"));
        let (mine, theirs) = (oracle.list_acts(&scope), read.acts_of(scope).await);
        // The order of acts within one batch is a store's own.
        let (mine, theirs) = (sorted_texts(&mine), sorted_texts(&theirs));
        if mine != theirs {
            return Err(format!("acts differ\n  reference: {mine:#?}\n  store: {theirs:#?}"));
        }
    }
    Ok(())
}

async fn commit_both(
    oracle: &ReferenceStore,
    store: &Arc<dyn Store>,
    batch: WriteBatch,
) -> Result<(), String> {
    let batch = batch.wanted_by(&Actor::new("token:ops"), scene_time(500));
    let (mine, theirs) = (oracle.commit(batch.clone()).await, store.commit(batch).await);
    match (&mine, &theirs) {
        (CommitOutcome::Done(_), CommitOutcome::Done(_))
        | (CommitOutcome::Refused(_), CommitOutcome::Refused(_)) => Ok(()),
        _ => Err(format!("the reference answers {mine:?}, the store {theirs:?}")),
    }
}

/// Writes acts with their times, in an order of their own.
pub fn sorted_texts(acts: &[(Timestamp, AuditAct)]) -> Vec<String> {
    let mut lines: Vec<_> = acts.iter().map(|(at, act)| format!("{at} {act:?}")).collect();
    lines.sort();
    lines
}
