//! The reference store passes the suite, and the comparison notices a store that differs.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dromia_contracts::audit::{AuditAct, AuditChange};
use dromia_contracts::id_fragment::{IdFragment, IdKind};
use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, Mutation, Read, Store, StoreWrapper, WriteBatch,
};
use dromia_contracts::{Actor, BoxFuture, Scope, ScopeAuthority};
use dromia_testkit::conformance::acts::{ReadActs, WITHOUT_ROW, every_act_leaves_one_record};
use dromia_testkit::conformance::compare::{equal_receipts_and_reads, equals_the_reference};
use dromia_testkit::conformance::random::{BatchWriter, TENANTS, op_sequences, tenant_id};
use dromia_testkit::conformance::tenant_erasure::check_tenant_erasure;
use dromia_testkit::conformance::{self, CLAIMS};
use dromia_testkit::faulty::CommitFault;
use dromia_testkit::{FaultyStore, ReferenceStore, SimExecutor};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

fn fresh() -> Arc<dyn Store> {
    Arc::new(ReferenceStore::new())
}

#[test]
#[expect(clippy::print_stdout, reason = "`make conformance` shows the table")]
fn the_reference_store_passes_the_suite() {
    let reports = SimExecutor::new(1).block_on(conformance::report_store(|| async { fresh() }));
    let reports = reports.expect("the suite ends");
    let table = conformance::conformance_table("store", "reference", &reports);
    print!("{table}");
    assert!(reports.iter().all(|report| report.problem.is_none()), "{table}");
    let names: BTreeSet<_> = CLAIMS.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), CLAIMS.len(), "no claim is listed twice");
}

#[test]
fn every_planted_fault_of_a_store_is_a_test() {
    let tests = [include_str!("reference.rs"), include_str!("../../../store/tests/it/conformance.rs")];
    for (claim, fault) in conformance::PLANTED_FAULTS {
        assert!(CLAIMS.iter().any(|(name, _)| name == claim), "there is no claim {claim}");
        let test = format!("fn {fault}()");
        assert!(tests.iter().any(|source| source.contains(&test)), "there is no test {fault}");
    }
}

/// A store that stops looking at the first id that fits.
#[derive(Debug)]
struct FirstIdStore(ReferenceStore);

impl StoreWrapper for FirstIdStore {
    fn wrapped_store(&self) -> &dyn Store {
        &self.0
    }

    fn ids_like<'a>(
        &'a self,
        scope: &'a Scope,
        kind: IdKind,
        fragment: IdFragment,
        _: usize,
    ) -> Read<'a, Vec<[u8; 16]>> {
        self.0.ids_like(scope, kind, fragment, 1)
    }
}

#[test]
fn a_part_that_picks_one_of_two_ids_is_caught() {
    let name = "digits_that_several_ids_share_find_all_of_them_newest_first";
    let claim = CLAIMS.iter().find(|(claim, _)| *claim == name).expect("the claim").1;
    let hasty: Arc<dyn Store> = Arc::new(FirstIdStore(ReferenceStore::new()));
    let play = AssertUnwindSafe(move || SimExecutor::new(1).block_on(claim(hasty)));
    let played = std::panic::catch_unwind(play);
    assert!(played.is_err(), "a store that names one of two ids passes");
}

/// A store that puts what a claim says of its end whether the claim is granted or not.
#[derive(Debug)]
struct HastyNoticeStore(ReferenceStore);

impl StoreWrapper for HastyNoticeStore {
    fn wrapped_store(&self) -> &dyn Store {
        &self.0
    }

    fn commit(&self, mut batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        let notice = batch.claim.as_mut().and_then(|claim| claim.notice.take());
        batch.mutations.extend(notice.map(|put| Mutation::InboxPut(*put)));
        self.0.commit(batch)
    }
}

#[test]
fn a_notice_that_does_not_wait_for_its_claim_is_caught() {
    let name = "a_notice_is_put_with_its_claim_or_not_at_all";
    let claim = CLAIMS.iter().find(|(claim, _)| *claim == name).expect("the claim").1;
    let hasty: Arc<dyn Store> = Arc::new(HastyNoticeStore(ReferenceStore::new()));
    let play = AssertUnwindSafe(move || SimExecutor::new(1).block_on(claim(hasty)));
    assert!(std::panic::catch_unwind(play).is_err(), "a false notice passes");
}

/// A store that gives what a living process holds to whoever asks.
#[derive(Debug)]
struct LeaselessStore(ReferenceStore);

impl StoreWrapper for LeaselessStore {
    fn wrapped_store(&self) -> &dyn Store {
        &self.0
    }

