//! A second opinion about a call that cannot be undone: what a second model said of it, and how its answers are counted.
//!
//! A model is asked several times and answers with one word, [`GO`] or [`STOP`]. Whatever else it says, and whatever it
//! does not say in time, is neither, so it helps no call. How far the answers differ is what their count tells: a model that
//! is sure says the same each time.
//!
//! It is a help and no wall: a model is asked, and a model can be talked into much. Nothing here asks anybody or says what
//! becomes of a call.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Finish, ModelReply};

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
pub enum Word {
    /// [`GO`].
    Go,
    /// [`STOP`].
    Stop,
    /// Neither, or there is no answer.
    Neither,
}

impl Word {
    /// Reads an answer. It is one word and ended by itself, without a call; capital letters and the space around it do not
    /// count.
    pub fn of(reply: &ModelReply) -> Self {
        if reply.finish != Finish::Stop || !reply.calls.is_empty() {
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
pub struct Opinion {
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

impl Opinion {
    /// Counts the answers of a model that was asked so many times. One that is missing says neither; there are none too many.
    pub fn count(model: &str, samples: u32, agree: u32, words: impl IntoIterator<Item = Word>) -> Self {
        let mut opinion = Self { model: model.to_owned(), go: 0, stop: 0, neither: 0, agree, problem: None };
        for word in words.into_iter().take(usize::try_from(samples).unwrap_or(usize::MAX)) {
            match word {
                Word::Go => opinion.go += 1,
                Word::Stop => opinion.stop += 1,
                Word::Neither => {}
            }
        }
        // What is missing says as little as what says neither.
        opinion.neither = samples.saturating_sub(opinion.go).saturating_sub(opinion.stop);
        opinion
    }

    /// The opinion of a model that should have been asked so many times, and could not be.
    pub fn unasked(model: &str, samples: u32, agree: u32, problem: &str) -> Self {
        Self::count(model, samples, agree, []).with_problem(problem)
    }

    /// Keeps what went wrong, cut to [`PROBLEM_CHARS_MAX`].
    #[must_use]
    pub fn with_problem(self, problem: &str) -> Self {
        Self { problem: Some(problem.chars().take(PROBLEM_CHARS_MAX).collect()), ..self }
    }

    /// How many times the model was to be asked.
    pub fn samples(&self) -> u32 {
        self.go.saturating_add(self.stop).saturating_add(self.neither)
    }

    /// Tells whether it has nothing against the call: enough answers say so, and more than half of all.
    pub fn agrees(&self) -> bool {
        self.go >= self.agree && self.go > self.samples() / 2
    }

    /// Says it in words.
    pub fn text(&self) -> String {
        let Self { model, go, stop, neither, agree, problem } = self;
        let problem = problem.as_deref().map(|problem| format!(": {problem}")).unwrap_or_default();
        format!(
            "{model} was asked {} times: {go} go, {stop} stop, {neither} neither; {agree} go are needed{problem}",
            self.samples()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProposedCall, Usage, UsageDetail};

    const WORDS: [Word; 3] = [Word::Go, Word::Stop, Word::Neither];

    fn reply(text: &str) -> ModelReply {
        ModelReply {
            text: text.to_owned(),
            calls: Vec::new(),
            usage: Usage::default(),
            detail: UsageDetail::default(),
            cost_micros: 0,
            finish: Finish::Stop,
            stopped_at: None,
        }
    }

    /// Every sequence of so many answers.
    fn sequences(length: u32) -> Vec<Vec<Word>> {
        let longer = |all: Vec<Vec<Word>>| -> Vec<Vec<Word>> {
            let with = |known: &Vec<Word>, word: Word| [known.as_slice(), &[word]].concat();
            all.iter().flat_map(|known| WORDS.map(|word| with(known, word))).collect()
        };
        (0..length).fold(vec![Vec::new()], |all, _| longer(all))
    }

    #[test]
    fn an_answer_is_one_word_or_says_neither() {
        for (text, word) in [
            ("go", Word::Go),
            (" GO\n", Word::Go),
            ("stop", Word::Stop),
            ("\tStop", Word::Stop),
            ("", Word::Neither),
            ("go.", Word::Neither),
            ("go go", Word::Neither),
            ("go, but stop", Word::Neither),
            ("\"go\"", Word::Neither),
            ("let it go", Word::Neither),
            ("gо", Word::Neither),
            ("I have no objection", Word::Neither),
        ] {
            assert_eq!(Word::of(&reply(text)), word, "{text:?}");
        }
        let cut = ModelReply { finish: Finish::Length, ..reply("go") };
        assert_eq!(Word::of(&cut), Word::Neither, "nobody knows how it goes on");
        let call = ProposedCall { tool: "go".into(), arguments: "{}".into() };
        let calls = ModelReply { calls: vec![call], finish: Finish::ToolCalls, ..reply("go") };
        assert_eq!(Word::of(&calls), Word::Neither);
        let calls = ModelReply { finish: Finish::Stop, ..calls };
        assert_eq!(Word::of(&calls), Word::Neither);
    }

    #[test]
    fn answers_are_counted_whatever_their_order() {
        for samples in 1..=SAMPLES_MAX {
            for words in sequences(samples) {
                for agree in 1..=samples {
                    let of = |words: &[Word]| Opinion::count("m", samples, agree, words.iter().copied());
                    let opinion = of(&words);
                    let go = words.iter().filter(|word| **word == Word::Go).count();
                    let enough = go >= agree as usize && 2 * go > samples as usize;
                    assert_eq!(opinion.agrees(), enough, "{words:?}, {agree} needed");
                    assert_eq!(opinion.samples(), samples);
                    let turned: Vec<Word> = words.iter().rev().copied().collect();
                    assert_eq!(of(&turned), opinion);
                }
            }
        }
    }

    #[test]
    fn a_tie_silence_and_an_answer_too_many_help_no_call() {
        let tie = Opinion::count("m", 2, 1, [Word::Go, Word::Stop]);
        assert!(!tie.agrees(), "a half is not more than a half, whatever is needed");
        let silent = Opinion::count("m", 3, 2, [Word::Go]);
        assert_eq!((silent.go, silent.neither, silent.agrees()), (1, 2, false));
        let many = Opinion::count("m", 1, 1, [Word::Stop, Word::Go, Word::Go]);
        assert_eq!((many.go, many.stop, many.agrees()), (0, 1, false));
        assert!(!Opinion::count("m", 0, 0, []).agrees(), "nobody was asked");
        let unasked = Opinion::unasked("m", 3, 1, &"ä".repeat(1000));
        assert!(!unasked.agrees() && unasked.samples() == 3);
        assert_eq!(unasked.problem.map(|problem| problem.chars().count()), Some(PROBLEM_CHARS_MAX));
    }

    #[test]
    fn an_opinion_comes_back_as_it_was_written() {
        let plain = Opinion::count("small", 3, 2, [Word::Go, Word::Go, Word::Stop]);
        let written = serde_json::to_string(&plain).expect("it is data");
        assert_eq!(written, r#"{"model":"small","go":2,"stop":1,"neither":0,"agree":2}"#);
        for opinion in [plain.clone(), plain.with_problem("no answer")] {
            let written = serde_json::to_string(&opinion).expect("it is data");
            assert_eq!(serde_json::from_str::<Opinion>(&written).expect("it was just written"), opinion);
        }
    }
}
