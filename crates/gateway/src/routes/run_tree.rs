//! The tree of a run: the run that began it, and the tasks that runs of it spawned.
//!
//! A node's own cost is its run's, as the journal has it; its total adds those of the tasks below it. So the total of the root is
//! what the tree cost. A run that goes on from a yielded one, and a turn that the end of a task began, belong to no tree of
//! that task.
//!
//! Bounds: sums cover at most [`TASKS_READ_MAX`] tasks, and [`NODES_MAX`] nodes are shown.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use dromia_api::run::{RunTree, RunTreeNode, RunTreeSum};
use dromia_contracts::entry::Entry;
use dromia_contracts::run::{RunKind, RunRecord};
use dromia_contracts::runs::{KillTarget, RunEndMode};
use dromia_contracts::store::{PageRequest, RunFilter};
use dromia_contracts::task::ChildSession;
use dromia_contracts::{ErrorCode, RunId, Scope};

use super::run::find_run;
use crate::caller::Caller;
use crate::core::{GatewayCore, Shared};
use crate::extract::{PathSegments, parse_id};
use crate::failure::Answer;

/// The most nodes of one answer, those nearest to the root in the order of the tree.
const NODES_MAX: usize = 256;

/// The most runs of one worker that are read, the newest ones.
const RUNS_READ_MAX: usize = 64;

/// The most tasks of a tree that are read.
const TASKS_READ_MAX: usize = 4096;

pub(crate) async fn show_run_tree(
    State(core): State<Shared>,
    caller: Caller,
    PathSegments(run): PathSegments<String>,
) -> Answer<Json<RunTree>> {
    let run = find_run(&core, &caller.scope, parse_id(&run)?).await?;
    let root = find_root(&core, &caller.scope, run.clone()).await?;
    let (tasks, complete) = read_tasks(&core, &caller.scope, &root).await?;
    Ok(Json(TaskTree::from_tasks(tasks).show_from(&run, &root, complete)))
}

