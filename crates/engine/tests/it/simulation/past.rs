//! Earlier turns told by handles: what was untrusted then taints a later turn when it is read again, and not before; and
//! the bytes of a request are the same after a crash, whatever the configuration says by then.

use dromia_contracts::RunId;
use dromia_contracts::encoded_request::TaintedPast::{self, Handle, Whole};
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::label::{IntegrityLevel, Label};
use dromia_contracts::run::RunStatus;
use dromia_contracts::runs::{EnginePort as _, ImportLabels};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{PageRequest, Store as _};

use super::plans::WIRE;
use super::rests::Scene;
use super::world::{Lie, Options, at_once, scope_of};

/// A turn that is told somebody else's word.
const MAIL: &str = "fetch";

/// What that word was.
const WORD: &str = "fetch rfetch.0.0";

/// What was answered after it.
const ANSWER: &str = "done rfetch";

/// What the model is told of the tool that reads it again.
const OFFER: &str = "Does past.read.";

impl Scene {
    /// A session whose first turn was told somebody else's word.
    fn told(options: Options, tainted_past: TaintedPast) -> Self {
        let mut scene = Self::with(41, options);
        scene.configured(tainted_past);
        scene.turn(MAIL);
        scene
    }

    /// Goes on with an engine of another configuration.
    fn configured(&mut self, tainted_past: TaintedPast) {
        self.world.tainted_past = tainted_past;
        self.crash();
        self.engine.start();
    }

    /// Lives through a turn; returns its run.
    fn turn(&mut self, plan: &str) -> RunId {
        self.say(plan, false).expect("nothing fails");
        self.pass(20_000);
        let run = self.world.runs(self.world.tenants[0]).pop().expect("a run");
        assert_eq!(run.head.status, RunStatus::Completed, "{plan}");
        run.id
    }

    /// The requests of a run, each written again with the digest that it was sent with.
    fn bodies(&mut self, run: RunId) -> Vec<String> {
        let attempts = self.attempts(run);
        let told = attempts.into_iter().map(|(step, attempt)| {
            let told = self.request(run, step, Some(attempt)).expect("its bytes are those that were sent");
            String::from_utf8_lossy(&told.body).into_owned()
        });
        told.collect()
    }

    /// How the calls of a run are told what is untrusted, as its entries say.
    fn worded(&self, run: RunId) -> Vec<TaintedPast> {
        let journal = self.world.journal(self.world.tenants[0], run);
        let worded = journal.iter().filter_map(|stored| match stored.decode() {
            Ok(Entry::ModelCalled(called)) => Some(called.sent.wording.tainted_past),
            _ => None,
        });
        worded.collect()
    }

    /// The label of all that a run had seen when each of its calls began, in order.
    fn labels(&self, run: RunId) -> Vec<Label> {
        let place = &self.world.places[0];
        let (scope, page) = (scope_of(place.tenant), PageRequest { after: None, limit: 256 });
        let files = at_once(self.world.truth.file_labels(&scope, place.agent, page)).expect("it reads");
        let own = files.into_iter().filter(|(path, _)| path.starts_with(&run.to_string()));
        own.map(|(_, file)| file.label).collect()
    }

