//! Inputs that say what they do while a turn of their session runs: how a world draws them, and how a journal is looked
//! through for joins that their policies do not allow.

use dromia_contracts::busy_policy::{BusyPolicy, JOINED_ITEMS_MAX};
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::runs::{EnginePort as _, NewInput};
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::store::{ItemKey, KeyLifetime};
use dromia_contracts::{Actor, Digest, ItemId};
use dromia_testkit::faulty::CommitFault;

use super::check::check;
use super::rests::Scene;
use super::witness::ADA;
use super::world::{Chance, scope_of};

/// The other person.
const BOB: &str = "cli:bob";

/// Draws who says an input, and its policy.
pub(crate) fn draw(chance: &Chance) -> (&'static str, Option<BusyPolicy>) {
    let author = if chance.one_in(4) { BOB } else { ADA };
    let policy = BusyPolicy::ALL.get(chance.below(BusyPolicy::ALL.len() + 2)).copied();
    (author, policy.or(Some(BusyPolicy::Steer)))
}

/// Lists what a run took, in the order in which it took it.
pub(crate) fn taken_items(entries: &[Entry]) -> Vec<ItemId> {
    let taken = entries.iter().flat_map(|entry| match entry {
        Entry::RunStarted(started) => started.items.as_slice(),
        Entry::InputsTaken(taken) => taken.items.as_slice(),
        _ => &[],
    });
    taken.copied().collect()
}

/// Shows an item as one that Ada sent.
pub(crate) fn as_of_ada(mut item: InboxItem) -> InboxItem {
    let body = item.body.as_deref().and_then(|body| InputBody::decode(body).ok());
    if let Some(mut body) = body.filter(|_| item.kind == ItemKind::Input) {
        item.author = Actor::new(ADA);
        body.message.author = Actor::new(ADA);
        item.body = Some(body.encode().expect("a message").into());
    }
    item
}

/// Looks at everything that entered a turn together.
pub(crate) fn wrong_joins(entries: &[Entry], inbox: &[InboxItem]) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let input = |id: &ItemId| inbox.iter().find(|item| item.id == *id && item.kind == ItemKind::Input);
    let policy = |item: &&InboxItem| {
        let body = item.body.as_deref().and_then(|body| InputBody::decode(body).ok());
        body.map_or(BusyPolicy::FollowUp, |body| body.when_busy)
    };
    let mut first = None;
    for (at, entry) in entries.iter().enumerate() {
        let (items, is_join) = match entry {
            Entry::RunStarted(started) => (&started.items, false),
            Entry::InputsTaken(taken) => (&taken.items, true),
            _ => continue,
        };
        let inputs: Vec<_> = items.iter().filter_map(input).collect();
        first = first.or(inputs.first().map(|item| item.author.clone()));
        if inputs.iter().any(|item| Some(&item.author) != first.as_ref()) {
            wrong.push(("S2", "the inputs of several persons share it".to_owned()));
        }
        let policies: Vec<_> = inputs.iter().map(policy).collect();
        let last = policies.last().copied();
        let is_allowed = match policies.len() {
            _ if is_join => last == Some(BusyPolicy::Steer),
            0 | 1 => true,
            _ => {
                last == Some(BusyPolicy::Interrupt)
                    || policies.iter().all(|policy| *policy == BusyPolicy::Collect)
            }
        };
        if !is_allowed || items.len() > JOINED_ITEMS_MAX {
            wrong.push(("S2", format!("{policies:?} entered it together")));
        }
        let is_sent = matches!(entries.get(at + 1), Some(Entry::ModelCalled(_)));
        if is_join && !is_sent {
            wrong.push(("S2", "inputs joined it without the model call that sends them".to_owned()));
        }
    }
    wrong
}

/// The key under which an input may be sent again.
fn key_of(name: &str) -> ItemKey {
    let request = Digest::from_bytes(*blake3::hash(name.as_bytes()).as_bytes());
    ItemKey { key: name.to_owned(), request, lifetime: KeyLifetime::Day }
}

/// Speaks into a running turn while a commit fails, and sends again what was not acknowledged. Returns how many inputs joined a
/// turn, and whether the commit was reached.
fn speak_into_turn(policy: BusyPolicy, fault: CommitFault, nth: u64) -> (usize, bool) {
    let mut scene = Scene::new(5);
    scene.weather.spoil_in(nth, fault);
    let before = scene.weather.commits();
    let inputs = [("look;look;look;look", None), ("look;pay", Some(policy)), ("set", Some(policy))];
    let submit = |scene: &mut Scene| {
        let mut is_stored = true;
        for (plan, when_busy) in inputs {
            let input =
                NewInput { when_busy, key: Some(key_of(plan)), wait: false, ..scene.input(plan, false) };
            let scope = scope_of(scene.world.places[0].tenant);
            let submitted = scene.sim.block_on(scene.engine.submit_input(scope, input));
            is_stored &= submitted.is_ok_and(|submitted| submitted.is_ok());
        }
        is_stored
    };
    let mut is_stored = submit(&mut scene);
    scene.pass(20_000);
    let is_reached = scene.weather.commits() - before >= nth;
    if scene.weather.is_dead() {
        scene.crash();
        scene.engine.start();
        is_stored = false;
    }
    if !is_stored {
        scene.pass(20_000);
        assert!(submit(&mut scene), "commit {nth}, {fault:?}: an input is refused in calm weather");
    }
    scene.pass(60_000);
    assert_eq!(scene.world.unsettled(), None, "commit {nth}, {fault:?}");
    let tally = check(&scene.world);
    assert_eq!(scene.world.witness.book().wrong, Vec::<String>::new(), "commit {nth}, {fault:?}");
    let tenant = scene.world.tenants[0];
    let sessions = scene.world.sessions(tenant);
    let [session] = &sessions[..] else { panic!("one session, not {sessions:?}") };
    assert_eq!((session.head.last, session.head.taken), (3, 3), "commit {nth}, {fault:?}");
    (tally.joined, is_reached)
}

/// Every commit of a turn that others speak into fails in every way, and a process that dies with it is followed by another.
#[test]
fn no_failing_commit_loses_an_input_of_a_running_turn() {
    for policy in BusyPolicy::ALL {
        let mut joined = 0;
        for fault in CommitFault::ALL {
            let reached = (1..100).take_while(|nth| {
                let (joins, is_reached) = speak_into_turn(policy, fault, *nth);
                joined += joins;
                is_reached
            });
            assert!(reached.count() >= 4, "{policy}, {fault:?}: too few commits to prove anything");
        }
        assert_eq!(joined > 0, policy == BusyPolicy::Steer, "{policy}: {joined} inputs joined a turn");
    }
}
