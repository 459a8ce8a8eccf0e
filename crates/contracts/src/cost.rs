//! What model attempts cost, read off a journal.
//!
//! [`CostLedger`] is a fold like the engine's own: it takes the same entries and adds the same amounts, so what its
//! attempts, second opinions among them, cost together is what the run's row says, to the millionth, at every prefix. It
//! judges nothing and knows no prices; the entries carry the amounts.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::entry::Entry;
use crate::fault::ErrorCode;
use crate::id::CallId;
use crate::model::TokenUsage;
use crate::run::RunRecord;

/// The currency of the price table. Prices of an operator are in the same one, or sums mean nothing.
pub const CURRENCY: &str = "USD";

/// By what an attempt was charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChargeBasis {
    /// Nothing yet: it has neither answered nor failed.
    Open,
    /// What the provider's report of its tokens comes to.
    Report,
    /// What was reserved, because what it used is unknown.
    Reservation,
    /// Nothing: it failed before it cost anything.
    Nothing,
}

/// One attempt at a model step, or all answers of a second model about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelAttempt {
    /// The number of the entry that began it.
    pub seq: u64,
    /// When it began.
    pub at: Timestamp,
    /// The model step, counted from 1.
    pub step: u32,
    /// The attempt at this step, counted from 1.
    pub attempt: u32,
    /// The call about which a second model was asked, where it is no attempt at the step itself.
    pub opinion_of: Option<CallId>,
    /// How many calls of the model it is: more than one where a second model is asked several times.
    pub calls: u32,
    /// The alias of the asked model, fallbacks included; empty if the journal does not say how the attempt began.
    pub model: String,
    /// What was reserved for it.
    pub reserved_micros: u64,
    /// What it used; nothing unless it answered.
    pub usage: TokenUsage,
    /// What it cost.
    pub cost_micros: u64,
    /// Whether the price of the model was not known: what it cost is not known either.
    pub unpriced: bool,
    /// By what it was charged.
    pub charge: ChargeBasis,
    /// Why it gave no answer, if it gave none.
    pub failure: Option<ErrorCode>,
}

/// Reads attempts off a journal, entry by entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CostLedger {
    open: Option<ModelAttempt>,
}

impl CostLedger {
    /// Takes the next entry and returns the attempt that it ends.
    pub fn apply_entry(&mut self, seq: u64, at: Timestamp, entry: &Entry) -> Option<ModelAttempt> {
        match entry {
            Entry::ModelCalled(called) => self.open.replace(ModelAttempt {
                reserved_micros: called.reserved_micros,
                unpriced: called.unpriced,
                ..ModelAttempt::new_open(
                    seq,
                    at,
                    called.step,
                    called.attempt,
                    called.asked_alias().to_owned(),
                )
            }),
            Entry::ModelReplied(replied) => {
                let began = self.take_open_attempt(seq, at, replied.step, replied.attempt);
                Some(ModelAttempt {
                    usage: replied.usage,
                    cost_micros: replied.cost_micros,
                    charge: ChargeBasis::Report,
                    ..began
                })
            }
            Entry::ModelFailed(failed) => {
                let began = self.take_open_attempt(seq, at, failed.step, failed.attempt);
                let charge =
                    if failed.charged_micros == 0 { ChargeBasis::Nothing } else { ChargeBasis::Reservation };
                let failure = Some(failed.code);
                Some(ModelAttempt { cost_micros: failed.charged_micros, charge, failure, ..began })
            }
            Entry::OpinionCalled(called) => self.open.replace(ModelAttempt {
                reserved_micros: called.reserved_micros,
                unpriced: called.unpriced,
                opinion_of: Some(called.call),
                calls: called.samples,
                ..ModelAttempt::new_open(seq, at, called.call.step, 1, called.asked_alias().to_owned())
            }),
            Entry::OpinionGiven(given) => {
                let (call, unasked) = (given.call, self.open.is_none());
                if unasked && given.cost_micros == 0 && given.usage == TokenUsage::default() {
                    // No model could be asked.
                    return None;
                }
                let model = given.opinion.as_ref().map(|opinion| opinion.model.clone()).unwrap_or_default();
                let began = self.open.take().unwrap_or_else(|| ModelAttempt {
                    opinion_of: Some(call),
                    calls: 0,
                    ..ModelAttempt::new_open(seq, at, call.step, 1, model)
                });
                let (charge, failure) = match &given.opinion {
                    Some(_) if given.cost_micros == 0 && given.usage == TokenUsage::default() => {
                        (ChargeBasis::Nothing, None)
                    }
                    Some(_) => (ChargeBasis::Report, None),
                    None => (ChargeBasis::Reservation, Some(ErrorCode::OutcomeUnknown)),
                };
                let (usage, cost_micros) = (given.usage, given.cost_micros);
                Some(ModelAttempt { usage, cost_micros, charge, failure, ..began })
            }
            _ => None,
        }
    }

