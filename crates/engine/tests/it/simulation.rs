//! Whole worlds from one number: engines over a failing store, people, tools and a model, on one deterministic
//! executor. Engines crash where the seed says, and at the end a witness is compared with the store.
//!
//! | claim | what is checked | planted fault that turns it red (`planted.rs`) |
//! |---|---|---|
//! | C4, J3 | no acknowledged input is lost, none is stored or taken twice | `an_ack_before_the_commit_is_caught`, `a_dropped_inbox_key_is_caught` |
//! | S1, S2 | one active turn per session, input in order | `a_second_claimer_is_caught` |
//! | J1, J2, J4, J6, J8 | entries 1..n, fold equals row, one result per call | `an_append_without_an_epoch_is_caught` |
//! | E1 | `ToolStarted` is durable before the tool runs | `an_effect_before_its_start_is_caught` |
//! | E2 | one key per call | `a_key_per_attempt_is_caught` |
//! | E3 | a transactional send and its result are one commit | `a_send_torn_from_its_result_is_caught` |
//! | E4 | an unkeyed call runs at most once per start | `a_replayed_unkeyed_call_is_caught` |
//! | E6 (approvals) | an approved call begins once for each approval, in whichever run, and its session is told | `a_start_that_uses_up_no_approval_is_caught` |
//! | E6 (delays) | a call that is put off begins by itself, and not before its time | `a_delayed_call_before_its_time_is_caught` |
//! | S10, E7 (budgets) | no budget is overshot, its count is what the journals say | `a_store_without_charges_is_caught` |
//! | S10, E7 (hours) | no hour of a budget is given twice, wherever the clock goes | `a_charge_to_an_earlier_hour_is_caught` |
//! | SAFE-8 (plans) | what was not planned before something untrusted came does not happen, wherever it crashes | `a_plan_membership_that_is_unplugged_is_caught` in `plans.rs` |
//! | E7 (opinions) | what cannot be undone begins only where a second model agrees, and each question is paid for | `an_opinion_that_is_not_asked_for_is_caught` in `opinions.rs` |
//! | B2 | a run that is parked holds no task | `a_parked_run_that_keeps_its_task_is_caught` in `parked.rs` |
//! | labels (past) | an earlier turn taints a later one only where what it told is read again | `a_body_read_again_that_is_trusted_is_caught` in `past.rs` |
//! | J4 (requests) | every request is written again with the bytes that were sent, whatever crashed since | |
//! | B (hang-ups) | what follows a commit does not go with the caller who drops his call | `a_call_that_goes_with_its_caller_is_caught` in `hang_ups.rs` |
//! | E7 (panics) | a panic costs a run one claim, and nobody else anything | the planted ones in `panics.rs` |
//! | imports | an import is whole or not there, whatever commit of it breaks | `an_import_that_is_shown_half_is_caught` in `imports.rs` |
//! | signals | a run learns of a signal whose notification is lost | `a_signal_told_by_memory_alone_is_caught` in `signals.rs` |
//! | holders | of two engines on one store none takes what the other works on, and each finds what a dead one left | `an_engine_that_takes_living_runs_is_caught` in `two_nodes.rs` |
//! | wake-ups | a parked run is woken in one commit, which a store with a newer row refuses | `a_wake_up_of_an_old_row_is_caught` in `wake_commits.rs` |
//! | checkpoints | a takeover folds what follows the checkpoint, and the whole journal where that is not its own | `a_checkpoint_of_another_fold_is_caught`, `a_checkpoint_with_one_bit_off_is_caught` in `checkpoints.rs` |
//! | workspaces | a run works where its input says, before a crash and after it | `a_run_that_forgets_its_directory_is_caught` in `workspaces.rs` |
//! | S2 (policies) | an input joins a turn of its own author, before a model call, with all that waits before it | `a_join_of_another_persons_input_is_caught` |
//! | E7, E8, D1 | every attempt is charged, held only after losses, answers are what the store holds | |
//!
//! `DROMIA_SIM_SEEDS=FIRST..END` runs other seeds, `DROMIA_SIM_SEEDS=N..` a single one.

