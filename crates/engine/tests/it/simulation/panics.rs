//! A panic in a model, in a tool, in what is read or in the janitor ends neither the run nor the engine: its slot comes back,
//! its run is taken over and held in the end, and everybody else goes on.
//!
//! The executor of the program survives a task that panics, and so does the one of these worlds; that of the other worlds does
//! not, so that no panic of the engine goes by unseen there.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dromia_contracts::content::{CallStatus, ToolCall};
use dromia_contracts::encoded_request::RequestEncoding;
use dromia_contracts::entry::{Entry, HoldReason};
use dromia_contracts::model::{
    DeltaSink, LanguageModel, ModelError, ModelReply, ModelRequest, PreparedAttempt,
};
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{EnginePort as _, RunEndMode};
use dromia_contracts::runtime::TaskSpawner;
use dromia_contracts::sandbox::ProcessLimits;
use dromia_contracts::tool::{
    CallProgressSink, PrepareError, PreparedCall, ToolContext, ToolHost, ToolOutput,
};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use dromia_contracts::tool_policy::ToolTerms;
use dromia_contracts::vault::NoSecrets;
use dromia_contracts::{BoxFuture, RunId, ScopeAuthority};
use dromia_engine::decide::CLAIMS_MAX;
use dromia_engine::{Engine, EngineConfig, EnginePorts};
use futures_util::FutureExt as _;

use super::ports::Outside;
use super::rests::Scene;
use super::world::scope_of;

/// An executor in which a task that panics ends alone.
#[derive(Debug)]
struct Forgiving(Arc<dyn TaskSpawner>);

impl TaskSpawner for Forgiving {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(Box::pin(AssertUnwindSafe(task).catch_unwind().map(drop)));
    }
}

/// How often something panics yet, and for which run: the first that comes.
#[derive(Debug)]
struct Mine(Mutex<(Option<RunId>, usize)>);

impl Mine {
    fn new(times: usize) -> Self {
        Self(Mutex::new((None, times)))
    }

    fn step_on(&self, run: RunId) {
        let explodes = {
            let mut mine = self.0.lock().expect("nothing panics while it is held");
            let (first, left) = &mut *mine;
            let explodes = *first.get_or_insert(run) == run && *left > 0;
            *left -= usize::from(explodes);
            explodes
        };
        assert!(!explodes, "planted");
    }
}

/// A model and tools that panic.
#[derive(Debug)]
struct Planted {
    inner: Arc<Outside>,
    model: Mine,
    tool: Mine,
}

impl LanguageModel for Planted {
    fn knows_alias(&self, alias: &str) -> bool {
        self.inner.knows_alias(alias)
    }

    fn prepare_attempt(&self, request: &ModelRequest) -> Result<PreparedAttempt, ModelError> {
        LanguageModel::prepare_attempt(&*self.inner, request)
    }

    fn encode_request(&self, wording: &RequestEncoding, request: &ModelRequest) -> Result<Bytes, ModelError> {
        self.inner.encode_request(wording, request)
    }

    fn call_model<'a>(
        &'a self,
        request: &'a ModelRequest,
        prepared: &'a PreparedAttempt,
        deltas: &'a dyn DeltaSink,
    ) -> BoxFuture<'a, Result<ModelReply, ModelError>> {
        Box::pin(async move {
            let run = request.key.split(':').next().unwrap_or_default();
            self.model.step_on(run.parse().expect("the key names the run"));
            LanguageModel::call_model(&*self.inner, request, prepared, deltas).await
        })
    }
}

impl ToolHost for Planted {
    fn shared_catalogue(&self) -> ToolCatalogue {
        self.inner.shared_catalogue()
    }

    fn prepare_call(&self, tools: &ToolCatalogue, call: &ToolCall) -> Result<PreparedCall, PrepareError> {
        ToolHost::prepare_call(&*self.inner, tools, call)
    }

    fn execute_call<'a>(
        &'a self,
        context: ToolContext,
        call: PreparedCall,
        pieces: &'a dyn CallProgressSink,
    ) -> BoxFuture<'a, ToolOutput> {
        Box::pin(async move {
            self.tool.step_on(context.run);
            ToolHost::execute_call(&*self.inner, context, call, pieces).await
        })
    }

    fn process_limits(&self, tool: &str, terms: &ToolTerms) -> Option<ProcessLimits> {
        self.inner.process_limits(tool, terms)
    }
}

/// Crashes; the next engine has not started yet, and survives what panics.
fn forgive(scene: &mut Scene) {
    scene.world.runtime.spawn = Arc::new(Forgiving(Arc::clone(&scene.world.runtime.spawn)));
    scene.crash();
}

