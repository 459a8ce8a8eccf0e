//! An append to a journal: what it charges, which approvals it moves, and the session that its end frees.

use dromia_contracts::entry::{Entry, InputsTaken};
use dromia_contracts::id::{RunId, SessionId};
use dromia_contracts::store::{CommitRefusal, FoldedState, NewEntry, RunAppend};

use super::budget::ChargedRun;
use super::{BatchDraft, Checked};

impl<'b> BatchDraft<'b> {
    pub(super) fn append_to_run(&mut self, append: &'b RunAppend) -> Checked {
        let db = self.db;
        let Some(last) = append.entries.last() else {
            return Err(CommitRefusal::Malformed("an append has at least one entry".into()).into());
        };
        if append.checkpoint.as_ref().is_some_and(|folded| folded.bytes.len() > FoldedState::BYTES_MAX) {
            let text = format!("a checkpoint has at most {} bytes", FoldedState::BYTES_MAX);
            return Err(CommitRefusal::Malformed(text).into());
        }
        let Some(before) = self.runs.check_append(db, append)? else {
            let session = self.runs.find_run(db, append.run)?.session;
            return self.note_waiting(append, session);
        };
        let payer = self.batch.payer.as_ref();
        self.budgets.charge_entries(db, payer, &ChargedRun::from_run(&before), &append.entries)?;
        if payer.is_some() {
            self.approvals.apply_entries(db, append.run, &append.entries)?;
        }
        self.runs.append_entries(db, append, last.at)?;
        self.take_inputs(append.run, before.session, &append.entries)?;
        if append.head.status.is_terminal() {
            let session = self.sessions.find_session(db, before.session)?;
            if session.head.active == Some(append.run) {
                session.head.active = None;
                session.changed = true;
            }
            if before.kind.is_child() {
                session.child_run = Some((append.run, false));
                session.changed = true;
            }
        }
        self.note_waiting(append, before.session)
    }

    /// Gives a running turn the inputs of its session that its entries say it took.
    pub(super) fn take_inputs(&mut self, run: RunId, session: SessionId, entries: &[NewEntry]) -> Checked {
        for new in entries {
            let Entry::InputsTaken(InputsTaken { items, after }) = &new.entry else { continue };
            let head = self.sessions.find_session(self.db, session)?.head;
            let mut in_order = head.active == Some(run) && head.taken == *after && !items.is_empty();
            for (position, item) in (after + 1..).zip(items) {
                in_order = in_order && self.inbox.item_at(self.db, session, position)? == Some(*item);
            }
            if !in_order {
                let text = format!("the inputs that {run} takes are not the next ones of {session}");
                return Err(CommitRefusal::Malformed(text).into());
            }
            let upto = self.inbox.take_items(session, run, *after, items.len());
            let draft = self.sessions.find_session(self.db, session)?;
            draft.head.taken = upto;
            draft.changed = true;
        }
        Ok(())
    }

    /// Notes in the receipt whether the session that a terminal head freed has waiting items.
    fn note_waiting(&mut self, append: &RunAppend, session: SessionId) -> Checked {
        if append.head.status.is_terminal() {
            let head = self.sessions.find_session(self.db, session)?.head;
            self.receipt.waiting |= head.active.is_none() && head.last > head.taken;
        }
        Ok(())
    }
}
