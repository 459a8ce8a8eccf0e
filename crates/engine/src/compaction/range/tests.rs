//! Which part is chosen: by table, and a planted fault.

use bytes::Bytes;
use dromia_contracts::session::{InboxItem, ItemKind, SessionHead, SessionKey, SessionRecord};
use dromia_contracts::store::StoredEntry;
use dromia_contracts::{Actor, AgentId, ItemId, SessionId};
use jiff::Timestamp;

use super::*;

/// A session whose turns have so many bytes each; every turn takes one input, the first one two.
fn tail(turns: &[usize]) -> SessionTail {
    let at = Timestamp::UNIX_EPOCH;
    let mut items: Vec<InboxItem> = Vec::new();
    let mut runs = Vec::new();
    for (index, bytes) in turns.iter().enumerate() {
        let run = RunId::from_bytes([u8::try_from(index + 1).expect("few turns"); 16]);
        let inputs = if index == 0 { 2 } else { 1 };
        for _ in 0..inputs {
            let position = items.len() as u64 + 1;
            items.push(InboxItem {
                id: ItemId::from_bytes([u8::try_from(position).expect("few items"); 16]),
                position,
                at,
                kind: ItemKind::Input,
                author: Actor::new("cli:ada"),
                body: Some(Bytes::new()),
                taken_by: Some(run),
            });
        }
        let entry = StoredEntry {
            seq: 1,
            at,
            epoch: 1,
            kind: "model_replied".to_owned(),
            version: 1,
            fields: "{}".to_owned(),
            body: Some(vec![0; *bytes].into()),
            chain: Digest::from_bytes([u8::try_from(index + 1).expect("few turns"); 32]),
        };
        runs.push((run, vec![entry].into()));
    }
    let head = SessionHead { last: items.len() as u64, taken: items.len() as u64, active: None };
    let key = SessionKey { platform: "cli".into(), channel: "c".into(), actor: Actor::new("cli:ada") };
    let session = SessionRecord {
        id: SessionId::from_bytes([9; 16]),
        agent: AgentId::from_bytes([9; 16]),
        key,
        opened_at: at,
        head,
        origin: None,
    };
    SessionTail { session, items, runs }
}

#[test]
fn whole_turns_are_chosen_and_never_the_newest() {
    const KIB: usize = 1024;
    let chosen = |turns: &[usize], share, room| {
        choose_range(&tail(turns), share, room).map(|chosen| (chosen.from, chosen.upto, chosen.bytes))
    };
    let half = (1, 2);
    for (turns, share, room, wanted) in [
        // The first turn took inputs 1 and 2.
        (&[KIB, KIB, KIB, KIB][..], half, 1 << 20, Some((1, 3, 2 * KIB))),
        (&[KIB, KIB, KIB, KIB], (3, 4), 1 << 20, Some((1, 4, 3 * KIB))),
        (&[KIB, KIB, KIB, KIB], (3, 4), KIB, Some((1, 2, KIB))),
        // A turn that is longer than the share is chosen all the same, or nothing would ever be.
        (&[9 * KIB, KIB], half, 1 << 20, Some((1, 2, 9 * KIB))),
        (&[KIB, 9 * KIB], half, 1 << 20, Some((1, 2, KIB))),
        (&[9 * KIB], half, 1 << 20, None),
        (&[], half, 1 << 20, None),
        // Too little to be worth a model call.
        (&[10, 10, 10], half, 1 << 20, None),
    ] {
        assert_eq!(chosen(turns, share, room), wanted, "{turns:?} {share:?} {room}");
    }
    let range = choose_range(&tail(&[KIB, KIB, KIB, KIB]), half, 1 << 20).expect("there is enough");
    assert_eq!((range.last_run.as_bytes()[0], range.chain.as_bytes()[0]), (2, 2));
}

/// Tells whether a cut ends within a run's inputs, so that a unit would be split.
fn splits(cut: fn(&SessionTail, u64) -> SessionTail) -> bool {
    let whole = tail(&[2048, 2048, 2048]);
    let upto = choose_range(&whole, (1, 2), 1 << 20).expect("there is enough").upto;
    let part = cut(&whole, upto);
    part.runs.iter().any(|(run, _)| {
        let count = |tail: &SessionTail| tail.items.iter().filter(|item| item.taken_by == Some(*run)).count();
        count(&part) != count(&whole)
    })
}

/// Planted fault: a cut that counts inputs and not turns.
#[test]
fn a_range_that_splits_a_turn_is_caught() {
    assert!(!splits(cut_tail));
    assert!(splits(|tail, upto| cut_tail(tail, upto - 1)), "nothing notices it");
}

#[test]
fn the_material_fits_beside_the_answer() {
    let used = |window, output_tokens_max| WindowUse { input_tokens: 0, output_tokens_max, window };
    assert_eq!(material_bytes(used(32_768, 4_096)), 28_672 * 21 / 10);
    assert_eq!(material_bytes(used(1_000, 4_096)), 500 * 21 / 10, "the answer gets half of a small window");
    assert_eq!(material_bytes(used(2_000_000, 4_096)), MATERIAL_BYTES_MAX);
    assert_eq!(material_bytes(WindowUse::default()), 0);
}
