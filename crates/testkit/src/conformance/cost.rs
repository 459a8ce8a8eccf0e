//! Claims about sums: the store sums what a run spent by model, from its attempts alone.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::cost::CostTotals;
use dromia_contracts::entry::{Entry, ModelCalled, ModelFailed};
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{AgentStateSet, Mutation, NewEntry, PageRequest, RunFilter, Store};
use dromia_contracts::{ErrorCode, RunId, Scope};

use super::scene::{
    StoreScene, agent_create, entry_at, model_replied, run_append, run_completed, scene_time, sent_encoding,
    session_open,
};

/// An attempt of a model, or of its stand-in.
fn called_entry(step: u32, model: &str, stand_in: Option<&str>) -> NewEntry {
    let called = ModelCalled {
        step,
        attempt: 1,
        model: model.to_owned(),
        history_from: 1,
        input_tokens: 3,
        output_tokens_max: 64,
        reserved_micros: 70,
        unpriced: false,
        sent: sent_encoding(stand_in),
        judged: None,
    };
    entry_at(5, Entry::ModelCalled(called))
}

fn lost_entry(step: u32, charged_micros: u64) -> NewEntry {
    let (code, message, judged) = (ErrorCode::OutcomeUnknown, "no".to_owned(), None);
    let (attempt, attempts_max) = (1, None);
    let failed = ModelFailed { step, attempt, attempts_max, code, message, charged_micros, judged };
    entry_at(6, Entry::ModelFailed(failed))
}

/// The sums charge a fallback model for its own attempts, not the model that it replaces.
pub(super) async fn what_a_run_spent_is_told_by_model_and_sums_up_to_its_attempts(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    // The turn began with an attempt of the model `scripted`.
    let run = scene.begin_turn(0).await;
    let (asked, stood_in) = (called_entry(1, "large", None), called_entry(2, "scripted", Some("large")));
    let entries = vec![lost_entry(1, 70), asked, model_replied(1, "long"), stood_in];
    let more = run_append(run, 1, 2, entries, RunStatus::Running);
    scene.commit_mutation(Mutation::RunAppend(more)).await;
    let spending = scene
        .store
        .run_spending(&scene.tenant_scope(), RunFilter::default(), PageRequest::first_page(9))
        .await;
    let spending = spending.expect("a read");
    assert_eq!(spending.len(), 1);
    assert_eq!(Ok(Some(spending[0].run.clone())), scene.store.run(&scene.tenant_scope(), run).await);
    let large = CostTotals {
        model_calls: 2,
        input_tokens: 3,
        output_tokens: 5,
        cost_micros: 0,
        ..CostTotals::default()
    };
    let scripted = CostTotals {
        model_calls: 1,
        input_tokens: 0,
        output_tokens: 0,
        cost_micros: 70,
        ..CostTotals::default()
    };
    assert_eq!(spending[0].models, [("large".to_owned(), large), ("scripted".to_owned(), scripted)]);
}

/// Begins a run in a session of its own: one that is held keeps its session.
async fn begin_apart(scene: &mut StoreScene, channel: &str) -> RunId {
    let session = scene.session_id();
    let open = session_open(session, scene.agent, channel);
    scene.commit_mutation(open).await;
    scene.session = session;
    scene.begin_turn(0).await
}