    /// Returns the attempt that has begun and not ended.
    pub fn open_attempt(&self) -> Option<&ModelAttempt> {
        self.open.as_ref()
    }

    /// Returns how the attempt began that ends now.
    fn take_open_attempt(&mut self, seq: u64, at: Timestamp, step: u32, attempt: u32) -> ModelAttempt {
        self.open.take().unwrap_or_else(|| ModelAttempt::new_open(seq, at, step, attempt, String::new()))
    }
}

impl ModelAttempt {
    fn new_open(seq: u64, at: Timestamp, step: u32, attempt: u32, model: String) -> Self {
        Self {
            seq,
            at,
            step,
            attempt,
            opinion_of: None,
            calls: 1,
            model,
            reserved_micros: 0,
            unpriced: false,
            usage: TokenUsage::default(),
            cost_micros: 0,
            charge: ChargeBasis::Open,
            failure: None,
        }
    }
}

/// What was spent: attempts, tokens and money, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CostTotals {
    /// Model calls begun.
    pub model_calls: u64,
    /// Tokens of the requests.
    pub input_tokens: u64,
    /// Tokens of the answers.
    pub output_tokens: u64,
    /// What they cost, in millionths of the currency unit.
    pub cost_micros: u64,
    /// Model calls of which no price is known: what they cost is in no sum.
    #[serde(default)]
    pub unpriced_calls: u64,
}

impl CostTotals {
    /// Adds what was spent elsewhere.
    pub fn add(&mut self, other: Self) {
        self.model_calls = self.model_calls.saturating_add(other.model_calls);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost_micros = self.cost_micros.saturating_add(other.cost_micros);
        self.unpriced_calls = self.unpriced_calls.saturating_add(other.unpriced_calls);
    }
}

impl From<&ModelAttempt> for CostTotals {
    fn from(attempt: &ModelAttempt) -> Self {
        Self {
            model_calls: attempt.calls.into(),
            input_tokens: attempt.usage.input_tokens.into(),
            output_tokens: attempt.usage.output_tokens.into(),
            cost_micros: attempt.cost_micros,
            unpriced_calls: if attempt.unpriced { attempt.calls.into() } else { 0 },
        }
    }
}

