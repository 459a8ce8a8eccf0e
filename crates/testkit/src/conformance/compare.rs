//! Plays one sequence against two stores and insists on equal receipts and equal reads.
//!
//! Equal means equal values. Only the words inside `NotFound`, `Malformed` and `ReadOnly`, which are for people,
//! and the rest of a lease may differ.

use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::retention::IdlePage;
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{
    ApprovalFilter, CommitOutcome, CommitRefusal, DeliveryFilter, PageRequest, ReadError, RunFilter, Store,
    TailLimits, WriteBatch,
};
use dromia_contracts::{Actor, Digest, RunId, Scope, ScopeAuthority};
use jiff::Timestamp;

use super::random::{BatchWriter, StoreOp, TENANTS, tenant_id, token_hash, token_id};
use super::scene::scene_time;
use crate::reference::ReferenceStore;

/// Plays the operations against the reference store and another one.
pub async fn equals_the_reference(store: Arc<dyn Store>, ops: &[StoreOp]) -> Result<(), String> {
    let oracle = ReferenceStore::new();
    let mut writer = BatchWriter::new(oracle.clone());
    let oracle: Arc<dyn Store> = Arc::new(oracle);
    equal_receipts_and_reads(&oracle, &store, BatchWriter::world_batches()).await?;
    for either in [&oracle, &store] {
        let begun = BatchWriter::begin_living_holder(&**either).await;
        begun.map_err(|error| format!("no life begins: {error}"))?;
    }
    for op in ops {
        // The oracle must have the batches so far before the next one can be written.
        if let Some(batch) = writer.batch_of_op(op) {
            equal_receipts(&oracle, &store, batch).await?;
        }
    }
    equal_reads(&oracle, &store).await
}

/// Commits a sequence of batches to both stores and compares every answer, and every read at the end.
pub async fn equal_receipts_and_reads(
    a: &Arc<dyn Store>,
    b: &Arc<dyn Store>,
    batches: Vec<WriteBatch>,
) -> Result<(), String> {
    for batch in batches {
        equal_receipts(a, b, batch).await?;
    }
    equal_reads(a, b).await
}

async fn equal_receipts(a: &Arc<dyn Store>, b: &Arc<dyn Store>, batch: WriteBatch) -> Result<(), String> {
    let (from_a, from_b) = (a.commit(batch.clone()).await, b.commit(batch.clone()).await);
    equal("the answer to", &batch, without_words(from_a), without_words(from_b))
}

/// Takes the words for people out of an answer.
fn without_words(commit: CommitOutcome) -> CommitOutcome {
    match commit {
        CommitOutcome::Refused(CommitRefusal::NotFound(_)) => {
            CommitOutcome::Refused(CommitRefusal::NotFound(String::new()))
        }
        CommitOutcome::Refused(CommitRefusal::Malformed(_)) => {
            CommitOutcome::Refused(CommitRefusal::Malformed(String::new()))
        }
        CommitOutcome::Refused(CommitRefusal::LeaseLasts { .. }) => {
            CommitOutcome::Refused(CommitRefusal::LeaseLasts { left: Duration::ZERO })
        }
        CommitOutcome::Refused(CommitRefusal::ReadOnly { .. }) => {
            CommitOutcome::Refused(CommitRefusal::ReadOnly { cause: String::new() })
        }
        other => other,
    }
}

/// Looks for sessions that may be erased; what rows take on a disk is a store's own.
async fn idle_without_sizes(
    store: &Arc<dyn Store>,
    scope: &Scope,
    before: Timestamp,
    limit: usize,
) -> Result<IdlePage, ReadError> {
    let mut page = store.idle_sessions(scope, before, PageRequest { after: None, limit }).await?;
    page.due.iter_mut().for_each(|idle| idle.bytes = 0);
    Ok(page)
}

