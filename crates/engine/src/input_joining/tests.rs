//! Tables of waiting inputs, and what of them enters a turn.

use bytes::Bytes;
use dromia_contracts::ItemId;
use dromia_contracts::content::{ContentPart, InputMessage};
use dromia_contracts::label::Label;
use dromia_contracts::workspace::WorkspaceReference;

use super::*;

/// An input of an author at a millisecond.
fn input(author: &str, policy: BusyPolicy, ms: i64, text: &str) -> InboxItem {
    let author = Actor::new(author);
    let parts = vec![ContentPart::new_text(text, Label::ACTOR_TEXT)];
    let message = InputMessage { author: author.clone(), parts, hops: 0 };
    let body = InputBody { when_busy: policy, ..InputBody::from_message(message) };
    item(ItemKind::Input, author, ms, &body)
}

fn item(kind: ItemKind, author: Actor, ms: i64, body: &InputBody) -> InboxItem {
    InboxItem {
        id: ItemId::from_bytes([7; 16]),
        position: 1,
        at: at(ms),
        kind,
        author,
        body: Some(Bytes::from(body.encode().expect("it is JSON"))),
        taken_by: None,
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).expect("a time")
}

/// Inputs of ada, one a millisecond: `f`ollow-up, `s`teer, `c`ollect, `i`nterrupt; `B` is bob's steering one and `W` has a
/// directory.
fn inbox(letters: &str) -> Vec<InboxItem> {
    (0..)
        .zip(letters.chars())
        .map(|(ms, letter)| match letter {
            's' => input("ada", BusyPolicy::Steer, ms, "use tabs"),
            'c' => input("ada", BusyPolicy::Collect, ms, "and this"),
            'i' => input("ada", BusyPolicy::Interrupt, ms, "stop that"),
            'B' => input("bob", BusyPolicy::Steer, ms, "use spaces"),
            'W' => {
                let message = InputMessage {
                    author: Actor::new("ada"),
                    parts: vec![ContentPart::new_text("look", Label::ACTOR_TEXT)],
                    hops: 0,
                };
                let workspace = "/srv/a".parse::<WorkspaceReference>().ok();
                let body = InputBody { workspace, ..InputBody::from_message(message) };
                item(ItemKind::Input, Actor::new("ada"), ms, &body)
            }
            _ => input("ada", BusyPolicy::FollowUp, ms, "hello"),
        })
        .collect()
}

/// Waiting inputs, and how many of them join a turn of ada.
const JOINING: [(&str, usize); 11] = [
    ("", 0),
    ("f", 0),
    ("s", 1),
    ("ss", 2),
    ("ffs", 3),
    ("fsf", 2),
    ("Bs", 0),
    ("sBs", 1),
    ("Ws", 0),
    ("sW", 1),
    ("cis", 3),
];

/// Names the rows of the table that a count gets wrong.
fn wrong_rows(count: impl Fn(&[InboxItem], &Actor) -> usize) -> Vec<&'static str> {
    let ada = Actor::new("ada");
    let wrong = JOINING.iter().filter(|(letters, joins)| count(&inbox(letters), &ada) != *joins);
    wrong.map(|(letters, _)| *letters).collect()
}

fn policy_of(item: &InboxItem) -> BusyPolicy {
    InputBody::decode(item.body.as_deref().unwrap_or_default()).expect("it is read").when_busy
}

#[test]
fn a_join_that_ignores_the_author_is_caught() {
    let by_policy = |waiting: &[InboxItem], _: &Actor| {
        let last = waiting.iter().rposition(|item| policy_of(item) == BusyPolicy::Steer);
        last.map_or(0, |last| last + 1)
    };
    assert_eq!(wrong_rows(by_policy), ["Bs", "sBs", "Ws"]);
}

#[test]
fn a_join_that_passes_over_earlier_inputs_is_caught() {
    let steering = |waiting: &[InboxItem], author: &Actor| {
        let joins = |item: &&InboxItem| item.author == *author && policy_of(item) == BusyPolicy::Steer;
        waiting.iter().filter(joins).count()
    };
    assert_eq!(wrong_rows(steering), ["ffs", "fsf", "Bs", "sBs", "Ws", "cis"]);
}

#[test]
fn a_steered_input_joins_with_all_that_waits_before_it() {
    assert_eq!(wrong_rows(count_steered), Vec::<&str>::new());
    let many = inbox(&"s".repeat(40));
    assert_eq!(count_steered(&many, &Actor::new("ada")), JOINED_ITEMS_MAX);
}

