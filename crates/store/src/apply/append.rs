//! An append to a journal: what it charges, which approvals it moves, and the session that its end frees.

use dromia_contracts::id::SessionId;
use dromia_contracts::store::{CommitRefusal, RunAppend};

use super::budget::ChargedRun;
use super::{BatchDraft, Checked};

impl<'b> BatchDraft<'b> {
    pub(super) fn append_to_run(&mut self, append: &'b RunAppend) -> Checked {
        let db = self.db;
        let Some(last) = append.entries.last() else {
            return Err(CommitRefusal::Malformed("an append has at least one entry".into()).into());
        };
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
        if append.head.status.is_terminal() {
            let session = self.sessions.find_session(db, before.session)?;
            if session.head.active == Some(append.run) {
                session.head.active = None;
                session.changed = true;
            }
        }
        self.note_waiting(append, before.session)
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
