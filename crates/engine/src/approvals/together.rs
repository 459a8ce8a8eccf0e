//! Several approvals of one run that are answered by one request: all of them, or none, each by its own id.
//!
//! So a person allows only calls that the request names: no rule comes with them, and an approval of another run or
//! tenant fails the whole request by its id.

use dromia_contracts::approval::{ALSO_MAX, ApprovalRequest};
use dromia_contracts::runs::{ApprovalDecision, ApprovalReach};
use dromia_contracts::{ApprovalId, ErrorCode, Fault, Scope};

use super::{ApprovalAnswers, WakeTarget};
use crate::agents::read_fault;

/// The most bytes of the arguments of calls that are answered together: what a batch can carry of them in sessions of their own.
const TOGETHER_BYTES_MAX: usize = 384 << 10;

impl ApprovalAnswers<'_> {
    /// Reads the approvals that are answered with another one. One that is of another run, is not there, or is another
    /// tenant's, is named.
    pub(super) async fn read_batch_approvals(
        &self,
        scope: &Scope,
        first: &ApprovalRequest,
        also: &[ApprovalId],
    ) -> Result<Vec<ApprovalRequest>, Fault> {
        let mut others = Vec::with_capacity(also.len());
        for id in also {
            let found = self.core.ports.store.approval(scope, *id).await.map_err(read_fault)?;
            let found = found.ok_or_else(|| {
                let text = format!("`also` names {id}, but there is no such approval; no answer was stored");
                Fault::new(ErrorCode::InvalidRequest, text)
                    .with_hint("list the approvals with `dromia approval list`")
            })?;
            if found.source.run != first.source.run {
                let text = format!(
                    "`also` names {id}, which belongs to {}, but {} belongs to {}; no answer was stored",
                    found.source.run, first.id, first.source.run
                );
                return Err(Fault::new(ErrorCode::InvalidRequest, text)
                    .with_hint("answer the approvals of each run with a separate request"));
            }
            others.push(found);
        }
        let bytes: usize =
            std::iter::once(first).chain(&others).map(|asked| asked.judged.arguments.len()).sum();
        if !others.is_empty() && bytes > TOGETHER_BYTES_MAX {
            let text =
                format!("the calls have {bytes} bytes of arguments in all, more than {TOGETHER_BYTES_MAX}");
            return Err(Fault::new(ErrorCode::InvalidRequest, text).with_hint("answer fewer of them at once"));
        }
        Ok(others)
    }
}

/// Refuses to answer approvals together that are too many or named twice, or with a rule: a rule answers calls that the
/// person has not seen.
pub(super) fn check_also(
    id: ApprovalId,
    also: &[ApprovalId],
    answer: &ApprovalDecision,
) -> Result<(), Fault> {
    let invalid = |text: String| Err(Fault::new(ErrorCode::InvalidRequest, text));
    if also.len() > ALSO_MAX {
        return invalid(format!("`also` may name at most {ALSO_MAX} approvals, not {}", also.len()));
    }
    let is_twice = |(place, named): &(usize, &ApprovalId)| **named == id || also[..*place].contains(named);
    if let Some((_, twice)) = also.iter().enumerate().find(is_twice) {
        return invalid(format!("`also` names {twice}, which this request already answers"));
    }
    if !also.is_empty() && matches!(answer, ApprovalDecision::Approve(ApprovalReach::Always { .. })) {
        return invalid(
            "`also` excludes a rule, because a rule would also answer calls that no person has seen"
                .to_owned(),
        );
    }
    Ok(())
}

/// Lists the wake targets, each once: a waiting run reads the answers to several of its calls together.
pub(super) fn distinct_targets(nexts: &[WakeTarget]) -> Vec<WakeTarget> {
    let mut each = Vec::with_capacity(nexts.len());
    for next in nexts {
        if !each.contains(next) {
            each.push(*next);
        }
    }
    each
}

#[cfg(test)]
mod tests {
    use dromia_contracts::{RunId, SessionId};

    use super::*;

    #[test]
    fn a_target_of_several_answers_is_woken_once() {
        let run = |number| WakeTarget::Run(RunId::from_bytes([number; 16]));
        let session = |number| WakeTarget::Session(SessionId::from_bytes([number; 16]));
        assert_eq!(distinct_targets(&[run(1), run(1), run(1)]), [run(1)]);
        assert_eq!(
            distinct_targets(&[session(1), run(1), session(2), run(1), session(1)]),
            [session(1), run(1), session(2)],
            "calls that run by themselves have a session each"
        );
        assert!(distinct_targets(&[]).is_empty());
    }
}