#[test]
fn an_input_of_another_author_joins_no_turn() {
    assert_eq!(count_steered(&inbox("B"), &Actor::new("ada")), 0);
    assert_eq!(count_steered(&inbox("B"), &Actor::new("bob")), 1);
    // An agent that speaks in the name of somebody else is not that person.
    let mut forged = input("ada", BusyPolicy::Steer, 0, "pay bob");
    forged.author = Actor::new("agent:other");
    assert_eq!(count_steered(&[forged], &Actor::new("agent:other")), 0);
}

#[test]
fn long_inputs_join_up_to_a_bound() {
    let long = |text: &str| input("ada", BusyPolicy::Steer, 0, &text.repeat(40 << 10));
    assert_eq!(count_steered(&[long("a"), long("b")], &Actor::new("ada")), 1);
    let alone = input("ada", BusyPolicy::Steer, 0, &"a".repeat(100 << 10));
    assert_eq!(count_steered(&[alone], &Actor::new("ada")), 1, "one that is long by itself is not left out");
}

#[test]
fn the_next_turn_takes_one_input_or_those_that_belong_together() {
    let late = at(60_000);
    for (letters, takes) in [
        ("f", 1),
        ("ff", 1),
        ("fs", 1),
        ("i", 1),
        ("ffi", 3),
        ("fif", 2),
        ("ccc", 3),
        ("ccf", 2),
        ("cBc", 1),
        ("Wc", 1),
        ("Wi", 1),
    ] {
        assert_eq!(next_turn(&inbox(letters), late, true), NextTurn::Takes(takes), "{letters:?}");
    }
}

#[test]
fn collected_inputs_wait_for_quiet_but_not_for_ever() {
    let inputs = |times: &[i64]| -> Vec<_> {
        times.iter().map(|ms| input("ada", BusyPolicy::Collect, *ms, "and this")).collect()
    };
    assert_eq!(
        next_turn(&inputs(&[0, 1_000]), at(1_200), true),
        NextTurn::WaitsUntil { until: at(2_500), collected: 2 }
    );
    assert_eq!(next_turn(&inputs(&[0, 1_000]), at(2_500), true), NextTurn::Takes(2));
    // The oldest one has waited long enough, however many still come.
    assert_eq!(
        next_turn(&inputs(&[0, 9_800]), at(9_900), true),
        NextTurn::WaitsUntil { until: at(10_000), collected: 2 }
    );
    assert_eq!(next_turn(&inputs(&[0, 9_800]), at(10_000), true), NextTurn::Takes(2));
    // No more fit, or another one waits behind them.
    let full: Vec<_> = (0..16).collect();
    assert_eq!(next_turn(&inputs(&full), at(20), true), NextTurn::Takes(16));
    assert_eq!(next_turn(&inbox("ccf"), at(3), true), NextTurn::Takes(2));
    // A clock that was set back makes nobody wait for the old time.
    assert_eq!(next_turn(&inputs(&[5_000]), at(1_000), true), NextTurn::Takes(1));
}

/// A conclusion, which another branch may have superseded.
fn conclusion(superseded: bool) -> InboxItem {
    let kind = if superseded { r#","superseded":true"# } else { "" };
    let text = format!(
        r#"{{"version":1,"kind":"branch","position":1{kind},"message":{{"author":"agent:a","parts":[]}}}}"#
    );
    let input = input("agent:a", BusyPolicy::FollowUp, 0, "x");
    InboxItem { kind: ItemKind::Conclusion, body: Some(Bytes::from(text)), ..input }
}

#[test]
fn waiting_conclusions_enter_together_and_with_the_next_input() {
    let all = |count: usize| vec![conclusion(false); count];
    for (count, taken) in [(1, 1), (3, 3), (16, 16), (20, 16)] {
        assert_eq!(next_turn(&all(count), at(0), true), NextTurn::Takes(taken));
    }
    let with_input = [all(2), inbox("ff")].concat();
    assert_eq!(next_turn(&with_input, at(0), true), NextTurn::Takes(3));
    // One that brings a directory along gets a turn of its own, and those before it do not wait.
    assert_eq!(next_turn(&[all(2), inbox("W")].concat(), at(0), false), NextTurn::Takes(2));
    // A steering input takes along what waits before it.
    assert_eq!(count_steered(&[all(2), inbox("s")].concat(), &Actor::new("ada")), 3);
    assert_eq!(count_steered(&all(2), &Actor::new("ada")), 0);
}

#[test]
fn a_superseded_conclusion_begins_no_turn() {
    let (old, new) = (conclusion(true), conclusion(false));
    assert_eq!(next_turn(std::slice::from_ref(&old), at(0), true), NextTurn::Rests);
    assert_eq!(next_turn(&[old.clone(), new.clone()], at(0), true), NextTurn::Takes(2));
    assert_eq!(next_turn(&[new], at(0), false), NextTurn::Rests, "too many turns in a row");
    assert_eq!(next_turn(&[vec![old], inbox("f")].concat(), at(0), false), NextTurn::Takes(2));
}