impl From<&RunRecord> for CostTotals {
    fn from(run: &RunRecord) -> Self {
        Self {
            model_calls: run.head.model_calls.into(),
            input_tokens: run.head.usage.input_tokens.into(),
            output_tokens: run.head.usage.output_tokens.into(),
            cost_micros: run.head.cost_micros,
            unpriced_calls: run.head.unpriced_calls.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::digest::Digest;
    use crate::entry::{ModelCalled, ModelFailed, OpinionGiven};
    use crate::opinion::ModelOpinion;

    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    fn called(attempt: u32) -> Entry {
        Entry::ModelCalled(ModelCalled {
            step: 1,
            attempt,
            model: "small".into(),
            history_from: 1,
            input_tokens: 3,
            output_tokens_max: 9,
            reserved_micros: 70,
            unpriced: false,
            sent: serde_json::from_str(r#"{"form":"chat/1","model":"m","digest":"0001020304050607"}"#)
                .expect("is data"),
            judged: None,
        })
    }

    /// Read from JSON, so that a field which is added later and may be absent does not concern this test.
    fn replied(attempt: u32, cost_micros: u64) -> Entry {
        let usage = TokenUsage { input_tokens: 3, output_tokens: 5 };
        let fields = json!({
            "step": 1, "attempt": attempt, "usage": usage, "cost_micros": cost_micros, "finish": "stop",
        });
        Entry::decode("model_replied", 1, &fields.to_string()).expect("these are its fields")
    }

    fn failed(attempt: u32, code: ErrorCode, charged_micros: u64) -> Entry {
        let message = "no".to_owned();
        Entry::ModelFailed(ModelFailed {
            step: 1,
            attempt,
            code,
            message,
            charged_micros,
            judged: None,
            attempts_max: None,
        })
    }

    fn opinion_called() -> Entry {
        let fields = json!({
            "call": "call_1_0", "action": "00".repeat(32), "model": "second", "samples": 3, "input_tokens": 3,
            "output_tokens_max": 9, "reserved_micros": 210,
            "sent": {"form": "chat/1", "model": "m", "digest": "0001020304050607"},
        });
        Entry::decode("opinion_called", 1, &fields.to_string()).expect("these are its fields")
    }

    fn opinion_given(opinion: Option<ModelOpinion>, input_tokens: u32, cost_micros: u64) -> Entry {
        let usage = TokenUsage { input_tokens, output_tokens: 0 };
        let (call, action) = (CallId { step: 1, index: 0 }, Digest::default());
        Entry::OpinionGiven(OpinionGiven { call, action, opinion, usage, tokens: 0, cost_micros })
    }

    #[test]
    fn a_second_opinion_counts_as_one_call_per_answer() {
        let said = || Some(ModelOpinion::count_votes("second", 3, 2, []));
        let mut ledger = CostLedger::default();
        let unasked = opinion_given(said(), 0, 0);
        assert_eq!(ledger.apply_entry(1, AT, &unasked), None, "nobody was asked");
        let mut sum = CostTotals::default();
        for (given, charge, cost_micros) in [
            (opinion_given(said(), 9, 42), ChargeBasis::Report, 42),
            (opinion_given(said(), 0, 0), ChargeBasis::Nothing, 0),
            (opinion_given(None, 0, 210), ChargeBasis::Reservation, 210),
        ] {
            assert_eq!(ledger.apply_entry(2, AT, &opinion_called()), None);
            let ended = ledger.apply_entry(3, AT, &given).expect("it ends what began");
            assert_eq!((ended.seq, ended.calls, ended.model.as_str()), (2, 3, "second"));
            assert_eq!((ended.charge, ended.cost_micros, ended.reserved_micros), (charge, cost_micros, 210));
            assert_eq!(ended.opinion_of, Some(CallId { step: 1, index: 0 }));
            sum.add(CostTotals::from(&ended));
        }
        assert_eq!(
            sum,
            CostTotals {
                model_calls: 9,
                input_tokens: 9,
                output_tokens: 0,
                cost_micros: 252,
                unpriced_calls: 0
            }
        );
    }

    #[test]
    fn an_attempt_costs_its_report_its_reservation_or_nothing() {
        let mut ledger = CostLedger::default();
        let mut ended = Vec::new();
        for (seq, entry) in (1..).zip([
            called(1),
            failed(1, ErrorCode::ModelUnavailable, 0),
            called(2),
            failed(2, ErrorCode::OutcomeUnknown, 70),
            called(3),
            replied(3, 42),
            called(4),
        ]) {
            ended.extend(ledger.apply_entry(seq, AT, &entry));
        }
        let told: Vec<_> = ended.iter().map(|a| (a.seq, a.attempt, a.charge, a.cost_micros)).collect();
        assert_eq!(
            told,
            [
                (1, 1, ChargeBasis::Nothing, 0),
                (3, 2, ChargeBasis::Reservation, 70),
                (5, 3, ChargeBasis::Report, 42)
            ]
        );
        assert!(ended.iter().all(|attempt| attempt.model == "small" && attempt.reserved_micros == 70));
        let open = ledger.open_attempt().expect("the fourth is open");
        assert_eq!((open.seq, open.charge, open.cost_micros), (7, ChargeBasis::Open, 0));
    }

    #[test]
    fn an_answer_without_its_start_is_charged_too() {
        let mut ledger = CostLedger::default();
        let ended =
            ledger.apply_entry(4, AT, &failed(2, ErrorCode::ModelCut, 9)).expect("it ends an attempt");
        assert_eq!((ended.seq, ended.model.as_str(), ended.cost_micros), (4, "", 9));
    }
}
