//! The plan of a turn: which tools it means to call, how often, where they lead, what they act upon, how much of it and what
//! they say, said before anything untrusted came to it.
//!
//! A plan is what the model asked for, or declared by [`DECLARE`], in steps whose request held trusted text only. From the
//! first step with something untrusted on it is frozen: nothing is added to it, whatever is said later. It forbids nothing
//! by itself; a policy sees whether a call lies within it, and which of its arguments it binds ([`CallProvenance`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::opinion::ModelOpinion;

/// The built-in tool by which a model declares what it will call later. It is accepted while the plan is open.
pub const DECLARE: &str = "plan.declare";

/// The most tools of a plan.
pub const TOOLS_MAX: usize = 64;

/// The most destinations of a plan, and of a call that is looked for in one.
pub const DESTINATIONS_MAX: usize = 256;

/// The most objects, texts, names of tools and values of arguments in one declaration, all together.
pub const WORDS_MAX: usize = 256;

/// The most calls of one tool that one declaration plans.
pub const TIMES_MAX: u32 = 64;

/// The most bytes of one declared name or destination.
pub const WORD_BYTES_MAX: usize = 2 << 10;

/// A plan, as a model declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanDeclaration {
    /// What is planned of each tool, by its name.
    pub tools: BTreeMap<String, PlannedCalls>,
}

/// What a model declares of one tool. What is not said is not planned.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlannedCalls {
    /// The most of each amount. One that a person typed allows no other amount than typed ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount_max: Option<Number>,
    /// The values that each argument without a role may have, whole, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, Vec<Value>>,
    /// Tools whose results its texts may contain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub carries: Vec<String>,
    /// What it acts upon: ids, names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// Texts that it says, word for word.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<String>,
    /// How many calls; 1 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Recipients or addresses, as in its calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
}

impl PlannedCalls {
    fn planned_values(&self) -> impl Iterator<Item = &String> {
        self.to.iter().chain(&self.objects).chain(&self.texts).chain(&self.carries)
    }
}

impl PlanDeclaration {
    /// Says what is wrong with it, if anything is.
    pub fn validation_problem(&self) -> Option<String> {
        let destinations: usize = self.tools.values().map(|calls| calls.to.len()).sum();
        let values = |calls: &PlannedCalls| calls.arguments.values().map(Vec::len).sum::<usize>();
        let words = |calls: &PlannedCalls| calls.planned_values().count() - calls.to.len() + values(calls);
        let words: usize = self.tools.values().map(words).sum();
        if self.tools.is_empty() {
            return Some("tools: a plan needs at least one tool".to_owned());
        }
        if self.tools.len() > TOOLS_MAX {
            return Some(format!("tools: a plan may name at most {TOOLS_MAX} tools"));
        }
        if destinations > DESTINATIONS_MAX {
            return Some(format!("tools: a plan may name at most {DESTINATIONS_MAX} destinations"));
        }
        if words > WORDS_MAX {
            return Some(format!(
                "tools: a plan may name at most {WORDS_MAX} objects, texts, tools to carry from and values of \
                 arguments"
            ));
        }
        for (tool, calls) in &self.tools {
            if calls.times.is_some_and(|times| times == 0 || times > TIMES_MAX) {
                return Some(format!("tools.{tool}.times: must be from 1 to {TIMES_MAX}"));
            }
            if calls.amount_max.as_ref().is_some_and(|most| most.as_f64().is_none_or(|most| most < 0.0)) {
                return Some(format!("tools.{tool}.amount_max: must not be less than 0"));
            }
            let is_oversized = |value: &Value| value.to_string().len() > WORD_BYTES_MAX;
            for (name, values) in &calls.arguments {
                if name.len() > WORD_BYTES_MAX || values.iter().any(is_oversized) {
                    return Some(format!(
                        "tools.{tool}.arguments: names and values have at most {WORD_BYTES_MAX} bytes"
                    ));
                }
            }
        }
        let mut words =
            self.tools.iter().flat_map(|(tool, calls)| std::iter::once(tool).chain(calls.planned_values()));
        let misfits = words.any(|word| word.is_empty() || word.len() > WORD_BYTES_MAX);
        misfits.then(|| {
            format!("tools: names, destinations, objects and texts have 1 to {WORD_BYTES_MAX} bytes")
        })
    }
}

/// How a call relates to the plan of its turn, to what its actor typed, and to a second model: what of a call was known
/// beside the call itself.
///
/// It is kept with an approval, so that a call which begins later is judged by what was known when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallProvenance {
    /// The arguments, by their names, whose value an authenticated actor typed word for word or is the tool's default.
    /// A short value counts where it was planned too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endorsed: Vec<String>,
    /// Whether the plan takes nothing more.
    pub frozen: bool,
    /// Whether the call lies within the plan: its tool, its destinations, and how often. While the plan is open, every call
    /// does.
    pub in_plan: bool,
    /// The tools that the plan names, sorted; empty while it is open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// The arguments that the plan binds, by their names: destinations, objects and texts that were planned word for word or
    /// that a person named, amounts of no more than was planned, and planned values of arguments without a role.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub planned: Vec<String>,
    /// What was planned of its tool, in plain words; empty where nothing was, and while the plan is open.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bounds: String,
    /// The tools that gave the turn something sensitive, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// Those of them whose results this call was not planned to carry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uncarried: Vec<String>,
    /// The tools that were called before in the turn, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub called: Vec<String>,
    /// What a second model said of the call, where one was asked. No policy sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opinion: Option<ModelOpinion>,
}