/// Compares every read of the world's tenants.
pub async fn equal_reads(a: &Arc<dyn Store>, b: &Arc<dyn Store>) -> Result<(), String> {
    let authority = ScopeAuthority::claim();
    let operator = authority.issue_operator();
    macro_rules! same {
        ($store:ident => $read:expr) => {{
            let from_a = {
                let $store = a;
                $read.await
            };
            let from_b = {
                let $store = b;
                $read.await
            };
            equal(stringify!($read), &(), from_a.clone(), from_b)?;
            from_a.map_err(|error| format!("a read failed: {error}"))?
        }};
    }
    same!(s => s.tenants(&operator, PageRequest::first_page(3)));
    same!(s => s.open_runs(&operator, PageRequest::first_page(256)));
    same!(s => s.signalled_runs(&operator, PageRequest::first_page(256)));
    same!(s => s.living_lives(&operator));
    same!(s => s.pending_sessions(&operator, PageRequest::first_page(256)));
    same!(s => s.deleting_agents(&operator));
    same!(s => s.erasing_sessions(&operator));
    for (skip, limit) in [(0, 2), (1, 2), (0, 256)] {
        same!(s => s.cooling_approvals(&operator, scene_time(9), skip, limit));
    }
    same!(s => s.open_deliveries(&operator, PageRequest::first_page(256)));
    for after in (0..TENANTS).map(|tenant| Some(tenant_id(tenant))).chain([None]) {
        same!(s => s.unnumbered_deliveries(&operator, after, 256));
    }
    for number in 0..64 {
        same!(s => s.find_token_owner(&operator, token_hash(number)));
    }
    for tenant in 0..TENANTS {
        let scope = authority.issue_scope(tenant_id(tenant), Actor::new("test:compare"));
        same!(s => s.tokens(&scope, Some("ci"), PageRequest { after: Some(token_id(3)), limit: 2 }));
        for token in same!(s => s.tokens(&scope, None, PageRequest::first_page(256))) {
            same!(s => s.token_by_id(&scope, token.id));
        }
        for agent in same!(s => s.agents(&scope, None, PageRequest::first_page(256))) {
            same!(s => s.agent(&scope, agent.id));
            same!(s => s.agent_by_handle(&scope, &agent.handle));
            same!(s => s.agent_revision(&scope, agent.id, agent.revision));
            same!(s => s.agent_revisions(&scope, agent.id, PageRequest::first_page(9)));
            same!(s => s.file_label(&scope, agent.id, "f0"));
            same!(s => s.file_labels(&scope, agent.id, PageRequest { after: Some("f0"), limit: 2 }));
            same!(s => s.file_labels(&scope, agent.id, PageRequest::first_page(256)));
            let narrow = scope.narrowed_to(agent.id);
            same!(s => s.runs(&narrow, RunFilter::default(), PageRequest::first_page(256)));
            same!(s => s.troubled_runs(&narrow, scene_time(3), 256));
            same!(s => s.working_runs(&narrow, 256));
            same!(s => s.spending_since(&narrow, RunId::from_bytes([0; 16]), 256));
            same!(s => s.run_spending(&narrow, RunFilter::default(), PageRequest::first_page(256)));
        }
        for run in same!(s => s.runs(&scope, RunFilter::default(), PageRequest::first_page(256))) {
            same!(s => s.child_sessions(&scope, run.id, PageRequest::first_page(256)));
        }
        for session in same!(s => s.sessions(&scope, None, PageRequest::first_page(256))) {
            same!(s => s.session(&scope, session.id));
            same!(s => s.session_hold(&scope, session.id));
            for open in [false, true] {
                same!(s => s.session_children(&scope, session.id, open, PageRequest::first_page(256)));
            }
            same!(s => s.session_by_key(&scope, session.agent, &session.key));
            same!(s => s.session_state(&scope, session.id, PageRequest { after: Some("s0"), limit: 1 }));
            for entry in same!(s => s.session_state(&scope, session.id, PageRequest::first_page(256))) {
                same!(s => s.state_entry(&scope, session.id, &entry.name));
                // The sequences pin each value that they write as state.
                let digest = Digest::from_bytes(*blake3::hash(&entry.value).as_bytes());
                same!(s => s.pinned_text(&scope, digest));
            }
            same!(s => s.inbox_items(&scope, InboxOwner::Session(session.id), 0, 256));
            same!(s => s.inbox_items(&scope, InboxOwner::Session(session.id), 1, 2));
            let filter = RunFilter { session: Some(session.id), ..RunFilter::default() };
            same!(s => s.runs(&scope, filter, PageRequest::first_page(256)));
            for items in [0, 1, 2, 3, 256] {
                let limits = TailLimits { after: 0, items, bytes: 1 << 20, until: None };
                same!(s => s.session_tail(&scope, session.id, limits));
                let limits = TailLimits { until: Some(1), ..limits };
                same!(s => s.session_tail(&scope, session.id, limits));
            }
        }
        same!(s => s.held_sessions(&scope, PageRequest::first_page(256)));
        for (before, limit) in [(scene_time(9), 256), (scene_time(1 << 43), 2), (scene_time(1 << 43), 256)] {
            same!(s => idle_without_sizes(s, &scope, before, limit));
        }
        for limit in [1, 2, 256] {
            same!(s => s.troubled_runs(&scope, scene_time(9), limit));
            same!(s => s.working_runs(&scope, limit));
            same!(s => s.spending_since(&scope, RunId::from_bytes([0; 16]), limit));
        }
        same!(s => s.feed_state(&scope));
        for hour in 0..4 {
            same!(s => s.budgets(&scope, scene_time(9 + hour * 3_600_000)));
        }
        same!(s => s.capabilities(&scope, PageRequest::first_page(256)));
        same!(s => s.approval_rules(&scope));
        let open = ApprovalFilter { agent: None, open_at: Some(scene_time(9)) };
        same!(s => s.approvals(&scope, open, PageRequest::first_page(256)));
        for approval in
            same!(s => s.approvals(&scope, ApprovalFilter::default(), PageRequest::first_page(256)))
        {
            same!(s => s.approval(&scope, approval.id));
        }
        same!(s => s.feed_items(&scope, 0, 256));
        same!(s => s.feed_items(&scope, 1, 1));
        same!(s => s.outbox_waiting(&operator, tenant_id(tenant), "webhook:t0"));
        for delivery in
            same!(s => s.deliveries(&scope, DeliveryFilter::default(), PageRequest::first_page(256)))
        {
            same!(s => s.delivery_record(&scope, delivery.id));
            let filter = DeliveryFilter { state: Some(delivery.state), target: Some(delivery.target) };
            let page = PageRequest { after: Some(delivery.id), limit: 2 };
            same!(s => s.deliveries(&scope, filter.clone(), page));
        }
        equal_runs(a, b, &scope).await?;
    }
    Ok(())
}

