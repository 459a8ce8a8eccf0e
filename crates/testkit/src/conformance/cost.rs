//! Claims about sums: what a run spent is told by model, from its attempts alone.

use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::cost::Spent;
use dromia_contracts::entry::{Entry, ModelCalled, ModelFailed};
use dromia_contracts::run::RunStatus;
use dromia_contracts::store::{AgentStateSet, Mutation, NewEntry, Page, RunFilter, Store};
use dromia_contracts::{ErrorCode, RunId, Scope};

use super::scene::{Scene, agent_create, append, completed, entry, model_replied, session_open};

fn called(step: u32, model: &str) -> NewEntry {
    let called = ModelCalled {
        step,
        attempt: 1,
        model: model.to_owned(),
        history_from: 1,
        input_tokens: 3,
        output_tokens_max: 64,
        reserved_micros: 70,
        sent: None,
    };
    entry(5, Entry::ModelCalled(called))
}

fn lost(step: u32, charged_micros: u64) -> NewEntry {
    let (code, message) = (ErrorCode::OutcomeUnknown, "no".to_owned());
    entry(6, Entry::ModelFailed(ModelFailed { step, attempt: 1, code, message, charged_micros }))
}

pub(super) async fn what_a_run_spent_is_told_by_model_and_sums_up_to_its_attempts(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    // The turn began with an attempt of the model `scripted`.
    let run = scene.turn(0).await;
    let entries = vec![lost(1, 70), called(1, "large"), model_replied(1, "long"), called(2, "large")];
    let more = append(run, 1, 2, entries, RunStatus::Running);
    scene.done(scene.batch().with(Mutation::RunAppend(more))).await;
    let spending = scene.store.run_spending(&scene.scope(), RunFilter::default(), Page::first(9)).await;
    let spending = spending.expect("a read");
    assert_eq!(spending.len(), 1);
    assert_eq!(Ok(Some(spending[0].run.clone())), scene.store.run(&scene.scope(), run).await);
    let large = Spent { model_calls: 2, input_tokens: 3, output_tokens: 5, cost_micros: 0 };
    let scripted = Spent { model_calls: 1, input_tokens: 0, output_tokens: 0, cost_micros: 70 };
    assert_eq!(spending[0].models, [("large".to_owned(), large), ("scripted".to_owned(), scripted)]);
}

async fn ids(store: &Arc<dyn Store>, scope: &Scope, filter: RunFilter, page: Page<RunId>) -> Vec<RunId> {
    let spending = store.run_spending(scope, filter, page).await.expect("a read");
    spending.iter().map(|spending| spending.run.id).collect()
}

pub(super) async fn runs_with_what_they_spent_are_paged_like_runs_and_hidden_like_runs(
    store: Arc<dyn Store>,
) {
    let scene = Scene::open(store, 1).await;
    let mut runs = Vec::new();
    for after in 0..3 {
        let run = scene.turn(after).await;
        let end = append(run, 1, 2, vec![completed()], RunStatus::Completed);
        scene.done(scene.batch().with(Mutation::RunAppend(end))).await;
        runs.insert(0, run);
    }
    let (bob, bobs) = (scene.agent_id(), scene.session_id());
    scene.done(scene.batch().with(agent_create(bob, "bob")).with(session_open(bobs, bob, "main"))).await;
    let (all, scope, store) = (RunFilter::default(), scene.scope(), &scene.store);
    assert_eq!(ids(store, &scope, all, Page::first(9)).await, runs, "newest first");
    assert_eq!(ids(store, &scope, all, Page { after: Some(runs[0]), limit: 1 }).await, runs[1..2]);
    assert_eq!(ids(store, &scope, RunFilter { agent: Some(bob), ..all }, Page::first(9)).await, Vec::new());
    assert_eq!(ids(store, &scope.narrowed_to(bob), all, Page::first(9)).await, Vec::new());
    let stranger = Scene::open(Arc::clone(&scene.store), 2).await.scope();
    assert_eq!(ids(store, &stranger, all, Page::first(9)).await, Vec::new());
    let from = vec![AgentState::Running];
    let set = AgentStateSet { agent: scene.agent, from, to: AgentState::Deleting };
    scene.done(scene.batch().with(Mutation::AgentStateSet(set))).await;
    assert_eq!(
        ids(store, &scope, all, Page::first(9)).await,
        Vec::new(),
        "what is being erased is not there"
    );
}
