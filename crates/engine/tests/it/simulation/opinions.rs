//! Second opinions across crashes: what cannot be undone begins only where a second model agrees, each question is paid for,
//! and what was said is not asked for again.

use dromia_contracts::cost::CostTotals;
use dromia_contracts::entry::Entry;
use dromia_contracts::opinion::ModelOpinion;
use dromia_contracts::run::RunStatus;
use dromia_engine::ObjectionAction;

use crate::cost::spent;

use super::rests::Scene;
use super::world::{Options, World};
use super::{seeds, simulate};

/// The alias of the model that is asked for its opinion.
pub(super) const SECOND: &str = "second";

/// A turn that reads somebody else's word, and then posts to bob, and to eve, to whom the second model does not agree.
const HIJACKED: &str = "fetch;post>bob;post>eve";

/// How what the first tool gave begins.
const FETCHED: &str = "fetch rfetch";

/// What a journal says of second opinions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// How often one was asked for.
    called: usize,
    /// What was said.
    given: Vec<ModelOpinion>,
    /// How often nothing was, because a crash cut it off.
    lost: usize,
    /// By which rule a post was refused.
    refused: Vec<Option<String>>,
}

impl Scene {
    fn entries(&self) -> Vec<Entry> {
        let journal = self.world.journal(self.world.tenants[0], self.run().id);
        journal.iter().map(|stored| stored.decode().expect("this program wrote it")).collect()
    }

    /// Reads the first run, and checks that nothing was posted without an opinion that agrees.
    fn opined(&self) -> Told {
        let mut told = Told::default();
        let entries = self.entries();
        for entry in &entries {
            match entry {
                Entry::OpinionCalled(_) => told.called += 1,
                Entry::OpinionGiven(given) => match &given.opinion {
                    Some(opinion) => told.given.push(opinion.clone()),
                    None => told.lost += 1,
                },
                Entry::ToolStarted(started) if started.tool == "post" => {
                    let agrees = started.opinion.as_ref().is_some_and(ModelOpinion::agrees);
                    assert!(agrees || self.world.options.opinions.is_none(), "{started:?}");
                }
                Entry::ToolRefused(refused) if refused.tool == "post" => {
                    told.refused.push(refused.rule.clone());
                }
                _ => {}
            }
        }
        assert_eq!(spent(&entries), CostTotals::from(&self.run()), "each question stands in the run's row");
        told
    }

    /// Tells how often something was posted to somebody.
    fn posts(&self, whom: &str) -> usize {
        let book = self.world.witness.book();
        let leads = |arguments: &str| arguments.contains(&format!("\"to\":\"{whom}\""));
        book.executions.iter().filter(|done| done.tool == "post" && leads(&done.arguments)).count()
    }

    /// Counts what the second model was shown, which is nothing of what was fetched.
    fn shown(&self) -> usize {
        let book = self.world.witness.book();
        for (key, shown) in &book.shown {
            assert!(shown.contains("\"tool\":\"post\"") && !shown.contains(FETCHED), "{key}: {shown}");
        }
        book.shown.len()
    }
}

/// Looks for calls that cannot be undone and began without an opinion that agrees, and for questions without an end. Returns
/// how many opinions were given, and how many a crash or an end cut off.
pub(super) fn check(world: &World) -> (usize, usize) {
    let (mut all, mut lost) = (0, 0);
    for tenant in &world.tenants {
        for run in world.runs(*tenant) {
            let (mut called, mut given, mut cut_off) = (0, 0, 0);
            for stored in world.journal(*tenant, run.id) {
                match stored.decode() {
                    Ok(Entry::OpinionCalled(_)) => called += 1,
                    Ok(Entry::OpinionGiven(told)) => match told.opinion {
                        // Nobody fails to answer here: whoever has something to tell of was not asked.
                        Some(opinion) if opinion.problem.is_some() => {}
                        Some(_) => given += 1,
                        None => cut_off += 1,
                    },
                    Ok(Entry::ToolStarted(started))
                        if started.tool == "post"
                            && !started.opinion.as_ref().is_some_and(ModelOpinion::agrees) =>
                    {
                        let what = format!("{} of {} began without an opinion", started.call, run.id);
                        world.witness.blame("E7", &what);
                    }
                    _ => {}
                }
            }
            let of_run = format!("{}:opinion:", run.id);
            let asked = world.witness.book().shown.iter().filter(|(key, _)| key.starts_with(&of_run)).count();
            if asked > 2 * called {
                let what =
                    format!("{} had {asked} answers asked for, and reserved {called} times two", run.id);
                world.witness.blame("C4", &what);
            }
            if called != given + cut_off {
                let what = format!("{} asked {called} times, heard {given} and lost {cut_off}", run.id);
                world.witness.blame("E7", &what);
            }
            all += given;
            lost += cut_off;
        }
    }
    (all, lost)
}