/// Held runs come first whatever their age; the others only if they ended lately; a sum takes the newest runs and hides those
/// that the scope does not see.
pub(super) async fn only_troubled_runs_are_listed_and_sums_count_the_newest_runs(store: Arc<dyn Store>) {
    let mut scene = StoreScene::open_scene(store, 1).await;
    let mut runs = Vec::new();
    for (channel, status) in [
        ("a", RunStatus::Completed),
        ("b", RunStatus::Failed),
        ("c", RunStatus::Yielded),
        ("d", RunStatus::Cancelled),
        ("e", RunStatus::Held),
    ] {
        let run = begin_apart(&mut scene, channel).await;
        let end = run_append(run, 1, 2, vec![lost_entry(1, 70)], status);
        scene.commit_mutation(Mutation::RunAppend(end)).await;
        runs.push(run);
    }
    let resting = begin_apart(&mut scene, "f").await;
    let rest = run_append(resting, 1, 2, vec![lost_entry(1, 70)], RunStatus::Parked);
    scene.commit_mutation(Mutation::RunAppend(rest)).await;
    let working = begin_apart(&mut scene, "g").await;
    let (scope, store) = (scene.tenant_scope(), &scene.store);
    let ids =
        |runs: Vec<dromia_contracts::run::RunRecord>| runs.into_iter().map(|run| run.id).collect::<Vec<_>>();
    let troubled = async |scope: &Scope, since, limit| {
        ids(store.troubled_runs(scope, scene_time(since), limit).await.expect("a read"))
    };
    assert_eq!(troubled(&scope, 6, 9).await, [runs[4], runs[2], runs[1]]);
    assert_eq!(troubled(&scope, 7, 9).await, [runs[4]], "the others ended earlier");
    assert_eq!(troubled(&scope, 6, 2).await, [runs[4], runs[2]]);
    let open = async |scope: &Scope, limit| ids(store.working_runs(scope, limit).await.expect("a read"));
    assert_eq!(open(&scope, 9).await, [working, resting], "the held run is not among them");
    assert_eq!(open(&scope, 1).await, [working]);
    let sum = async |scope: &Scope, first, limit| {
        let sum = store.spending_since(scope, first, limit).await.expect("a read");
        (sum.runs, sum.spent.model_calls, sum.spent.cost_micros)
    };
    let first = RunId::from_bytes([0; 16]);
    assert_eq!(sum(&scope, first, 9).await, (7, 7, 77));
    assert_eq!(sum(&scope, runs[3], 9).await, (4, 4, 44));
    assert_eq!(sum(&scope, first, 3).await, (3, 3, 33));
    let stranger = StoreScene::open_scene(Arc::clone(store), 2).await.tenant_scope();
    let other = scope.narrowed_to(scene.agent_id());
    for unseen in [&stranger, &other] {
        assert_eq!(open(unseen, 9).await, Vec::new());
        assert_eq!(troubled(unseen, 0, 9).await, Vec::new());
        assert_eq!(sum(unseen, first, 9).await, (0, 0, 0));
    }
}

async fn run_ids(
    store: &Arc<dyn Store>,
    scope: &Scope,
    filter: RunFilter,
    page: PageRequest<RunId>,
) -> Vec<RunId> {
    let spending = store.run_spending(scope, filter, page).await.expect("a read");
    spending.iter().map(|spending| spending.run.id).collect()
}

pub(super) async fn runs_with_what_they_spent_are_paged_like_runs_and_hidden_like_runs(
    store: Arc<dyn Store>,
) {
    let scene = StoreScene::open_scene(store, 1).await;
    let mut runs = Vec::new();
    for after in 0..3 {
        let run = scene.begin_turn(after).await;
        let end = run_append(run, 1, 2, vec![run_completed()], RunStatus::Completed);
        scene.commit_mutation(Mutation::RunAppend(end)).await;
        runs.insert(0, run);
    }
    let (bob, bobs) = (scene.agent_id(), scene.session_id());
    scene
        .commit_done(
            scene
                .new_batch()
                .with_mutation(agent_create(bob, "bob"))
                .with_mutation(session_open(bobs, bob, "main")),
        )
        .await;
    let (all, scope, store) = (RunFilter::default(), scene.tenant_scope(), &scene.store);
    assert_eq!(run_ids(store, &scope, all, PageRequest::first_page(9)).await, runs, "newest first");
    assert_eq!(run_ids(store, &scope, all, PageRequest { after: Some(runs[0]), limit: 1 }).await, runs[1..2]);
    assert_eq!(
        run_ids(store, &scope, RunFilter { agent: Some(bob), ..all }, PageRequest::first_page(9)).await,
        Vec::new()
    );
    assert_eq!(run_ids(store, &scope.narrowed_to(bob), all, PageRequest::first_page(9)).await, Vec::new());
    let stranger = StoreScene::open_scene(Arc::clone(&scene.store), 2).await.tenant_scope();
    assert_eq!(run_ids(store, &stranger, all, PageRequest::first_page(9)).await, Vec::new());
    let from = vec![AgentState::Running];
    let set = AgentStateSet { agent: scene.agent, from, to: AgentState::Deleting };
    scene.commit_mutation(Mutation::AgentStateSet(set)).await;
    assert_eq!(
        run_ids(store, &scope, all, PageRequest::first_page(9)).await,
        Vec::new(),
        "what is being erased is not there"
    );
}