mod answers;
mod approvals;
mod budgets;
mod check;
mod checkpoints;
mod clients;
mod hang_ups;
mod hours;
mod imports;
mod kills;
mod live;
mod opinions;
mod panics;
mod parked;
mod past;
mod plans;
mod planted;
mod policies;
mod ports;
mod requests;
mod rests;
mod signals;
mod store;
mod two_nodes;
mod wake_commits;
mod wakes;
mod witness;
mod workspaces;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dromia_contracts::Digest;
use dromia_testkit::SimExecutor;

use self::check::{Tally, check, check_sent};
use self::clients::Client;
use self::world::{BudgetWorld, Options, World, step};

/// The seeds of the usual run.
const SEEDS: std::ops::Range<u64> = 0..200;
/// The most steps of one world; an ordinary one takes a tenth of it.
const STEPS_MAX: u64 = 300_000;

/// What a world came to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    wrong: Vec<String>,
    trace: Digest,
    journals: Digest,
    steps: u64,
    tally: Tally,
}

/// Lives through one world.
fn simulate(seed: u64, options: Options) -> Report {
    let mut sim = SimExecutor::new(seed).with_steps_max(STEPS_MAX);
    let world = Arc::new(World::new(&mut sim, seed, options));
    if let Err(stuck) = live(&mut sim, &world) {
        let open = world.unsettled().unwrap_or_else(|| "everything is settled".to_owned());
        world.witness.blame("B", &format!("the world does not come to an end: {stuck}; {open}"));
    }
    world.look();
    let mut tally = check(&world);
    if options.approvals {
        let counted = approvals::check(&world);
        [tally.approved_in_place, tally.approved_later, tally.crowded_out, tally.asked_together] = counted;
    }
    if options.budgets == Some(BudgetWorld::Hourly) {
        let book = world.witness.book();
        (tally.hours_turned, tally.charged_earlier) = (book.hours.turned, book.hours.earlier);
    } else if options.budgets.is_some() {
        budgets::check(&world);
    }
    if options.opinions.is_some() {
        (tally.opinions, tally.opinions_lost) = opinions::check(&world);
    }
    let mut journals = blake3::Hasher::new();
    for tenant in &world.tenants {
        for run in world.runs(*tenant) {
            for entry in world.journal(*tenant, run.id) {
                journals.update(entry.chain.as_bytes());
            }
        }
    }
    let wrong = world.witness.book().wrong.clone();
    let journals = Digest::from_bytes(*journals.finalize().as_bytes());
    Report { wrong, trace: sim.trace_digest(), journals, steps: sim.step_count(), tally }
}

/// One to four lives of the engine, each but the last ended by a crash, then peace. Where an engine may work on beside the next
/// one there are three or four, so that every world has a life that can: the last crash ends them all.
fn live(sim: &mut SimExecutor, world: &Arc<World>) -> Result<(), dromia_testkit::sim::SimError> {
    let lives = if world.options.zombies { 3 + world.chance.below(2) } else { 1 + world.chance.below(4) };
    for life in 1..=lives {
        let weather = world.weather(life < lives);
        let engine = world.engine(&weather);
        engine.start();
        let busy = Arc::new(AtomicUsize::new(2 + world.chance.below(3)));
        let client = Client { world: Arc::clone(world), engine: engine.clone() };
        if world.options.budgets == Some(BudgetWorld::Hourly) {
            world.runtime.spawn.spawn(Box::pin(hours::move_clock(Arc::clone(world))));
        }
        for _ in 0..busy.load(Ordering::SeqCst) {
            world.runtime.spawn.spawn(Box::pin(client.clone().live(Arc::clone(&busy))));
        }
        if life < lives {
            let (slices, steps) = (world.chance.below(300), world.chance.below(60));
            sim.block_on(async {
                for _ in 0..slices {
                    if weather.is_dead() {
                        return;
                    }
                    world.sleep(20).await;
                }
                // Into the middle of whatever happens at this instant.
                for _ in 0..steps {
                    step().await;
                }
            })?;
            let lives_on = world.options.zombies && life + 1 < lives && world.chance.one_in(2);
            if !lives_on {
                drop((client, engine));
                sim.crash_tasks();
                let mut book = world.witness.book();
                book.crashes += 1;
                book.losses += 1;
                book.waiting.clear();
                book.asking.clear();
            }
            world.look();
            continue;
        }
        let stuck = sim.block_on(async {
            while busy.load(Ordering::SeqCst) > 0 {
                world.sleep(100).await;
            }
            weather.calm();
            world.calm();
            client.heal().await
        })?;
        if let Some(what) = stuck {
            let active = engine.count_active_runs();
            world.witness.blame("B", &format!("it does not settle, {active} tasks are active: {what}"));
        } else if world.options.lie.is_none() {
            sim.block_on(check_sent(world, &engine))?;
        }
    }
    Ok(())
}