impl Default for CallProvenance {
    /// Nothing is planned, and nothing can be.
    fn default() -> Self {
        Self {
            endorsed: Vec::new(),
            frozen: true,
            in_plan: false,
            tools: Vec::new(),
            planned: Vec::new(),
            bounds: String::new(),
            sources: Vec::new(),
            uncarried: Vec::new(),
            called: Vec::new(),
            opinion: None,
        }
    }
}

/// What a gate knows of a plan, and of what the turn has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanContext<'a> {
    /// Whether the plan takes nothing more.
    pub frozen: bool,
    /// Whether the action lies within the plan.
    pub in_plan: bool,
    /// The tools that it names, sorted; empty while it is open.
    pub tools: &'a [String],
    /// The arguments that it binds, by their names.
    pub planned: &'a [String],
    /// What was planned of the tool, in plain words.
    pub bounds: &'a str,
    /// The tools that gave the turn something sensitive, sorted.
    pub sources: &'a [String],
    /// Those of them whose results the call was not planned to carry.
    pub uncarried: &'a [String],
    /// The tools that were called before in the turn, sorted.
    pub called: &'a [String],
}

impl PlanContext<'_> {
    /// The plan of a turn to which nothing untrusted has come: all that is asked for is in it.
    pub const OPEN: PlanContext<'static> = PlanContext {
        frozen: false,
        in_plan: true,
        tools: &[],
        planned: &[],
        bounds: "",
        sources: &[],
        uncarried: &[],
        called: &[],
    };
}

impl CallProvenance {
    /// Lends what concerns the plan and what the turn has read.
    pub fn plan_context(&self) -> PlanContext<'_> {
        PlanContext {
            frozen: self.frozen,
            in_plan: self.in_plan,
            tools: &self.tools,
            planned: &self.planned,
            bounds: &self.bounds,
            sources: &self.sources,
            uncarried: &self.uncarried,
            called: &self.called,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_has_its_bounds() {
        let calls =
            |leads: usize| PlannedCalls { to: vec!["x".to_owned(); leads], ..PlannedCalls::default() };
        let of = |tools: Vec<(String, PlannedCalls)>| PlanDeclaration { tools: tools.into_iter().collect() };
        let named = |count: usize| (0..count).map(|n| (format!("t{n}"), calls(0))).collect::<Vec<_>>();
        let one = |calls: PlannedCalls| of(vec![("t".to_owned(), calls)]);
        let times = |times| PlannedCalls { times: Some(times), ..PlannedCalls::default() };
        let texts = |count| PlannedCalls { texts: vec!["x".to_owned(); count], ..PlannedCalls::default() };
        let most = Number::from_f64(-0.5);
        let values = |name: &str, count, bytes| PlannedCalls {
            arguments: BTreeMap::from([(name.to_owned(), vec![Value::from("x".repeat(bytes)); count])]),
            ..PlannedCalls::default()
        };
        for fits in [
            of(named(TOOLS_MAX)),
            one(calls(DESTINATIONS_MAX)),
            one(times(TIMES_MAX)),
            one(texts(WORDS_MAX)),
            one(values("a", WORDS_MAX, WORD_BYTES_MAX - 2)),
        ] {
            assert_eq!(fits.validation_problem(), None);
        }
        for (declaration, said) in [
            (of(named(0)), "at least one tool"),
            (of(named(TOOLS_MAX + 1)), "at most 64 tools"),
            (one(calls(DESTINATIONS_MAX + 1)), "at most 256 destinations"),
            (one(texts(WORDS_MAX + 1)), "256 objects, texts"),
            (one(values("a", WORDS_MAX + 1, 1)), "values of arguments"),
            (one(values("a", 1, WORD_BYTES_MAX - 1)), "tools.t.arguments"),
            (one(values(&"a".repeat(WORD_BYTES_MAX + 1), 1, 1)), "tools.t.arguments"),
            (one(times(0)), "tools.t.times"),
            (one(times(TIMES_MAX + 1)), "must be from 1 to 64"),
            (one(PlannedCalls { amount_max: most, ..PlannedCalls::default() }), "must not be less than 0"),
            (
                one(PlannedCalls { objects: vec![String::new()], ..PlannedCalls::default() }),
                "1 to 2048 bytes",
            ),
            (of(vec![(String::new(), calls(0))]), "1 to 2048 bytes"),
            (of(vec![("t".repeat(WORD_BYTES_MAX + 1), calls(0))]), "1 to 2048 bytes"),
        ] {
            let problem = declaration.validation_problem().expect(said);
            assert!(problem.contains(said), "{problem}");
        }
    }

    #[test]
    fn an_unknown_provenance_is_in_no_plan() {
        let unknown: CallProvenance = serde_json::from_str("{}").expect("it is read");
        assert_eq!(unknown, CallProvenance::default());
        assert!(unknown.frozen && !unknown.in_plan && unknown.planned.is_empty());
        let known = CallProvenance {
            in_plan: true,
            tools: vec!["t".into()],
            planned: vec!["to".into()],
            bounds: "once".into(),
            ..CallProvenance::default()
        };
        let written = serde_json::to_string(&known).expect("it is JSON");
        assert_eq!(serde_json::from_str::<CallProvenance>(&written).expect("it is read"), known);
    }
}