/// Ends what a run spawned, as the run itself was ended: every task below it that has not ended.
pub(super) async fn end_tasks_below(
    core: &GatewayCore,
    scope: &Scope,
    run: RunId,
    end: RunEndMode,
) -> Answer<()> {
    let run = find_run(core, scope, run).await?;
    let root = find_root(core, scope, run.clone()).await?;
    let (tasks, _) = read_tasks(core, scope, &root).await?;
    for (task, _) in TaskTree::from_tasks(tasks).below(run.id) {
        let ended = match &task.run {
            Some(run) if run.head.status.is_terminal() => continue,
            Some(run) => core.ports.runs.end_run(scope.clone(), run.id, end).await,
            None => {
                let waits = KillTarget::Session(task.session);
                core.ports.runs.agent_kill(scope.clone(), task.agent, waits).await.map(drop)
            }
        };
        match ended {
            Err(fault) if fault.code != ErrorCode::RunTerminal => return Err(fault.into()),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Finds the first run of a tree. A scope that does not see it gets the tree below the run itself.
async fn find_root(core: &GatewayCore, scope: &Scope, run: RunRecord) -> Answer<RunRecord> {
    let root = tree_of(core, scope, &run).await?;
    let found = if root == run.id { None } else { core.ports.store.run(scope, root).await? };
    Ok(found.unwrap_or(run))
}

/// Reads the tasks of a tree, and whether these are all of them.
async fn read_tasks(
    core: &GatewayCore,
    scope: &Scope,
    root: &RunRecord,
) -> Answer<(Vec<ChildSession>, bool)> {
    let id = tree_of(core, scope, root).await?;
    let mut tasks: Vec<ChildSession> = Vec::new();
    while tasks.len() < TASKS_READ_MAX {
        let after = tasks.last().map(|last| last.session);
        let page = PageRequest { after, limit: NODES_MAX };
        let some = core.ports.store.child_sessions(scope, id, page).await?;
        let is_last = some.len() < NODES_MAX;
        tasks.extend(some);
        if is_last {
            return with_earlier_runs(core, scope, tasks).await;
        }
    }
    let (tasks, _) = with_earlier_runs(core, scope, tasks).await?;
    Ok((tasks, false))
}

/// Adds the earlier runs of workers that got more to do, and says whether these are all.
async fn with_earlier_runs(
    core: &GatewayCore,
    scope: &Scope,
    tasks: Vec<ChildSession>,
) -> Answer<(Vec<ChildSession>, bool)> {
    let (mut all, mut complete) = (Vec::with_capacity(tasks.len()), true);
    for task in tasks {
        if task.run.is_none() || task.origin.kind != RunKind::Worker {
            all.push(task);
            continue;
        }
        let filter = RunFilter { session: Some(task.session), ..RunFilter::default() };
        let runs = core.ports.store.runs(scope, filter, PageRequest::first_page(RUNS_READ_MAX)).await?;
        complete &= runs.len() < RUNS_READ_MAX;
        let runs = runs.into_iter().rev().filter(|run| run.kind == RunKind::Worker);
        all.extend(runs.map(|run| ChildSession { run: Some(run), ..task.clone() }));
    }
    Ok((all, complete))
}

/// Finds the id of the tree that a run belongs to, which is that of its first run.
async fn tree_of(core: &GatewayCore, scope: &Scope, run: &RunRecord) -> Answer<RunId> {
    if !run.kind.is_child() {
        return Ok(run.id);
    }
    let first = core.ports.store.journal_entries(scope, run.id, 0, 1).await?;
    let root = first.first().and_then(|stored| match stored.decode() {
        Ok(Entry::RunStarted(started)) => started.origin.map(|origin| origin.root),
        _ => None,
    });
    Ok(root.unwrap_or(run.id))
}

/// The tasks of a tree by the run that spawned them.
struct TaskTree(BTreeMap<RunId, Vec<ChildSession>>);

impl TaskTree {
    fn from_tasks(tasks: Vec<ChildSession>) -> Self {
        let mut children = BTreeMap::<RunId, Vec<ChildSession>>::new();
        for task in tasks {
            children.entry(task.origin.run).or_default().push(task);
        }
        Self(children)
    }

    /// Lists the tasks below a run, each before its own, with how many stand between.
    fn below(&self, run: RunId) -> Vec<(&ChildSession, u32)> {
        let mut found = Vec::new();
        let mut open: Vec<_> = self.children(run).map(|task| (task, 1)).collect();
        while let Some((task, depth)) = open.pop() {
            found.push((task, depth));
            open.extend(task.run.iter().flat_map(|run| self.children(run.id)).map(|task| (task, depth + 1)));
        }
        found
    }

    /// The tasks that a run spawned, the last one first.
    fn children(&self, run: RunId) -> impl Iterator<Item = &ChildSession> {
        self.0.get(&run).into_iter().flatten().rev()
    }

    fn total_of(&self, run: &RunRecord) -> RunTreeSum {
        let below = self.below(run.id);
        let runs = below.iter().filter_map(|(task, _)| task.run.as_ref());
        runs.fold(own_sum(run), |sum, run| add_sums(sum, own_sum(run)))
    }

    fn show_from(&self, run: &RunRecord, root: &RunRecord, complete: bool) -> RunTree {
        let below = self.below(root.id);
        let nodes = std::iter::once(RunTreeNode {
            run: Some(root.id),
            kind: root.kind,
            session: root.session,
            agent: root.agent,
            parent: None,
            call: None,
            depth: 0,
            status: Some(root.head.status),
            own: own_sum(root),
            total: self.total_of(root),
        });
        let tasks = below.iter().map(|(task, depth)| RunTreeNode {
            run: task.run.as_ref().map(|run| run.id),
            kind: task.origin.kind,
            session: task.session,
            agent: task.agent,
            parent: Some(task.origin.run),
            call: Some(task.origin.call),
            depth: *depth,
            status: task.run.as_ref().map(|run| run.head.status),
            own: task.run.as_ref().map(own_sum).unwrap_or_default(),
            total: task.run.as_ref().map(|run| self.total_of(run)).unwrap_or_default(),
        });
        let nodes: Vec<_> = nodes.chain(tasks).take(NODES_MAX).collect();
        RunTree { run: run.id, root: root.id, found: below.len() as u64 + 1, complete, nodes }
    }
}

fn own_sum(run: &RunRecord) -> RunTreeSum {
    RunTreeSum {
        cost_micros: run.head.cost_micros,
        unpriced_calls: run.head.unpriced_calls,
        input_tokens: run.head.usage.input_tokens.into(),
        output_tokens: run.head.usage.output_tokens.into(),
    }
}

fn add_sums(one: RunTreeSum, other: RunTreeSum) -> RunTreeSum {
    RunTreeSum {
        cost_micros: one.cost_micros.saturating_add(other.cost_micros),
        unpriced_calls: one.unpriced_calls.saturating_add(other.unpriced_calls),
        input_tokens: one.input_tokens.saturating_add(other.input_tokens),
        output_tokens: one.output_tokens.saturating_add(other.output_tokens),
    }
}
