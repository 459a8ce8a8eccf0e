//! What runs cost, on the wire: sums over many, and one run attempt by attempt.

pub use dromia_contracts::cost::CURRENCY;
use dromia_contracts::cost::{ChargeBasis, CostTotals};
use dromia_contracts::run::RunStatus;
use dromia_contracts::{CallId, ErrorCode, RunId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// By what runs are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostBy {
    /// By the agent that ran.
    #[default]
    Agent,
    /// By the alias of the model that was called.
    Model,
    /// By the day, in UTC, on which the run began.
    Day,
    /// By the actor whose input began the run.
    Actor,
    /// By the tenant, which is one group: the operator's command adds those of all tenants.
    Tenant,
}

impl CostBy {
    /// Every way to group.
    pub const ALL: [Self; 5] = [Self::Agent, Self::Model, Self::Day, Self::Actor, Self::Tenant];

    /// Returns the way as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Day => "day",
            Self::Actor => "actor",
            Self::Tenant => "tenant",
        }
    }
}

/// What runs cost together. A run counts whole, at the time at which it began; what was erased is not counted, nor what came as a
/// file and was spent elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CostSummary {
    /// Only runs that began then or later were counted.
    pub since: Option<Timestamp>,
    /// By what the groups are made.
    pub by: CostBy,
    /// How many runs were counted.
    pub runs: u64,
    /// How many were not, because they came as a file.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub imported: u64,
    /// The currency of the amounts.
    #[serde(default = "default_currency")]
    pub currency: String,
    /// What they spent together.
    pub total: CostTotals,
    /// The groups: the dearest first, days in order.
    pub groups: Vec<CostGroup>,
    /// What to send as `after` to count on, if there may be more runs than one answer counts.
    pub next: Option<RunId>,
}

fn default_currency() -> String {
    CURRENCY.to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One group of a summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CostGroup {
    /// The agent's id, the alias of the model, the day, the actor, or the handle of the tenant.
    pub key: String,
    /// The agent's handle; absent for other groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How many runs have a part in it.
    pub runs: u64,
    /// What they spent in it.
    pub spent: CostTotals,
}

impl CostSummary {
    /// Begins with nothing.
    pub fn new(by: CostBy, since: Option<Timestamp>) -> Self {
        Self {
            since,
            by,
            runs: 0,
            imported: 0,
            currency: default_currency(),
            total: CostTotals::default(),
            groups: Vec::new(),
            next: None,
        }
    }

    /// Adds the page that follows.
    pub fn merge_page(&mut self, page: Self) {
        self.runs += page.runs;
        self.imported += page.imported;
        self.total.add(page.total);
        self.next = page.next;
        for group in page.groups {
            match self.groups.iter_mut().find(|known| known.key == group.key) {
                Some(known) => {
                    known.runs += group.runs;
                    known.spent.add(group.spent);
                }
                None => self.groups.push(group),
            }
        }
        self.sort_groups();
    }

    /// Puts the groups in order.
    pub fn sort_groups(&mut self) {
        self.groups.sort_by(|a, b| {
            let dearest = b.spent.cost_micros.cmp(&a.spent.cost_micros);
            if self.by == CostBy::Day { a.key.cmp(&b.key) } else { dearest.then_with(|| a.key.cmp(&b.key)) }
        });
    }
}

/// What one run cost, attempt by attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunCost {
    /// The run.
    pub run: RunId,
    /// Its status.
    pub status: RunStatus,
    /// The number of the last entry that is counted.
    pub last_seq: u64,
    /// What the run itself spent, as its row says: the sum of all its attempts.
    #[serde(rename = "self")]
    pub own: CostTotals,
    /// What it spent together with the runs that went on from it.
    pub total: CostTotals,
    /// The runs that went on from it, each from the one before.
    pub resumed_by: Vec<RunId>,
    /// The last run of these, where `total` does not know all that went on from it; its own cost counts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_further: Option<RunId>,
    /// A page of its attempts, in order.
    pub attempts: Vec<AttemptCost>,
    /// What to send as `after` for the attempts that follow; absent after the last one.
    pub next: Option<u64>,
}

/// What one attempt at a model step cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptCost {
    /// The number of the entry that began it.
    pub seq: u64,
    /// When it began.
    pub at: Timestamp,
    /// The model step, counted from 1.
    pub step: u32,
    /// The attempt at this step, counted from 1.
    pub attempt: u32,
    /// The call about which a second model was asked, where it is no attempt at the step itself: all answers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinion_of: Option<CallId>,
    /// The alias of the model that was asked: the agent's model or its fallback.
    pub model: String,
    /// Tokens of the request, as the provider reported them.
    pub input_tokens: u32,
    /// Tokens of the answer, as the provider reported them.
    pub output_tokens: u32,
    /// What was reserved for it, in millionths of the currency unit.
    pub reserved_micros: u64,
    /// What it cost, in millionths of the currency unit.
    pub cost_micros: u64,
    /// Whether the price of the model was not known, so that the amounts say nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unpriced: bool,
    /// By what it was charged.
    pub charge: ChargeBasis,
    /// The stable code of why it gave no answer, if it gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ErrorCode>")]
    pub failure: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(key: &str, runs: u64, cost_micros: u64) -> CostGroup {
        let spent = CostTotals { model_calls: runs, cost_micros, ..CostTotals::default() };
        CostGroup { key: key.into(), name: None, runs, spent }
    }

    fn page(groups: Vec<CostGroup>, next: Option<RunId>) -> CostSummary {
        let mut page = CostSummary::new(CostBy::Model, None);
        for group in &groups {
            page.runs += group.runs;
            page.total.add(group.spent);
        }
        CostSummary { groups, next, ..page }
    }

    #[test]
    fn pages_of_a_summary_merge_into_the_whole_summary() {
        let mut sum = page(vec![group("small", 2, 5)], Some(RunId::from_bytes([1; 16])));
        sum.merge_page(page(vec![group("large", 1, 9), group("small", 1, 3)], None));
        assert_eq!(sum, page(vec![group("large", 1, 9), group("small", 3, 8)], None));
    }

    #[test]
    fn a_runs_own_cost_is_serialized_as_self() {
        let cost = RunCost {
            run: RunId::from_bytes([1; 16]),
            status: RunStatus::Running,
            last_seq: 2,
            own: CostTotals::default(),
            total: CostTotals::default(),
            resumed_by: vec![],
            resumed_further: None,
            attempts: vec![],
            next: None,
        };
        let json = serde_json::to_value(&cost).expect("it is JSON");
        assert!(json.get("self").is_some() && json.get("own").is_none());
        assert_eq!(serde_json::from_value::<RunCost>(json).expect("it was just written"), cost);
    }
}