    fn commit(&self, mut batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        let scope = ScopeAuthority::claim().issue_scope(batch.tenant, Actor::new("test:suite"));
        for mutation in &mut batch.mutations {
            match mutation {
                Mutation::RunTakeover(takeover) => {
                    let run = self.0.run(&scope, takeover.run).now_or_never();
                    let holder = run.and_then(Result::ok).flatten().and_then(|run| run.holder);
                    takeover.holder = holder.unwrap_or(takeover.holder);
                }
                Mutation::DeliverySettle(settle) => {
                    let found = self.0.delivery_record(&scope, settle.delivery).now_or_never();
                    let found = found.and_then(Result::ok).flatten();
                    let holder = found.and_then(|record| record.delivery.holder);
                    settle.holder = holder.unwrap_or(settle.holder);
                }
                _ => {}
            }
        }
        self.0.commit(batch)
    }
}

/// Plays a claim against a store that knows no lease; tells whether it is noticed.
fn is_leaseless_noticed(name: &str) -> bool {
    let claim = CLAIMS.iter().find(|(claim, _)| *claim == name).expect("the claim").1;
    let leaseless: Arc<dyn Store> = Arc::new(LeaselessStore(ReferenceStore::new()));
    let play = AssertUnwindSafe(move || SimExecutor::new(1).block_on(claim(leaseless)));
    std::panic::catch_unwind(play).is_err()
}

#[test]
fn a_takeover_that_asks_no_lease_is_caught() {
    assert!(is_leaseless_noticed("a_takeover_is_refused_while_another_holder_lives"));
    assert!(is_leaseless_noticed("a_run_that_rests_has_no_holder"));
}

#[test]
fn a_settle_of_a_living_holders_attempt_is_caught() {
    assert!(is_leaseless_noticed("a_settlement_is_refused_while_another_holder_lives"));
}

#[test]
fn every_reference_change_leaves_one_record() {
    let store = ReferenceStore::new();
    let played = every_act_leaves_one_record(Arc::new(store.clone()), &store);
    assert_eq!(SimExecutor::new(1).block_on(played), Ok(Ok(())));
}

/// Acts without those of one kind, as of a store that forgets them.
struct Forgetting<'store>(&'store ReferenceStore, &'static str);

impl ReadActs for Forgetting<'_> {
    fn acts_of(&self, scope: Scope) -> BoxFuture<'_, Vec<(Timestamp, AuditAct)>> {
        let mut acts = self.0.list_acts(&scope);
        acts.retain(|(_, act)| act.change.kind() != self.1);
        Box::pin(std::future::ready(acts))
    }
}

#[test]
fn an_act_without_a_record_is_caught() {
    for kind in AuditChange::KINDS.into_iter().filter(|kind| !WITHOUT_ROW.contains(kind)) {
        let store = ReferenceStore::new();
        let forgetting = Forgetting(&store, kind);
        let played = every_act_leaves_one_record(Arc::new(store.clone()), &forgetting);
        let found = SimExecutor::new(1).block_on(played).expect("the story ends");
        assert!(found.is_err_and(|problem| problem.contains(kind)), "{kind} is not missed");
    }
}

#[test]
fn a_widening_without_an_audit_act_is_caught() {
    let store = ReferenceStore::new();
    let forgetting = Forgetting(&store, "agent_revised");
    let played = every_act_leaves_one_record(Arc::new(store.clone()), &forgetting);
    let found = SimExecutor::new(1).block_on(played).expect("the story ends");
    let problem = found.expect_err("the widening has no record");
    assert!(problem.contains("agent_revised") && problem.contains("exec"), "{problem}");
}

/// A store that lets a change of an old revision win.
#[derive(Debug)]
struct Overwriting(ReferenceStore);

impl StoreWrapper for Overwriting {
    fn wrapped_store(&self) -> &dyn Store {
        &self.0
    }

    fn commit(&self, mut batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        let store = self.0.clone();
        Box::pin(async move {
            loop {
                let answer = store.commit(batch.clone()).await;
                let CommitOutcome::Refused(CommitRefusal::AgentRevision { found }) = answer else {
                    return answer;
                };
                for mutation in &mut batch.mutations {
                    if let Mutation::AgentRevise(revise) = mutation {
                        revise.after = found;
                    }
                }
            }
        })
    }
}

#[test]
#[should_panic(expected = "expected Refused")]
fn a_change_with_an_old_if_match_that_wins_is_caught() {
    let (_, claim) = CLAIMS
        .iter()
        .find(|(name, _)| *name == "a_revision_follows_the_current_one_and_no_other")
        .expect("a claim");
    let store: Arc<dyn Store> = Arc::new(Overwriting(ReferenceStore::new()));
    SimExecutor::new(1).block_on(claim(store)).expect("the claim ends");
}

