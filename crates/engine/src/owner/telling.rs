//! What watchers are told while an attempt or a call goes on: its text, with stars over values of secrets.
//!
//! A value may come in pieces, so what may be the beginning of one is held back ([`Held`]) until more is known, and told at
//! the end at the latest. Where nobody can look for values, nothing is told; the entry is the truth.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use dromia_contracts::model::Deltas;
use dromia_contracts::runs::Live;
use dromia_contracts::tool::{LIVE_PIECE_BYTES_MAX, Pieces};
use dromia_contracts::vault::Spotter;
use dromia_contracts::{CallId, RunId};

use crate::core::Core;
use crate::held::Held;

/// The most pieces of live output that are held back; beyond them the newest are dropped.
const PIECES_HELD_MAX: usize = 256;

/// Passes live text of a model attempt on to watchers.
pub(super) struct LiveDeltas<'a> {
    core: &'a Core,
    run: RunId,
    step: u32,
    attempt: u32,
    told: Option<Mutex<Told>>,
}

struct Told {
    held: Held,
    /// Bytes that were told.
    offset: u64,
}

impl<'a> LiveDeltas<'a> {
    /// Begins; without somebody who knows the values nothing will be told.
    pub(super) fn new(
        core: &'a Core,
        run: RunId,
        (step, attempt): (u32, u32),
        spotter: Option<Arc<dyn Spotter>>,
    ) -> Self {
        let told = spotter.map(|spotter| Mutex::new(Told { held: Held::new(spotter), offset: 0 }));
        Self { core, run, step, attempt, told }
    }

    /// Tells what was held back.
    pub(super) fn end(&self) {
        self.tell(Held::end);
    }

    fn tell(&self, more: impl FnOnce(&mut Held) -> String) {
        let Some(told) = &self.told else { return };
        // What is held is whole between two calls, whatever panics.
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let text = more(&mut told.held);
        if text.is_empty() {
            return;
        }
        let offset = told.offset;
        told.offset += text.len() as u64;
        let (step, attempt) = (self.step, self.attempt);
        self.core.hub.publish(self.run, || Live::Delta { step, attempt, offset, text });
    }
}

impl Deltas for LiveDeltas<'_> {
    fn push(&self, text: &str) {
        self.tell(|held| held.push(text));
    }
}

/// Passes the live output of a call on to watchers, each piece as it came or not yet. A piece beyond the port's bound is
/// dropped: each one may wait for every slow watcher of the run.
pub(super) struct LivePieces<'a> {
    core: &'a Core,
    run: RunId,
    call: CallId,
    waiting: Option<Mutex<Waiting>>,
}

struct Waiting {
    held: Held,
    /// Offset, bytes and length of the text of each piece that was not told yet.
    pieces: VecDeque<(u64, u64, usize)>,
    /// Their text, as far as it may be told.
    text: String,
}

impl<'a> LivePieces<'a> {
    /// Begins; without somebody who knows the values nothing will be told.
    pub(super) fn new(core: &'a Core, run: RunId, call: CallId, spotter: Option<Arc<dyn Spotter>>) -> Self {
        let waiting =
            |spotter| Waiting { held: Held::new(spotter), pieces: VecDeque::new(), text: String::new() };
        Self { core, run, call, waiting: spotter.map(|spotter| Mutex::new(waiting(spotter))) }
    }

    /// Tells what was held back.
    pub(super) fn end(&self) {
        self.tell(|waiting| {
            let text = waiting.held.end();
            waiting.text.push_str(&text);
        });
    }

    fn tell(&self, more: impl FnOnce(&mut Waiting)) {
        let Some(waiting) = &self.waiting else { return };
        // What waits is whole between two calls, whatever panics.
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        more(&mut waiting);
        while let Some((offset, bytes, length)) = waiting.pieces.front().copied() {
            if waiting.text.len() < length {
                return;
            }
            waiting.pieces.pop_front();
            let rest = waiting.text.split_off(length);
            let (call, text) = (self.call, std::mem::replace(&mut waiting.text, rest));
            self.core.hub.publish(self.run, || Live::Output { call, offset, bytes, text });
        }
    }
}

impl Pieces for LivePieces<'_> {
    fn push(&self, offset: u64, bytes: u64, text: &str) {
        if text.len() > LIVE_PIECE_BYTES_MAX {
            return;
        }
        self.tell(|waiting| {
            if waiting.pieces.len() < PIECES_HELD_MAX {
                waiting.pieces.push_back((offset, bytes, text.len()));
                let told = waiting.held.push(text);
                waiting.text.push_str(&told);
            }
        });
    }
}
