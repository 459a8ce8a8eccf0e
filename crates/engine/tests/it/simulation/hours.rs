//! Budgets of an hour while hours end, and while the wall clock goes to and fro over the end of one.
//!
//! After every commit the counts of its tenant are worked out again from what it added to journals: one count for each tenant, of
//! the latest hour in which something was charged. What comes with an earlier time is charged to that hour, so no hour is given
//! twice, and what a call took whose hour is over changes nothing. The store must say the same, each time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dromia_contracts::budget::{BudgetDefinition, BudgetMeasure, BudgetUse, RULE};
use dromia_contracts::content::CallStatus;
use dromia_contracts::entry::Entry;
use dromia_contracts::fault::ErrorCode;
use dromia_contracts::store::{
    BudgetRemove, BudgetSet, Mutation, PageRequest, RunFilter, Store as _, WriteBatch,
};
use dromia_contracts::{RunId, TenantId};
use dromia_testkit::ReferenceStore;
use jiff::Timestamp;

use super::world::{BudgetWorld, Options, World, at_once, scope_of};
use super::{seeds, simulate};

/// Calls of a tenant in an hour.
pub(super) const CALLS: u64 = 10;
/// Millionths of a tenant in an hour; a call reserves 7.
pub(super) const MICROS: u64 = 50;

const HOUR_MS: i64 = 3_600_000;
/// How far from the end of an hour the clock is set, at most.
const NEAR_MS: usize = 2_000;

/// What was charged, as the journals say it.
#[derive(Debug, Default)]
pub(crate) struct HourBook {
    counts: BTreeMap<TenantId, HourCount>,
    /// How many entries of each run are charged.
    charged: BTreeMap<RunId, u64>,
    /// How often the count began again with a later hour.
    pub(crate) turned: usize,
    /// How often a call began with a time of an earlier hour than that of the count.
    pub(crate) earlier: usize,
}

/// The count of a tenant.
#[derive(Debug, Default)]
struct HourCount {
    /// The latest hour in which something was charged.
    hour: i64,
    used: u64,
    /// The hour of the call of each run that goes on, and what is reserved for it.
    open: BTreeMap<RunId, (i64, u64)>,
}

impl HourBook {
    /// Returns whether a time lies in an earlier hour than the one that a tenant is charged to.
    pub(super) fn is_earlier(&self, tenant: TenantId, at: Timestamp) -> bool {
        self.counts.get(&tenant).is_some_and(|count| hour_of(at) < count.hour)
    }

    /// Charges what journals gained since the last look, and compares the store; returns what is wrong.
    pub(super) fn look(&mut self, truth: &ReferenceStore, tenant: TenantId, now: Timestamp) -> Vec<String> {
        let scope = scope_of(tenant);
        let Some(known) = at_once(truth.budgets(&scope, now)).expect("it reads").pop() else { return vec![] };
        let mut wrong = Vec::new();
        let newest = truth.runs(&scope, RunFilter::default(), PageRequest::first_page(256));
        for run in at_once(newest).expect("it reads") {
            let before = self.charged.insert(run.id, run.last_seq).unwrap_or(0);
            if before == run.last_seq {
                continue;
            }
            let added = at_once(truth.journal_entries(&scope, run.id, before, 256)).expect("it reads");
            for stored in added {
                let entry = stored.decode().expect("it is an entry of this version");
                if let Some(over) = self.charge_entry(&known.budget, tenant, run.id, &entry, stored.at) {
                    wrong.push(format!("{tenant} spent {over} of {} in an hour", known.budget.limit));
                }
            }
        }
        let count = self.counts.entry(tenant).or_default();
        let used = if count.hour >= hour_of(now) { count.used } else { 0 };
        if used != known.used {
            wrong.push(format!("{tenant} spent {used} in an hour and {} is counted", known.used));
        }
        wrong
    }