async fn equal_runs(a: &Arc<dyn Store>, b: &Arc<dyn Store>, scope: &Scope) -> Result<(), String> {
    let read = |error| format!("a read failed: {error}");
    let runs = a.runs(scope, RunFilter::default(), PageRequest::first_page(256)).await.map_err(read)?;
    let first = PageRequest::first_page(256);
    let (from_a, from_b) = (
        a.run_spending(scope, RunFilter::default(), first).await,
        b.run_spending(scope, RunFilter::default(), first).await,
    );
    equal("what runs spent", &(), from_a, from_b)?;
    equal(
        "runs",
        &(),
        &runs,
        &b.runs(scope, RunFilter::default(), PageRequest::first_page(256)).await.map_err(read)?,
    )?;
    for run in runs {
        equal("run", &run.id, a.run(scope, run.id).await, b.run(scope, run.id).await)?;
        let inbox = InboxOwner::Run(run.id);
        equal(
            "signals of",
            &run.id,
            a.inbox_items(scope, inbox, 0, 256).await,
            b.inbox_items(scope, inbox, 0, 256).await,
        )?;
        for (after, limit) in [(0, 256), (1, 2)] {
            let (from_a, from_b) = (
                a.journal_entries(scope, run.id, after, limit).await,
                b.journal_entries(scope, run.id, after, limit).await,
            );
            equal("journal of", &run.id, from_a, from_b)?;
        }
        let (from_a, from_b) = (a.run_checkpoint(scope, run.id).await, b.run_checkpoint(scope, run.id).await);
        equal("checkpoint of", &run.id, from_a, from_b)?;
        let filter = RunFilter { status: Some(run.head.status), agent: Some(run.agent), session: None };
        let (from_a, from_b) = (
            a.runs(scope, filter, PageRequest::first_page(9)).await,
            b.runs(scope, filter, PageRequest::first_page(9)).await,
        );
        equal("runs by status and agent", &filter, from_a, from_b)?;
    }
    let nothing = Digest::default();
    equal(
        "a pin that nobody put",
        &(),
        a.pinned_text(scope, nothing).await,
        b.pinned_text(scope, nothing).await,
    )
}

#[expect(clippy::needless_pass_by_value, reason = "both values are made for this comparison")]
fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    about: &impl std::fmt::Debug,
    a: T,
    b: T,
) -> Result<(), String> {
    if a == b { Ok(()) } else { Err(format!("{what} {about:?} differs\n  a: {a:?}\n  b: {b:?}")) }
}