/// Lives through a turn, with a crash after so many milliseconds, if any.
fn turn(opinions: Option<ObjectionAction>, crash_after: Option<usize>) -> Scene {
    let mut scene = Scene::with(37, Options { opinions, ..Options::default() });
    scene.say(HIJACKED, false).expect("nothing fails");
    if let Some(milliseconds) = crash_after {
        scene.pass(milliseconds);
        scene.crash();
        scene.engine.start();
    }
    scene.pass(20_000);
    assert_eq!(scene.run().head.status, RunStatus::Completed, "{:?}", scene.kinds());
    scene
}

#[test]
fn a_call_with_an_objecting_second_model_does_not_begin() {
    let scene = turn(Some(ObjectionAction::Abort), None);
    let told = scene.opined();
    assert_eq!((told.called, told.given.len(), told.lost), (2, 2, 0));
    assert_eq!(told.refused, [Some("second-opinion".to_owned())]);
    assert_eq!((scene.posts("bob"), scene.posts("eve")), (1, 0));
    assert_eq!(scene.shown(), 4, "two answers to each of two questions");
    let fetched = |entry: &Entry| matches!(entry, Entry::ToolFinished(_));
    assert!(scene.entries().iter().any(fetched), "there was something to hide");
}

/// Planted fault: nobody is asked. The attack of the test above passes.
#[test]
fn an_opinion_that_is_not_asked_for_is_caught() {
    let scene = turn(None, None);
    assert_eq!((scene.opined(), scene.posts("eve"), scene.shown()), (Told::default(), 1, 0));
}

#[test]
fn a_takeover_asks_again_only_what_is_not_durable() {
    let mut lost = 0;
    for crash_after in (0..300).step_by(10) {
        let scene = turn(Some(ObjectionAction::Abort), Some(crash_after));
        let told = scene.opined();
        assert_eq!(told.called, told.given.len() + told.lost, "each question has its end");
        assert_eq!(told.given.len(), 2, "{crash_after} ms: one opinion is durable for each call");
        assert!(scene.posts("bob") <= 1 && scene.posts("eve") == 0, "crashed after {crash_after} ms");
        scene.shown();
        lost += told.lost;
    }
    assert!(lost > 1, "only {lost} crashes came into a question");
}

#[test]
fn a_call_delayed_by_an_objection_begins_without_another_question() {
    let mut scene = turn(Some(ObjectionAction::Delay), None);
    assert_eq!((scene.posts("bob"), scene.posts("eve"), scene.shown()), (1, 0, 4));
    scene.pass(900_000);
    assert_eq!((scene.posts("eve"), scene.shown()), (1, 4), "what was said lies with the approval");
}

#[test]
fn no_crash_begins_a_disputed_call_or_loses_a_question() {
    let (mut given, mut lost) = (0, 0);
    for seed in seeds().take(80) {
        let options = Options { opinions: Some(ObjectionAction::Abort), ..Options::default() };
        let report = simulate(seed, options);
        assert_eq!(report.wrong, Vec::<String>::new(), "seed {seed}");
        given += report.tally.opinions;
        lost += report.tally.opinions_lost;
    }
    assert!(given > 0 && lost > 0, "{given} opinions were given, and {lost} cut off");
}
