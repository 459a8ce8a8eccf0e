//! Two tenants on one reference store, and a leak planted into each read: the harness finds every one of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use dromia_contracts::replay_store_reads;
use dromia_contracts::store::Store;
use dromia_testkit::conformance::tenants::{
    ForgetfulStore, KEYS, PlayTally, READS, WORLD_OPS, WorldStores, play_world,
};
use dromia_testkit::{ReferenceStore, SimExecutor};

/// How many operations are played, if nobody says it.
const OPERATIONS: usize = 5_000;
/// The most worlds until a leak is found.
const WORLDS_MAX: u64 = 12;

fn operations() -> usize {
    let asked = std::env::var("DROMIA_TENANT_OPS").ok();
    asked.map_or(OPERATIONS, |text| text.parse().expect("DROMIA_TENANT_OPS is a number"))
}

fn fresh() -> WorldStores {
    let store = || Arc::new(ReferenceStore::new()) as Arc<dyn Store>;
    WorldStores { shared: store(), alone: [store(), store()] }
}

fn played(
    seed: u64,
    operations: usize,
    reads: &[&'static str],
    stores: &WorldStores,
) -> Result<PlayTally, String> {
    SimExecutor::new(seed).block_on(play_world(seed, operations, reads, stores)).expect("the world ends")
}

#[test]
#[expect(clippy::print_stdout, reason = "a long run says how far it is, and what was played")]
fn the_reference_answers_a_tenant_as_if_it_were_alone() {
    let wanted = operations();
    let mut tally = PlayTally::default();
    for seed in 0..wanted.div_ceil(WORLD_OPS) as u64 {
        tally.add_tally(played(seed, WORLD_OPS, READS, &fresh()).unwrap_or_else(|leak| panic!("{leak}")));
        if seed % 25 == 24 {
            println!("reference store: {tally}");
        }
    }
    println!("reference store: {tally}; no answer of one tenant changed because of the other");
    assert!(tally.operation_count() >= wanted as u64);
    tally.says_something();
}

#[test]
fn a_read_that_forgets_its_scope_is_caught() {
    for leak in READS.iter().copied().chain([KEYS]) {
        // Only the read in question is asked, so each world asks it often; keys are met by writes.
        let only = [leak];
        let reads: &[&'static str] = if leak == KEYS { READS } else { &only };
        let is_caught = (0..WORLDS_MAX).any(|seed| {
            let WorldStores { shared, alone } = fresh();
            let shared: Arc<dyn Store> = Arc::new(ForgetfulStore::new(shared, leak));
            played(seed, WORLD_OPS, reads, &WorldStores { shared, alone }).is_err()
        });
        assert!(is_caught, "{leak} forgets its scope and nobody notices");
    }
    // A forgetful store that forgets nothing is an honest one.
    let WorldStores { shared, alone } = fresh();
    let shared: Arc<dyn Store> = Arc::new(ForgetfulStore::new(shared, "nothing"));
    assert!(played(0, WORLD_OPS, READS, &WorldStores { shared, alone }).is_ok());
}

/// Lists the reads of the port with what each sees with.
macro_rules! list_read_scopes {
    ($($(#[$text:meta])*
    fn $name:ident($scope:ident: $reach:ident $(, $argument:ident: $kind:ty)*) -> $output:ty;)+) => {
        const READ_SCOPES: &[(&str, &str)] = &[$((stringify!($name), stringify!($reach))),+];
    };
}

replay_store_reads! { list_read_scopes }

#[test]
fn every_read_that_takes_a_scope_is_asked() {
    let scoped = READ_SCOPES.iter().filter(|(_, reach)| *reach == "Scope");
    let scoped: BTreeSet<_> = scoped.map(|(name, _)| *name).collect();
    assert!(scoped.len() > 25, "{scoped:?} are too few");
    let asked: BTreeSet<_> = READS.iter().copied().collect();
    let unasked: Vec<_> = scoped.difference(&asked).collect();
    assert!(unasked.is_empty(), "say in `Question::answer` how each read is asked: {unasked:?}");
    // The other calls of the port are no reads; erasures are compared as writes, and leases are of the node.
    let port = include_str!("../../../contracts/src/store/read.rs");
    let port = port.split_once("pub trait Store").expect("the port").1;
    let calls = port.split("    fn ").skip(1).filter_map(|call| call.split_once(['<', '(']));
    let calls: Vec<_> = calls.map(|(name, _)| name).collect();
    let leases = ["begin_life", "renew_life", "living_lives"];
    let others = [
        &["commit", "erase_agent_page", "erase_session_page"][..],
        &leases,
        &["store_health", "store_stats"],
    ]
    .concat();
    assert_eq!(calls, others, "declare it as a read");
}

#[test]
fn one_seed_is_one_world() {
    let tally = |seed| played(seed, 200, READS, &fresh()).expect("it holds");
    assert_eq!(tally(3), tally(3));
    assert_ne!(tally(3), tally(4));
}
