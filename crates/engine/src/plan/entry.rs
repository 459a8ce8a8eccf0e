//! One entry of a plan: a tool, and its planned calls.
//!
//! It says which arguments of a call it binds. It refuses to guess: a credential is bound by no plan, an amount that is no
//! number by none, a text only by the very same text, and an argument without a role only by a value declared for it. A
//! bound that a person typed is the amount itself: another amount must have been typed as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dromia_contracts::plan::PlannedCalls;
use dromia_contracts::tool::{ArgumentRole, PreparedCall};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use serde_json::{Number, Value};

use super::given_arguments;
use crate::json_leaves::collect_leaves;
use crate::records::KnownRecords;

/// The most characters of one planned text that are shown, and the most of such texts.
const SHOWN_CHARS_MAX: usize = 60;
const SHOWN_MAX: usize = 4;

/// The planned calls of one tool. Without `times` their number is unlimited: the tool only reads.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct PlanEntry {
    pub(super) tool: String,
    pub(super) to: BTreeSet<String>,
    pub(super) objects: BTreeSet<String>,
    pub(super) texts: BTreeSet<String>,
    pub(super) carries: BTreeSet<String>,
    pub(super) arguments: BTreeMap<String, Vec<Value>>,
    pub(super) amount_max: Option<Number>,
    /// The numbers that a person typed, if `amount_max` is one of them.
    pub(super) typed_amounts: Vec<f64>,
    pub(super) times: Option<u32>,
    pub(super) done: u32,
}

impl PlanEntry {
    pub(super) fn for_tool(tool: &str) -> Self {
        Self { tool: tool.to_owned(), ..Self::default() }
    }

    /// Makes the entry of a declaration: one call, if it gives no number.
    pub(super) fn from_declaration(
        tool: &str,
        calls: PlannedCalls,
        tools: &ToolCatalogue,
        typed: &[f64],
    ) -> Self {
        let PlannedCalls { amount_max, arguments, carries, objects, texts, times, to } = calls;
        let most = amount_max.as_ref().and_then(Number::as_f64);
        let is_typed = most.is_some_and(|most| contains_number(typed, most));
        let named = |name: String| tools.find_spelled(&name).map_or(name, |tool| tool.name.clone());
        Self {
            tool: tool.to_owned(),
            to: to.into_iter().collect(),
            objects: objects.into_iter().collect(),
            texts: texts.into_iter().collect(),
            carries: carries.into_iter().map(named).collect(),
            arguments,
            amount_max,
            typed_amounts: if is_typed { typed.to_vec() } else { Vec::new() },
            times: Some(times.unwrap_or(1)),
            done: 0,
        }
    }

    pub(super) fn use_one_call(&mut self) {
        self.done = self.done.saturating_add(1);
    }

    pub(super) fn has_left(&self) -> bool {
        self.times.is_none_or(|times| self.done < times)
    }

    /// Lists the arguments of a call that it binds, by their names.
    pub(super) fn bound_arguments(
        &self,
        call: &PreparedCall,
        tools: &ToolCatalogue,
        records: &KnownRecords,
    ) -> Vec<String> {
        let bound = given_arguments(call, tools).filter(|(name, role, value)| match role {
            Some(ArgumentRole::Amount) => self.is_enough_for(value),
            Some(ArgumentRole::Credential) => false,
            Some(ArgumentRole::Destination) => {
                every_leaf(value, |lead| self.to.contains(lead) || records.names_place(lead))
            }
            Some(ArgumentRole::Object) => {
                every_leaf(value, |object| self.objects.contains(object) || records.names_object(object))
            }
            Some(ArgumentRole::Payload) => every_leaf(value, |text| self.texts.contains(text)),
            None => self.arguments.get(name).is_some_and(|values| values.contains(value)),
        });
        bound.map(|(name, _, _)| name).collect()
    }

    /// Returns whether each text in a value was declared word for word, or is the very amount.
    pub(super) fn says_value(&self, value: &Value) -> bool {
        let known = |word: &str| {
            let of = |words: &BTreeSet<String>| words.contains(word);
            of(&self.to) || of(&self.objects) || of(&self.texts)
        };
        let is_amount =
            value.as_f64().is_some() && value.as_f64() == self.amount_max.as_ref().and_then(Number::as_f64);
        is_amount || every_leaf(value, known)
    }

    fn is_enough_for(&self, value: &Value) -> bool {
        let Some(most) = self.amount_max.as_ref().and_then(Number::as_f64) else { return false };
        let is_planned = |amount: f64| {
            (0.0..=most).contains(&amount)
                && (self.typed_amounts.is_empty() || contains_number(&self.typed_amounts, amount))
        };
        match value {
            Value::Number(number) => number.as_f64().is_some_and(is_planned),
            // Some tools take amounts as texts.
            Value::String(text) => text.parse().is_ok_and(is_planned),
            Value::Array(values) => values.iter().all(|value| self.is_enough_for(value)),
            Value::Null | Value::Bool(_) | Value::Object(_) => false,
        }
    }
}

fn contains_number(numbers: &[f64], wanted: f64) -> bool {
    numbers.iter().any(|number| number.total_cmp(&wanted).is_eq())
}

/// Tells whether each text and number in a value is so. An empty value is.
fn every_leaf(value: &Value, is_so: impl Fn(&str) -> bool) -> bool {
    let mut words = Vec::new();
    collect_leaves(value, &mut words);
    words.iter().all(|word| is_so(word))
}

/// Renders the entry in plain words.
impl fmt::Display for PlanEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.times {
            Some(1) => write!(f, "1 call ({} left)", 1 - self.done.min(1))?,
            Some(times) => write!(f, "{times} calls ({} left)", times.saturating_sub(self.done))?,
            None => f.write_str("looks")?,
        }
        for (about, words) in [(" to ", &self.to), (", upon ", &self.objects), (", saying ", &self.texts)] {
            if !words.is_empty() {
                write!(f, "{about}{}", quoted_words(words))?;
            }
        }
        if let Some(most) = &self.amount_max {
            let typed = if self.typed_amounts.is_empty() { "" } else { "as typed, " };
            write!(f, ", amount {typed}at most {most}")?;
        }
        for (name, values) in &self.arguments {
            let values = values.iter().map(Value::to_string).collect();
            write!(f, ", {name} {}", quoted_words(&values))?;
        }
        if !self.carries.is_empty() {
            write!(f, ", carrying what {} told", quoted_words(&self.carries))?;
        }
        Ok(())
    }
}

fn quoted_words(words: &BTreeSet<String>) -> String {
    let cut = |word: &String| match word.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.clone(),
    };
    let mut text = words.iter().take(SHOWN_MAX).map(cut).collect::<Vec<_>>().join(", ");
    if words.len() > SHOWN_MAX {
        text.push_str(" and ");
        text.push_str(&(words.len() - SHOWN_MAX).to_string());
        text.push_str(" more");
    }
    text
}