/// Reads `DROMIA_SIM_SEEDS`.
fn seeds() -> std::ops::Range<u64> {
    let Ok(asked) = std::env::var("DROMIA_SIM_SEEDS") else { return SEEDS };
    let number = |text: &str| text.parse().expect("DROMIA_SIM_SEEDS is FIRST..END or N..");
    let (first, end) = asked.split_once("..").expect("DROMIA_SIM_SEEDS is FIRST..END or N..");
    let first = number(first);
    first..if end.is_empty() { first + 1 } else { number(end) }
}

/// Runs all seeds and fails with the first ones that found something.
fn sweep(name: &str, options: Options) -> Vec<Tally> {
    let mut tallies = Vec::new();
    let mut found = Vec::new();
    for seed in seeds() {
        let report = simulate(seed, options);
        if !report.wrong.is_empty() {
            found.push((seed, report.wrong));
        }
        tallies.push(report.tally);
    }
    let list = |(seed, wrong): &(u64, Vec<String>)| {
        format!(
            "DROMIA_SIM_SEEDS={seed}.. cargo test --workspace --test it {name}\n    {}",
            wrong.join("\n    ")
        )
    };
    let list = found.iter().take(4).map(list).collect::<Vec<_>>().join("\n");
    assert!(found.is_empty(), "{} seeds found something:\n{list}", found.len());
    tallies
}

#[test]
fn no_seed_breaks_an_invariant() {
    let tallies = sweep("no_seed_breaks_an_invariant", Options::default());
    if tallies.len() < 100 {
        return;
    }
    // A world in which nothing happens proves nothing.
    let sum = |of: fn(&Tally) -> usize| tallies.iter().map(of).sum::<usize>();
    let worlds = tallies.len();
    let per_world = [
        ("inputs", sum(|tally| tally.inputs), 10 * worlds),
        ("runs", sum(|tally| tally.runs), 8 * worlds),
        ("executions", sum(|tally| tally.executions), 8 * worlds),
        ("cancelled", sum(|tally| tally.cancelled), worlds / 4),
        ("yielded", sum(|tally| tally.yielded), worlds / 8),
        ("parked", sum(|tally| tally.parked), worlds),
        ("unknown", sum(|tally| tally.unknown), worlds / 16),
        ("takeovers", sum(|tally| usize::try_from(tally.takeovers).expect("few")), 2 * worlds),
        ("outcomes", sum(|tally| usize::try_from(tally.outcomes).expect("few")), worlds),
        ("crashes", sum(|tally| usize::try_from(tally.crashes).expect("few")), worlds),
        ("losses", sum(|tally| usize::try_from(tally.losses).expect("few")), 4 * worlds),
    ];
    for (what, times, least) in per_world {
        assert!(times >= least, "{what}: {times} in {worlds} worlds, of at least {least}: {per_world:?}");
    }
}

#[test]
fn no_seed_breaks_an_invariant_with_a_fenced_engine_running() {
    let options = Options { zombies: true, policies: true, ..Options::default() };
    sweep("no_seed_breaks_an_invariant_with_a_fenced_engine_running", options);
}

#[test]
fn no_seed_breaks_an_invariant_while_callers_hang_up() {
    let options = Options { hang_ups: Some(4), policies: true, ..Options::default() };
    let tallies = sweep("no_seed_breaks_an_invariant_while_callers_hang_up", options);
    if tallies.len() < 100 {
        return;
    }
    let sum = |of: fn(&Tally) -> usize| tallies.iter().map(of).sum::<usize>();
    let (joined, together) = (sum(|tally| tally.joined), sum(|tally| tally.taken_together));
    let worlds = tallies.len();
    assert!(
        joined >= worlds && together >= worlds / 2,
        "{joined} joined, {together} began together: {worlds}"
    );
}

#[test]
fn one_seed_gives_one_trace_and_one_set_of_journals() {
    let first = simulate(11, Options::default());
    assert_eq!(first, simulate(11, Options::default()));
    let other = simulate(12, Options::default());
    assert_ne!(first.trace, other.trace);
    assert_ne!(first.journals, other.journals);
}
