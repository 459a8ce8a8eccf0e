//! A second opinion about a call that cannot be undone: what a second model said of it, and how its answers are counted.
//!
//! A model is asked several times and answers with one word, [`GO`] or [`STOP`]. Any other answer, or none in time, is
//! neither, so it helps no call. The counts show how far the answers differ: a model that is sure says the same each
//! time.
//!
//! It is advice and no security boundary: a model is asked, and a model can be talked into much. This module asks no
//! model and does not say what becomes of a call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{FinishReason, ModelReply};

/// The word of a model that has nothing against a call.
pub const GO: &str = "go";

/// The word of a model that would not let a call begin.
pub const STOP: &str = "stop";

/// The most times that a model is asked about one call.
pub const SAMPLES_MAX: u32 = 5;

/// The most characters that are kept of what went wrong.
pub const PROBLEM_CHARS_MAX: usize = 200;

/// What one answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpinionVote {
    /// [`GO`].
    Go,
    /// [`STOP`].
    Stop,
    /// Neither, or there is no answer.
    Neither,
}

impl OpinionVote {
    /// Reads an answer. It is one word and ended by itself, without a call; capital letters and the space around it do not
    /// count.
    pub fn from_reply(reply: &ModelReply) -> Self {
        if reply.finish != FinishReason::Stop || !reply.calls.is_empty() {
            return Self::Neither;
        }
        let text = reply.text.trim();
        if text.eq_ignore_ascii_case(GO) {
            Self::Go
        } else if text.eq_ignore_ascii_case(STOP) {
            Self::Stop
        } else {
            Self::Neither
        }
    }
}

