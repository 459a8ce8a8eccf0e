//! Inputs that say what they do while a turn of their session runs: how a world draws them, and how a journal is looked
//! through for joins that their policies do not allow.

use dromia_contracts::busy_policy::{BusyPolicy, JOINED_ITEMS_MAX};
use dromia_contracts::entry::Entry;
use dromia_contracts::input::InputBody;
use dromia_contracts::session::{InboxItem, ItemKind};
use dromia_contracts::{Actor, ItemId};

use super::witness::ADA;
use super::world::Chance;

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