#[test]
fn random_sequences_reach_every_kind_of_answer() {
    let mut runner = TestRunner::deterministic();
    let mut answers = BTreeSet::new();
    for _ in 0..600 {
        let ops = op_sequences(40).new_tree(&mut runner).expect("a strategy without filters").current();
        let oracle = ReferenceStore::new();
        let mut writer = BatchWriter::new(oracle.clone());
        let play = async {
            for batch in BatchWriter::world_batches() {
                assert!(matches!(oracle.commit(batch).await, CommitOutcome::Done(_)));
            }
            BatchWriter::begin_living_holder(&oracle).await.expect("it begins");
            for op in &ops {
                let Some(batch) = writer.batch_of_op(op) else { continue };
                let claims = batch.claim.is_some();
                answers.insert(match oracle.commit(batch).await {
                    CommitOutcome::Done(receipt) => format!("Done claim={claims} {}", receipt.claimed),
                    CommitOutcome::Refused(refusal) => {
                        let debug = format!("{refusal:?}");
                        debug.split([' ', '(']).next().unwrap_or_default().to_owned()
                    }
                    CommitOutcome::Unknown { .. } => panic!("the reference store always knows"),
                });
            }
        };
        SimExecutor::new(1).block_on(play).expect("the sequence ends");
    }
    for expected in [
        "Done claim=false true",
        "Done claim=true false",
        "Done claim=true true",
        "AgentState",
        "BudgetExhausted",
        "DeliveryBlocked",
        "DeliveryMoved",
        "EpochStale",
        "FeedMoved",
        "HandleTaken",
        "KeyTaken",
        "LeaseLasts",
        "NotFound",
        "RunTerminal",
        "SequenceMoved",
        "SessionExists",
        "StateVersion",
    ] {
        assert!(answers.contains(expected), "no sequence reached {expected}: {answers:?}");
    }
}

#[test]
fn a_store_that_loses_one_batch_is_caught_in_comparison() {
    let (honest, lossy) = (fresh(), FaultyStore::new(fresh()));
    lossy.fail_nth(2, CommitFault::Lost);
    let lossy: Arc<dyn Store> = Arc::new(lossy);
    let found =
        SimExecutor::new(1).block_on(equal_receipts_and_reads(&honest, &lossy, BatchWriter::world_batches()));
    assert!(found.expect("the comparison ends").is_err());
    let unheard = FaultyStore::new(fresh());
    unheard.fail_nth(1, CommitFault::Unheard);
    let found = SimExecutor::new(1).block_on(equals_the_reference(Arc::new(unheard), &[]));
    assert!(found.expect("the comparison ends").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_batch_submitted_twice_equals_once(ops in op_sequences(40)) {
        let stores = [ReferenceStore::new(), ReferenceStore::new()];
        let mut writer = BatchWriter::new(stores[0].clone());
        let [once, twice] = stores.each_ref().map(|store| Arc::new(store.clone()) as Arc<dyn Store>);
        let play = async {
            let mut batches = BatchWriter::world_batches();
            let mut ops = ops.iter();
            loop {
                for batch in std::mem::take(&mut batches) {
                    let first = once.commit(batch.clone()).await;
                    assert_eq!(twice.commit(batch.clone()).await, first);
                    let second = twice.commit(batch).await;
                    if matches!(first, CommitOutcome::Done(_)) {
                        assert_eq!(second, first);
                    }
                }
                let Some(op) = ops.next() else { break };
                batches.extend(writer.batch_of_op(op));
            }
            equal_receipts_and_reads(&once, &twice, Vec::new()).await
        };
        prop_assert_eq!(SimExecutor::new(1).block_on(play).expect("the sequence ends"), Ok(()));
        for tenant in 0..TENANTS {
            let scope = ScopeAuthority::claim().issue_scope(tenant_id(tenant), Actor::new("test:twice"));
            prop_assert_eq!(stores[0].list_acts(&scope), stores[1].list_acts(&scope));
        }
    }
}

/// A store that says after the first pages that an erased tenant is gone.
#[derive(Debug)]
struct ShortErasure(ReferenceStore, AtomicU64);

impl StoreWrapper for ShortErasure {
    fn wrapped_store(&self) -> &dyn Store {
        &self.0
    }

    fn commit(&self, batch: WriteBatch) -> BoxFuture<'static, CommitOutcome> {
        let erases = matches!(batch.mutations[..], [Mutation::TenantErase(_)]);
        // One is refused because the tenant is active, one is the mark, and one comes before its agents are gone.
        if erases && self.1.fetch_add(1, Ordering::Relaxed) >= 3 {
            let gone = CommitRefusal::NotFound(batch.tenant.to_string());
            return Box::pin(std::future::ready(CommitOutcome::Refused(gone)));
        }
        self.0.commit(batch)
    }
}

#[test]
fn an_erasure_without_its_last_pages_is_caught() {
    let honest: Arc<dyn Store> = Arc::new(ReferenceStore::new());
    assert_eq!(SimExecutor::new(1).block_on(check_tenant_erasure(honest)), Ok(Ok(())));
    let short: Arc<dyn Store> = Arc::new(ShortErasure(ReferenceStore::new(), AtomicU64::new(0)));
    let found = SimExecutor::new(1).block_on(check_tenant_erasure(short)).expect("the claim ends");
    assert!(found.as_ref().is_err_and(|found| found.contains("marked tenants at the end")), "{found:?}");
}
