//! Repetition detection: how often a call was made already, and the texts about it for the model and the readers of a
//! run.
//!
//! A call is known by its action, its tool and its arguments: a result that differs by a number each time makes it no
//! other call. Once it was made too often it is refused, which notifies the model; a run whose model goes on to repeat
//! it yields. `decide` does both.
//!
//! Other calls that are made once in between count as progress: a model that tests after each change repeats the test
//! and not the change. Then only repeated equal results count.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::CallSignature;

/// The rule by which a call is refused that was made too often.
pub(crate) const RULE: &str = "loop";

/// In how many steps a model gets a notice that it repeats a call before its run yields.
pub(crate) const TOLD_MAX: u32 = 3;

/// In how many steps the model got a notice that it repeats a call, since its last new call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RepetitionNotices {
    told: u32,
    step: u32,
}

impl RepetitionNotices {
    /// Returns whether the model never got a notice.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Notes a refusal; all of one step count as one notice.
    pub(super) fn note_refusal(&mut self, step: u32) {
        if self.step != step {
            *self = Self { told: self.told.saturating_add(1), step };
        }
    }

    /// Returns in how many steps the model got a notice, if these are enough to yield.
    pub(super) fn is_closed(self) -> Option<u32> {
        (self.told >= TOLD_MAX).then_some(self.told)
    }
}

/// Counts how often a call was made among the last ones: with nothing new in between, or with the result that it had last.
pub(super) fn count_repeats(recent: &VecDeque<CallSignature>, call: &CallSignature, window: usize) -> usize {
    let looked: Vec<_> = recent.iter().rev().take(window).collect();
    let same_result = looked.iter().filter(|known| **known == call).count();
    let is_progress = |one: &CallSignature| {
        one.action != call.action && looked.iter().filter(|known| known.action == one.action).count() == 1
    };
    let since = looked.iter().take_while(|one| !is_progress(one));
    same_result.max(since.filter(|one| one.action == call.action).count())
}

/// The result that the model gets for a call that was made too often.
pub(crate) fn repetition_refusal(times: usize) -> String {
    format!(
        "Nothing ran: the identical call was already made {times} times, and another one brings nothing new. \
         If the task is done, answer; else do something else."
    )
}

#[cfg(test)]
mod tests {
    use dromia_contracts::Digest;

    use super::*;

    /// Calls by a letter, each with its result.
    fn recent(calls: &[(u8, u8)]) -> VecDeque<CallSignature> {
        calls.iter().map(|(action, result)| signature(*action, *result)).collect()
    }

    fn signature(action: u8, result: u8) -> CallSignature {
        CallSignature { action: Digest::from_bytes([action; 32]), result: Digest::from_bytes([result; 32]) }
    }

    /// Compares a way to count with how often a call counts as made.
    fn check_times(
        times: impl Fn(&VecDeque<CallSignature>, &CallSignature, usize) -> usize,
    ) -> Result<(), String> {
        let appends: Vec<_> = (0..9).map(|number| (b'a', number)).collect();
        let in_turn: Vec<_> =
            (0..8).map(|number| (if number % 2 == 0 { b'a' } else { b'r' }, number)).collect();
        let tests: Vec<_> = (0..8).flat_map(|number| [(number, 1), (b't', 100 + number)]).collect();
        let failing: Vec<_> = (0..8).flat_map(|number| [(number, 1), (b't', 100)]).collect();
        for (calls, call, window, expected, what) in [
            (&appends, (b'a', 8), 24, 9, "each result differs by a number"),
            (&appends, (b'a', 8), 4, 4, "only the last ones are looked at"),
            (&in_turn, (b'a', 6), 24, 4, "append and read in turn"),
            (&tests, (b't', 107), 24, 1, "a test after each change"),
            (&failing, (b't', 100), 24, 8, "which always gives the same"),
        ] {
            let found = times(&recent(calls), &signature(call.0, call.1), window);
            if found != expected {
                return Err(format!("{found} times: {what}"));
            }
        }
        Ok(())
    }

    #[test]
    fn equal_calls_count_as_repeats_unless_something_new_happens_between() {
        assert_eq!(check_times(count_repeats), Ok(()));
    }

    /// Planted fault: a call whose result differs by a number is another one, as it once was.
    #[test]
    fn a_circle_that_is_known_by_its_results_is_caught() {
        let by_result = |recent: &VecDeque<CallSignature>, call: &CallSignature, window: usize| {
            recent.iter().rev().take(window).filter(|known| *known == call).count()
        };
        let found = check_times(by_result).expect_err("nothing notices it");
        assert!(found.contains("differs by a number"), "{found}");
    }

    /// Planted fault: a test after each change counts as a repetition.
    #[test]
    fn progress_that_counts_as_a_circle_is_caught() {
        let by_action = |recent: &VecDeque<CallSignature>, call: &CallSignature, window: usize| {
            recent.iter().rev().take(window).filter(|known| known.action == call.action).count()
        };
        let found = check_times(by_action).expect_err("nothing notices it");
        assert!(found.contains("a test after each change"), "{found}");
    }

    /// Refuses repeated calls of three steps, several in each, and says after how many refusals the run yields.
    fn refusals_until_closed(tell: impl Fn(&mut RepetitionNotices, u32)) -> Option<usize> {
        let mut circle = RepetitionNotices::default();
        let steps = [4, 4, 4, 5, 5, 6];
        (0..steps.len()).find(|number| {
            tell(&mut circle, steps[*number]);
            circle.is_closed() == Some(TOLD_MAX)
        })
    }

    #[test]
    fn all_refusals_of_one_step_are_one_word() {
        assert_eq!(refusals_until_closed(RepetitionNotices::note_refusal), Some(5));
    }

    /// Planted fault: each refusal of one step counts, so a run ends though its model never heard of it.
    #[test]
    fn refusals_that_count_one_by_one_are_caught() {
        let one_by_one = |circle: &mut RepetitionNotices, step: u32| {
            *circle = RepetitionNotices { told: circle.told.saturating_add(1), step };
        };
        assert_ne!(refusals_until_closed(one_by_one), Some(5), "nothing notices it");
    }
}