/// A calm world whose engine has one slot, and whose model and tools panic so often in its first run.
fn planted(seed: u64, model: usize, tool: usize) -> Scene {
    let mut scene = Scene::new(seed);
    forgive(&mut scene);
    let outside = &scene.world.outside;
    let planted =
        Arc::new(Planted { inner: Arc::clone(outside), model: Mine::new(model), tool: Mine::new(tool) });
    let ports = EnginePorts {
        store: Arc::clone(&scene.weather) as _,
        model: Arc::clone(&planted) as _,
        tools: planted,
        gate: Arc::clone(outside) as _,
        terms: Arc::new(ToolTerms::default()),
        leaks: Arc::new(NoSecrets),
        homes: Arc::clone(outside) as _,
        runtime: scene.world.runtime.clone(),
        authority: ScopeAuthority::claim(),
    };
    scene.engine = Engine::new(ports, EngineConfig { active_max: 1, ..EngineConfig::default() });
    scene.engine.start();
    scene
}

fn entries(scene: &Scene) -> Vec<Entry> {
    let journal = scene.world.journal(scene.world.tenants[0], scene.run().id);
    journal.iter().map(|stored| stored.decode().expect("it was just written")).collect()
}

fn held_for(scene: &Scene) -> Option<HoldReason> {
    match entries(scene).last() {
        Some(Entry::RunHeld(held)) => Some(held.reason),
        _ => None,
    }
}

#[test]
fn a_run_continues_after_a_panic_of_its_model() {
    let mut scene = planted(31, 1, 0);
    scene.say("look", false).expect("nothing fails");
    scene.pass(20_000);
    let run = scene.run();
    assert_eq!((run.head.status, run.epoch), (RunStatus::Completed, 2), "{:?}", scene.kinds());
    assert_eq!((scene.engine.count_active_runs(), scene.world.unsettled()), (0, None));
}

#[test]
fn an_always_panicking_run_is_held_and_others_work() {
    let mut scene = planted(32, usize::MAX, 0);
    scene.say("look", false).expect("nothing fails");
    // A place of another agent of the tenant.
    scene.world.places.swap(0, 2);
    scene.say("look", false).expect("nothing fails");
    scene.pass(60_000);
    let statuses: Vec<_> =
        scene.world.runs(scene.world.tenants[0]).iter().map(|run| run.head.status).collect();
    assert_eq!(statuses, [RunStatus::Held, RunStatus::Completed], "{:?}", scene.kinds());
    assert_eq!(held_for(&scene), Some(HoldReason::LostAttempts));
    let called = scene.kinds().iter().filter(|kind| *kind == "model_called").count();
    assert_eq!(called as u64, CLAIMS_MAX);
    assert_eq!(scene.engine.count_active_runs(), 0, "every slot came back");
}

#[test]
fn a_signal_reaches_a_run_whose_owner_panicked() {
    let mut scene = planted(33, usize::MAX, 0);
    scene.say("look", false).expect("nothing fails");
    // Less than the pause before it is looked for.
    scene.pass(300);
    assert_eq!(scene.run().head.status, RunStatus::Running, "{:?}", scene.kinds());
    let end = scene.engine.end_run(scope_of(scene.world.tenants[0]), scene.run().id, RunEndMode::Terminate);
    scene.sim.block_on(end).expect("it ends").expect("nothing fails");
    scene.pass(300);
    assert_eq!(scene.run().head.status, RunStatus::Cancelled, "{:?}", scene.kinds());
}

#[test]
fn a_panicking_tool_ends_its_call_according_to_its_effect() {
    for (seed, plan, ends) in [
        (34, "look", CallStatus::Error),
        (35, "set", CallStatus::Error),
        (36, "send", CallStatus::Error),
        (37, "pay", CallStatus::Unknown),
        (38, "post", CallStatus::Unknown),
    ] {
        let mut scene = planted(seed, 0, 1);
        scene.say(plan, false).expect("nothing fails");
        scene.pass(20_000);
        let run = scene.run();
        assert_eq!((run.head.status, run.epoch), (RunStatus::Completed, 1), "{plan}: {:?}", scene.kinds());
        let ended = entries(&scene).into_iter().find_map(|entry| match entry {
            Entry::ToolFinished(finished) => Some(finished.status),
            _ => None,
        });
        assert_eq!(ended, Some(ends), "{plan}");
    }
}

#[test]
fn a_run_whose_reads_panic_is_held_for_good() {
    let mut scene = Scene::new(39);
    scene.say("look", false).expect("nothing fails");
    forgive(&mut scene);
    scene.weather.panic_at_journals();
    scene.engine.start();
    scene.pass(60_000);
    let run = scene.run();
    assert_eq!((run.head.status, held_for(&scene)), (RunStatus::Held, Some(HoldReason::Claims)));
    // One more than the bound, at which an owner that can read holds it, and the look that saw that none could.
    assert_eq!(run.epoch, 1 + CLAIMS_MAX + 2);
    scene.pass(60_000);
    assert_eq!((scene.run().epoch, scene.engine.count_active_runs()), (run.epoch, 0));
}

#[test]
fn a_panicking_janitor_is_replaced_and_lost_work_found() {
    let mut scene = Scene::new(40);
    scene.say("look", false).expect("nothing fails");
    forgive(&mut scene);
    // Its own first one: nobody else reads yet.
    scene.weather.panic_at_next_read();
    scene.engine.start();
    scene.pass(20_000);
    assert_eq!(scene.run().head.status, RunStatus::Completed, "{:?}", scene.kinds());
}
