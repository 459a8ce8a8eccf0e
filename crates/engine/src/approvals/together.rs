//! Several approvals of one run that are answered by one request: all of them, or none, each by its own id.
//!
//! So nobody allows what he has not seen: no rule goes with them, and one of another run, or of another tenant, is named and
//! nothing is answered.

use dromia_contracts::approval::{ALSO_MAX, Approval};
use dromia_contracts::runs::{Answer, Reach};
use dromia_contracts::{ApprovalId, ErrorCode, Fault, Scope};

use super::Next;
use crate::agents::read_fault;
use crate::core::Core;

/// The most bytes of the arguments of calls that are answered together: what a batch can carry of them in sessions of their own.
const TOGETHER_BYTES_MAX: usize = 384 << 10;

impl Core {
    /// Reads the approvals that are answered with another one. One that is of another run, is not there, or is another
    /// tenant's, is named.
    pub(super) async fn others(
        &self,
        scope: &Scope,
        first: &Approval,
        also: &[ApprovalId],
    ) -> Result<Vec<Approval>, Fault> {
        let mut others = Vec::with_capacity(also.len());
        for id in also {
            let found = self.ports.store.approval(scope, *id).await.map_err(read_fault)?;
            let found = found.ok_or_else(|| {
                let text = format!("`also` names {id}, and there is no such approval; nothing was answered");
                Fault::new(ErrorCode::InvalidRequest, text)
                    .with_hint("list the approvals with `dromia approval list`")
            })?;
            if found.run != first.run {
                let text = format!(
                    "`also` names {id}, which is of {}, and {} is of {}; nothing was answered",
                    found.run, first.id, first.run
                );
                return Err(Fault::new(ErrorCode::InvalidRequest, text)
                    .with_hint("answer the approvals of each run with a request of its own"));
            }
            others.push(found);
        }
        let bytes: usize = std::iter::once(first).chain(&others).map(|asked| asked.arguments.len()).sum();
        if !others.is_empty() && bytes > TOGETHER_BYTES_MAX {
            let text =
                format!("the calls have {bytes} bytes of arguments together, at most {TOGETHER_BYTES_MAX}");
            return Err(Fault::new(ErrorCode::InvalidRequest, text).with_hint("answer fewer of them at once"));
        }
        Ok(others)
    }
}

/// Refuses to answer approvals together that are too many or named twice, or with a rule: it answers calls that nobody saw.
pub(super) fn check_also(id: ApprovalId, also: &[ApprovalId], answer: &Answer) -> Result<(), Fault> {
    let invalid = |text: String| Err(Fault::new(ErrorCode::InvalidRequest, text));
    if also.len() > ALSO_MAX {
        return invalid(format!(
            "`also` names at most {ALSO_MAX} approvals, and here it names {}",
            also.len()
        ));
    }
    let is_twice = |(place, named): &(usize, &ApprovalId)| **named == id || also[..*place].contains(named);
    if let Some((_, twice)) = also.iter().enumerate().find(is_twice) {
        return invalid(format!("`also` names {twice}, which is answered already by this request"));
    }
    if !also.is_empty() && matches!(answer, Answer::Approve(Reach::Always { .. })) {
        return invalid("`also` goes with no rule: a rule answers calls that nobody saw".to_owned());
    }
    Ok(())
}

/// Lists who goes on, each once: the answers to several calls of a run that waits are one thing to look at.
pub(super) fn distinct(nexts: &[Next]) -> Vec<Next> {
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
    fn whoever_goes_on_by_several_answers_is_told_once() {
        let run = |number| Next::Run(RunId::from_bytes([number; 16]));
        let session = |number| Next::Session(SessionId::from_bytes([number; 16]));
        assert_eq!(distinct(&[run(1), run(1), run(1)]), [run(1)]);
        assert_eq!(
            distinct(&[session(1), run(1), session(2), run(1), session(1)]),
            [session(1), run(1), session(2)],
            "calls that run by themselves have a session each"
        );
        assert!(distinct(&[]).is_empty());
    }
}