    /// Tells whether anything was wired to eve.
    fn is_robbed(&self) -> bool {
        let book = self.world.witness.book();
        book.executions.iter().any(|done| done.tool == WIRE && done.arguments.contains(r#""to":"eve""#))
    }
}

#[test]
fn a_later_turn_is_trusted_until_it_reads_untrusted_results() {
    let mut scene = Scene::told(Options::default(), Handle);
    let first = scene.run().id;
    for body in scene.bodies(first) {
        assert!(!body.contains(OFFER) && !body.contains("handle"), "there is nothing to read: {body}");
    }
    assert!(scene.worded(first).iter().all(|worded| *worded == Whole), "nothing was replaced");

    let run = scene.turn("look;past.read>1/call_1_0;look");
    let bodies = scene.bodies(run);
    assert_eq!(bodies.len(), 4);
    for body in &bodies[..2] {
        assert!(!body.contains(WORD) && !body.contains(ANSWER) && body.contains(OFFER), "{body}");
        assert!(body.contains("handle 1/call_1_0]") && body.contains("handle 1/step_2]"), "{body}");
    }
    assert!(bodies[2..].iter().all(|body| body.contains(WORD) && !body.contains(ANSWER)), "{bodies:?}");
    assert_eq!(scene.worded(run), [Handle; 4]);
    let trust: Vec<_> = scene.labels(run).iter().map(|label| label.integrity).collect();
    assert_eq!(trust, [IntegrityLevel::Trusted, IntegrityLevel::Trusted, IntegrityLevel::Untrusted]);

    // What was read again is of an earlier turn by now, and so is what was said after it.
    let run = scene.turn("look");
    let bodies = scene.bodies(run);
    assert!(bodies.iter().all(|body| !body.contains(WORD) && body.contains("handle 2/call_2_0]")));
    assert_eq!(scene.labels(run), [Label::ACTOR_TEXT]);
}

#[test]
fn with_whole_turns_one_turn_taints_the_next() {
    let mut scene = Scene::told(Options::default(), Whole);
    let run = scene.turn("look;look");
    for body in scene.bodies(run) {
        assert!(body.contains(WORD) && body.contains(ANSWER) && !body.contains(OFFER), "{body}");
    }
    assert!(scene.labels(run).iter().all(|label| label.integrity == IntegrityLevel::Untrusted));
    assert!(scene.worded(run).iter().all(|worded| *worded == Whole));
}

#[test]
fn a_handle_of_another_session_finds_nothing() {
    let mut scene = Scene::told(Options::default(), Handle);
    // The first input lies at the first place of every session, so the handle itself tells nothing apart.
    scene.world.places.swap(0, 1);
    let run = scene.turn("past.read>1/call_1_0;look");
    let bodies = scene.bodies(run);
    assert!(bodies.iter().all(|body| !body.contains(WORD)), "{bodies:?}");
    assert!(bodies[1].contains("nothing"), "{bodies:?}");
    assert!(scene.labels(run).iter().all(|label| label.integrity == IntegrityLevel::Trusted));
}

#[test]
fn a_takeover_writes_the_same_bytes_after_a_configuration_change() {
    for (then, now) in [(Handle, Whole), (Whole, Handle)] {
        let mut early = 0;
        for crash_after in (0..200).step_by(20) {
            let mut scene = Scene::told(Options::default(), then);
            scene.say("look;look", false).expect("nothing fails");
            scene.pass(crash_after);
            let run = scene.world.runs(scene.world.tenants[0]).pop().expect("two runs");
            early += usize::from(run.head.status == RunStatus::Running);
            scene.configured(now);
            scene.pass(20_000);
            assert_eq!(scene.worded(run.id).first(), Some(&then));
            for body in scene.bodies(run.id) {
                assert_eq!(body.contains(WORD), then == Whole, "crashed after {crash_after} ms: {body}");
            }
            assert!(scene.worded(run.id).iter().all(|worded| *worded == then));
            // The next run is told as the configuration says now.
            let next = scene.turn("look");
            assert!(scene.worded(next).iter().all(|worded| *worded == now));
        }
        assert!(early > 1, "only {early} crashes came into the turn");
    }
}

#[test]
fn an_import_with_believed_labels_has_the_same_bytes() {
    let mut scene = Scene::told(Options::default(), Handle);
    let run = scene.turn("look");
    let bodies = scene.bodies(run);
    let (scope, agent) = (scope_of(scene.world.tenants[0]), scene.world.places[0].agent);
    let file = scene.engine.export_session(scope.clone(), scene.run().session);
    let file = scene.sim.block_on(file).expect("it ends").expect("nothing fails").file;
    let copy = scene.engine.import_session(scope, agent, file, ImportLabels::Believed, None);
    scene.sim.block_on(copy).expect("it ends").expect("nothing fails");
    let copied = scene.world.runs(scene.world.tenants[0]).pop().expect("four runs").id;
    assert_ne!(copied, run);
    assert_eq!(scene.bodies(copied), bodies);
}

#[test]
fn an_import_with_doubted_labels_taints_later_turns() {
    for (labels, trust) in [
        (ImportLabels::Doubted, IntegrityLevel::Untrusted),
        (ImportLabels::Believed, IntegrityLevel::Trusted),
    ] {
        let mut scene = Scene::told(Options::default(), Handle);
        let (scope, agent) = (scope_of(scene.world.tenants[0]), scene.world.places[0].agent);
        let file = scene.engine.export_session(scope.clone(), scene.run().session);
        let file = scene.sim.block_on(file).expect("it ends").expect("nothing fails").file;
        let copy = scene.engine.import_session(scope.clone(), agent, file, labels, None);
        let copy = scene.sim.block_on(copy).expect("it ends").expect("nothing fails");
        let key =
            at_once(scene.world.truth.session(&scope, copy)).expect("it reads").expect("it is there").key;
        scene.world.places[0].key = key;
        let run = scene.turn("look");
        let told: Vec<_> = scene.labels(run).iter().map(|label| label.integrity).collect();
        assert_eq!(told, [trust], "{labels:?}");
    }
}

/// A call that time or a person allows runs in a session of its own, and what it gave, a fact of the runtime that repeats its
/// arguments, comes back as an input. By then the turn that asked is told by handles.
#[test]
fn the_result_of_an_allowed_call_keeps_its_callers_label() {
    for (plan, trusted) in [("fetch;gated", false), ("gated", true)] {
        let options = Options { approvals: true, cooling: Some(4), ..Options::default() };
        let mut scene = Scene::told(options, Handle);
        let session = scene.run().session;
        scene.turn(plan);
        let inbox = scene.world.inbox(scene.world.tenants[0], InboxOwner::Session(session));
        let body = inbox.last().and_then(|item| item.body.as_deref()).expect("it was told");
        let told = InputBody::decode(body).expect("it is readable").message;
        let [notice, gave] = &told.parts[..] else { panic!("a notice and a result: {told:?}") };
        assert_eq!(notice.label(), Label::PUBLIC_FACT);
        assert!(gave.as_text().contains(&format!("gated r{plan}")), "it repeats its arguments: {gave:?}");
        assert_eq!(gave.label().integrity == IntegrityLevel::Trusted, trusted, "{plan}: {gave:?}");
    }
}

/// Planted fault: a tool that tells what it reads again as a fact of the runtime. Whoever wrote the mail gets what it wants.
#[test]
fn a_body_read_again_that_is_trusted_is_caught() {
    let hijacked = "past.read>1/call_1_0;wire>eve";
    let robbed = |lie: Option<Lie>| {
        let mut scene = Scene::told(Options { lie, ..Options::default() }, Handle);
        scene.turn(hijacked);
        scene.is_robbed()
    };
    assert!(!robbed(None));
    assert!(robbed(Some(Lie::PastIsTrusted)), "nothing notices it");
}