    /// Charges an entry; returns the count where a call began that it has no room for.
    fn charge_entry(
        &mut self,
        budget: &BudgetDefinition,
        tenant: TenantId,
        run: RunId,
        entry: &Entry,
        at: Timestamp,
    ) -> Option<u64> {
        let is_money = budget.measure == BudgetMeasure::Money;
        let count = self.counts.entry(tenant).or_default();
        let (mut begins, mut refused, mut settled) = (None, false, None);
        match entry {
            Entry::ModelCalled(called) => begins = Some(if is_money { called.reserved_micros } else { 1 }),
            Entry::ToolStarted(_) if !is_money => begins = Some(1),
            Entry::ToolRefused(entry) => {
                let judged = matches!(entry.status, CallStatus::Denied | CallStatus::Error);
                refused = !is_money && judged && entry.rule.as_deref() != Some(RULE);
            }
            Entry::ModelReplied(replied) => settled = Some(replied.cost_micros),
            Entry::ModelFailed(failed) => {
                let is_known = matches!(
                    failed.code,
                    ErrorCode::ModelUnavailable
                        | ErrorCode::ModelRejected
                        | ErrorCode::ContextExceeded
                        | ErrorCode::ActionDenied
                );
                settled = is_known.then_some(failed.charged_micros);
            }
            _ => {}
        }
        if let (Some((hour, reserved)), Some(took)) = (count.open.remove(&run), settled)
            && hour == count.hour
            && is_money
        {
            count.used = count.used - reserved + took;
        }
        if begins.is_none() && !refused {
            return None;
        }
        if hour_of(at) > count.hour {
            self.turned += usize::from(count.hour > 0);
            (count.hour, count.used) = (hour_of(at), 0);
        }
        self.earlier += usize::from(begins.is_some() && hour_of(at) < count.hour);
        count.used += begins.unwrap_or(1);
        let reserved = begins?;
        count.open.insert(run, (count.hour, reserved));
        (count.used > budget.limit).then_some(count.used)
    }
}

fn hour_of(at: Timestamp) -> i64 {
    at.as_millisecond().div_euclid(HOUR_MS)
}

/// Sets the wall clock a little before the end of an hour, where every such world begins.
pub(super) fn begin_late_in_an_hour(world: &World) {
    let now = world.runtime.clock.now().as_millisecond();
    step_clock(world, now + HOUR_MS - 1_000);
}

/// Sets the wall clock now and then while anything fails: over the end of the hour and back, or to the end of the next one.
/// Between that, time passes, and ends an hour by itself.
pub(super) async fn move_clock(world: Arc<World>) {
    while world.outside.storm.load(Ordering::SeqCst) {
        world.runtime.clock.sleep(Duration::from_millis(100 + world.chance.below(900) as u64)).await;
        let now = world.runtime.clock.now().as_millisecond();
        let near = 1 + i64::try_from(world.chance.below(NEAR_MS)).expect("it is small");
        // The end of an hour that is nearest.
        let end = (now + HOUR_MS / 2).div_euclid(HOUR_MS) * HOUR_MS;
        match world.chance.below(8) {
            0 => step_clock(&world, end + HOUR_MS - near),
            1..=5 if now < end => step_clock(&world, end + near),
            1..=5 => step_clock(&world, end - near),
            _ => {}
        }
    }
}

fn step_clock(world: &World, to_ms: i64) {
    world.clock.step_wall_clock(Timestamp::from_millisecond(to_ms).expect("it is in the calendar"));
}

/// Has the truth forget what is counted, as a store does that keeps one count and charges to an earlier hour.
pub(super) fn forget_count(truth: &ReferenceStore, tenant: TenantId, now: Timestamp) {
    let uses = at_once(truth.budgets(&scope_of(tenant), now)).expect("it reads");
    for BudgetUse { budget, .. } in uses {
        let remove = Mutation::BudgetRemove(BudgetRemove { name: budget.name.clone() });
        let set = Mutation::BudgetSet(BudgetSet { budget });
        at_once(truth.commit(WriteBatch::new(tenant).with_mutation(remove).with_mutation(set)));
    }
}

#[test]
fn a_wavering_clock_never_gives_an_hour_twice() {
    let (mut unfunded, mut turned, mut earlier) = (0, 0, 0);
    for seed in seeds().take(60) {
        let report = simulate(seed, Options { budgets: Some(BudgetWorld::Hourly), ..Options::default() });
        assert_eq!(report.wrong, Vec::<String>::new(), "seed {seed}");
        unfunded += report.tally.unfunded;
        turned += report.tally.hours_turned;
        earlier += report.tally.charged_earlier;
    }
    // A world in which no hour ends proves nothing, nor does one in which all that is begun has room.
    assert!(unfunded > 30 && turned > 60 && earlier > 30, "{unfunded}, {turned}, {earlier}");
}