/// What a second model said of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelOpinion {
    /// The alias of the model.
    pub model: String,
    /// How many answers have nothing against the call.
    pub go: u32,
    /// How many would not let it begin.
    pub stop: u32,
    /// How many say neither, or were not given.
    pub neither: u32,
    /// How many must have nothing against it.
    pub agree: u32,
    /// What went wrong first, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl ModelOpinion {
    /// Counts the answers of a model that was asked so many times. One that is missing says neither; there are none too many.
    pub fn count_votes(
        model: &str,
        samples: u32,
        agree: u32,
        words: impl IntoIterator<Item = OpinionVote>,
    ) -> Self {
        let mut opinion = Self { model: model.to_owned(), go: 0, stop: 0, neither: 0, agree, problem: None };
        for word in words.into_iter().take(usize::try_from(samples).unwrap_or(usize::MAX)) {
            match word {
                OpinionVote::Go => opinion.go += 1,
                OpinionVote::Stop => opinion.stop += 1,
                OpinionVote::Neither => {}
            }
        }
        // What is missing says as little as what says neither.
        opinion.neither = samples.saturating_sub(opinion.go).saturating_sub(opinion.stop);
        opinion
    }

    /// The opinion of a model that should have been asked so many times, and could not be.
    pub fn without_answers(model: &str, samples: u32, agree: u32, problem: &str) -> Self {
        Self::count_votes(model, samples, agree, []).with_problem(problem)
    }

    /// Keeps what went wrong, cut to [`PROBLEM_CHARS_MAX`].
    #[must_use]
    pub fn with_problem(self, problem: &str) -> Self {
        Self { problem: Some(problem.chars().take(PROBLEM_CHARS_MAX).collect()), ..self }
    }

    /// How many times the model was to be asked.
    pub fn sample_count(&self) -> u32 {
        self.go.saturating_add(self.stop).saturating_add(self.neither)
    }

    /// Returns whether it has nothing against the call: enough answers say so, and more than half of all.
    pub fn agrees(&self) -> bool {
        self.go >= self.agree && self.go > self.sample_count() / 2
    }

    /// Says it in words.
    pub fn opinion_text(&self) -> String {
        let Self { model, go, stop, neither, agree, problem } = self;
        let problem = problem.as_deref().map(|problem| format!(": {problem}")).unwrap_or_default();
        format!(
            "{model} was asked {} times: {go} go, {stop} stop, {neither} neither; {agree} go are needed{problem}",
            self.sample_count()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProposedCall, TokenUsage, UsageDetail};

    const WORDS: [OpinionVote; 3] = [OpinionVote::Go, OpinionVote::Stop, OpinionVote::Neither];

    fn reply(text: &str) -> ModelReply {
        ModelReply {
            text: text.to_owned(),
            calls: Vec::new(),
            usage: TokenUsage::default(),
            detail: UsageDetail::default(),
            cost_micros: 0,
            finish: FinishReason::Stop,
            stopped_at: None,
        }
    }

    /// Every sequence of so many answers.
    fn sequences(length: u32) -> Vec<Vec<OpinionVote>> {
        let longer = |all: Vec<Vec<OpinionVote>>| -> Vec<Vec<OpinionVote>> {
            let with = |known: &Vec<OpinionVote>, word: OpinionVote| [known.as_slice(), &[word]].concat();
            all.iter().flat_map(|known| WORDS.map(|word| with(known, word))).collect()
        };
        (0..length).fold(vec![Vec::new()], |all, _| longer(all))
    }

    #[test]
    fn an_answer_is_one_word_or_says_neither() {
        for (text, word) in [
            ("go", OpinionVote::Go),
            (" GO\n", OpinionVote::Go),
            ("stop", OpinionVote::Stop),
            ("\tStop", OpinionVote::Stop),
            ("", OpinionVote::Neither),
            ("go.", OpinionVote::Neither),
            ("go go", OpinionVote::Neither),
            ("go, but stop", OpinionVote::Neither),
            ("\"go\"", OpinionVote::Neither),
            ("let it go", OpinionVote::Neither),
            ("gо", OpinionVote::Neither),
            ("I have no objection", OpinionVote::Neither),
        ] {
            assert_eq!(OpinionVote::from_reply(&reply(text)), word, "{text:?}");
        }
        let cut = ModelReply { finish: FinishReason::Length, ..reply("go") };
        assert_eq!(OpinionVote::from_reply(&cut), OpinionVote::Neither, "nobody knows how it goes on");
        let call = ProposedCall { tool: "go".into(), arguments: "{}".into() };
        let calls = ModelReply { calls: vec![call], finish: FinishReason::ToolCalls, ..reply("go") };
        assert_eq!(OpinionVote::from_reply(&calls), OpinionVote::Neither);
        let calls = ModelReply { finish: FinishReason::Stop, ..calls };
        assert_eq!(OpinionVote::from_reply(&calls), OpinionVote::Neither);
    }

    #[test]
    fn answers_are_counted_whatever_their_order() {
        for samples in 1..=SAMPLES_MAX {
            for words in sequences(samples) {
                for agree in 1..=samples {
                    let of = |words: &[OpinionVote]| {
                        ModelOpinion::count_votes("m", samples, agree, words.iter().copied())
                    };
                    let opinion = of(&words);
                    let go = words.iter().filter(|word| **word == OpinionVote::Go).count();
                    let enough = go >= agree as usize && 2 * go > samples as usize;
                    assert_eq!(opinion.agrees(), enough, "{words:?}, {agree} needed");
                    assert_eq!(opinion.sample_count(), samples);
                    let turned: Vec<OpinionVote> = words.iter().rev().copied().collect();
                    assert_eq!(of(&turned), opinion);
                }
            }
        }
    }

    #[test]
    fn ties_silence_and_surplus_answers_support_no_call() {
        let tie = ModelOpinion::count_votes("m", 2, 1, [OpinionVote::Go, OpinionVote::Stop]);
        assert!(!tie.agrees(), "a half is not more than a half, whatever is needed");
        let silent = ModelOpinion::count_votes("m", 3, 2, [OpinionVote::Go]);
        assert_eq!((silent.go, silent.neither, silent.agrees()), (1, 2, false));
        let many =
            ModelOpinion::count_votes("m", 1, 1, [OpinionVote::Stop, OpinionVote::Go, OpinionVote::Go]);
        assert_eq!((many.go, many.stop, many.agrees()), (0, 1, false));
        assert!(!ModelOpinion::count_votes("m", 0, 0, []).agrees(), "nobody was asked");
        let unasked = ModelOpinion::without_answers("m", 3, 1, &"ä".repeat(1000));
        assert!(!unasked.agrees() && unasked.sample_count() == 3);
        assert_eq!(unasked.problem.map(|problem| problem.chars().count()), Some(PROBLEM_CHARS_MAX));
    }

    #[test]
    fn an_opinion_comes_back_as_it_was_written() {
        let plain =
            ModelOpinion::count_votes("small", 3, 2, [OpinionVote::Go, OpinionVote::Go, OpinionVote::Stop]);
        let written = serde_json::to_string(&plain).expect("it is data");
        assert_eq!(written, r#"{"model":"small","go":2,"stop":1,"neither":0,"agree":2}"#);
        for opinion in [plain.clone(), plain.with_problem("no answer")] {
            let written = serde_json::to_string(&opinion).expect("it is data");
            assert_eq!(serde_json::from_str::<ModelOpinion>(&written).expect("it was just written"), opinion);
        }
    }
}
