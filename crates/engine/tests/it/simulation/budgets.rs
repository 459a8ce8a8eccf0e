//! Budgets across crashes: what the journals spent is what the store counted, and never more than the limit.
//!
//! Calls and money are reserved whole before a call, and in these worlds a call takes at most what was reserved. So the
//! bound is the limit itself: the call in flight that may overshoot it is one that takes more than its reservation.

use dromia_contracts::budget::{BudgetDefinition, BudgetMeasure, BudgetPeriod, BudgetScope, RULE};
use dromia_contracts::content::CallStatus;
use dromia_contracts::entry::Entry;
use dromia_contracts::store::{BudgetSet, CommitOutcome, Mutation, Store as _, WriteBatch};

use super::world::{BudgetWorld, Options, World, at_once, scope_of};
use super::{hours, seeds, simulate};

/// Calls of a tenant.
const CALLS: u64 = 25;
/// Millionths of a tenant; a call reserves 7.
const MICROS: u64 = 100;

/// Sets the budgets of every tenant: the first has one of calls, the others one of money.
pub(super) fn set(world: &World) {
    for (index, tenant) in world.tenants.iter().enumerate() {
        let (calls, micros, period) = if world.options.budgets == Some(BudgetWorld::Hourly) {
            (hours::CALLS, hours::MICROS, BudgetPeriod::Hour)
        } else {
            (CALLS, MICROS, BudgetPeriod::Total)
        };
        let (measure, limit) =
            if index == 0 { (BudgetMeasure::Calls, calls) } else { (BudgetMeasure::Money, micros) };
        let per = BudgetScope::Tenant;
        let budget =
            BudgetDefinition { name: "all".into(), per, of: None, measure, period, limit, declared: false };
        let set = Mutation::BudgetSet(BudgetSet { budget });
        let answer = at_once(world.truth.commit(WriteBatch::new(*tenant).with_mutation(set)));
        assert!(matches!(answer, CommitOutcome::Done(_)), "{answer:?}");
    }
}

/// Compares the journals of each tenant with its budget.
pub(super) fn check(world: &World) {
    for tenant in &world.tenants {
        let uses = at_once(world.truth.budgets(&scope_of(*tenant), world.runtime.clock.now()));
        let Some(known) = uses.expect("it reads").pop() else { continue };
        let (mut begun, mut refused, mut micros) = (0, 0, 0);
        for run in world.runs(*tenant) {
            micros += run.head.cost_micros;
            for stored in world.journal(*tenant, run.id) {
                match stored.decode() {
                    Ok(Entry::ModelCalled(_) | Entry::ToolStarted(_)) => begun += 1,
                    Ok(Entry::ToolRefused(entry)) => {
                        let judged = matches!(entry.status, CallStatus::Denied | CallStatus::Error);
                        refused += u64::from(judged && entry.rule.as_deref() != Some(RULE));
                    }
                    _ => {}
                }
            }
        }
        let (spent, bound) = match known.budget.measure {
            BudgetMeasure::Calls => (begun + refused, begun <= CALLS),
            _ => (micros, micros <= MICROS),
        };
        if !bound {
            world.witness.blame("S10", &format!("{tenant} spent {spent} of {}", known.budget.limit));
        }
        if spent != known.used {
            let what = format!("{tenant} spent {spent} and {} is counted", known.used);
            world.witness.blame("S10", &what);
        }
    }
}

#[test]
fn no_crash_makes_a_budget_overshoot() {
    let mut unfunded = 0;
    for seed in seeds().take(60) {
        let report = simulate(seed, Options { budgets: Some(BudgetWorld::Total), ..Options::default() });
        assert_eq!(report.wrong, Vec::<String>::new(), "seed {seed}");
        unfunded += report.tally.unfunded;
    }
    assert!(unfunded > 0, "no budget was ever used up");
}
