//! The live stream to watchers while an attempt or a call goes on: its text, with stars over secrets.
//!
//! A value may come in pieces, so a possible beginning of one is buffered ([`RedactionBuffer`]) until more is known,
//! and sent at the end at the latest. Without a scanner nothing is sent; the entry is authoritative.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dromia_contracts::model::DeltaSink;
use dromia_contracts::runs::LiveEvent;
use dromia_contracts::tool::{CallProgressSink, LIVE_PIECE_BYTES_MAX};
use dromia_contracts::vault::SecretScanner;
use dromia_contracts::{BoxFuture, CallId, RunId};

use crate::core::EngineCore;
use crate::live_redaction::RedactionBuffer;
use crate::scheduler::TaskSlot;

/// The most pieces of live output that are buffered; beyond them the newest are dropped.
const PIECES_HELD_MAX: usize = 256;

/// Passes live text of a model attempt on to watchers.
pub(super) struct LiveDeltas<'a> {
    core: &'a EngineCore,
    run: RunId,
    step: u32,
    attempt: u32,
    told: Option<Mutex<DeltaBuffer>>,
    begun: AtomicBool,
}

struct DeltaBuffer {
    held: RedactionBuffer,
    /// Bytes that were sent.
    offset: u64,
}

impl<'a> LiveDeltas<'a> {
    /// Begins; without a secret scanner nothing is sent.
    pub(super) fn new(
        core: &'a EngineCore,
        run: RunId,
        (step, attempt): (u32, u32),
        spotter: Option<Arc<dyn SecretScanner>>,
    ) -> Self {
        let told =
            spotter.map(|spotter| Mutex::new(DeltaBuffer { held: RedactionBuffer::new(spotter), offset: 0 }));
        Self { core, run, step, attempt, told, begun: AtomicBool::new(false) }
    }

    /// Tells whether text of the answer came.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Sends the buffered text.
    pub(super) fn flush_held(&self) {
        if self.core.hub.is_watched(self.run) {
            self.publish_text(RedactionBuffer::flush_redacted);
        }
    }

    fn publish_text(&self, more: impl FnOnce(&mut RedactionBuffer) -> String) {
        let Some(told) = &self.told else { return };
        // The buffer is consistent between two calls, even after a panic.
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let text = more(&mut told.held);
        if text.is_empty() {
            return;
        }
        let offset = told.offset;
        told.offset += text.len() as u64;
        let (step, attempt) = (self.step, self.attempt);
        self.core.hub.publish(self.run, || LiveEvent::Delta { step, attempt, offset, text });
    }
}

impl DeltaSink for LiveDeltas<'_> {
    fn push_delta(&self, text: &str) {
        self.begun.store(true, Ordering::Relaxed);
        if self.core.hub.is_watched(self.run) {
            self.publish_text(|held| held.push(text));
        } else if let Some(told) = &self.told {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = told.held.push_unwatched(text);
            told.offset += gone as u64;
        }
    }
}

/// Passes the live output of a call on to watchers, each piece as it came or not yet. A piece beyond the port's bound is
/// dropped: each one may wait for every slow watcher of the run.
pub(super) struct LivePieces<'a> {
    core: &'a Arc<EngineCore>,
    slot: &'a TaskSlot,
    run: RunId,
    call: CallId,
    waiting: Option<Mutex<PieceBuffer>>,
}

struct PieceBuffer {
    held: RedactionBuffer,
    /// Offset, bytes and length of the text of each piece that was not sent yet.
    pieces: VecDeque<(u64, u64, usize)>,
    /// Their text, as far as it may be sent.
    text: String,
}

impl<'a> LivePieces<'a> {
    /// Begins; without a secret scanner nothing is sent.
    pub(super) fn new(
        core: &'a Arc<EngineCore>,
        slot: &'a TaskSlot,
        (run, call): (RunId, CallId),
        spotter: Option<Arc<dyn SecretScanner>>,
    ) -> Self {
        let waiting = |spotter| PieceBuffer {
            held: RedactionBuffer::new(spotter),
            pieces: VecDeque::new(),
            text: String::new(),
        };
        Self { core, slot, run, call, waiting: spotter.map(|spotter| Mutex::new(waiting(spotter))) }
    }

    /// Sends the buffered text.
    pub(super) fn flush_held(&self) {
        self.publish_pieces(|waiting| {
            let text = waiting.held.flush_redacted();
            waiting.text.push_str(&text);
        });
    }

    fn publish_pieces(&self, more: impl FnOnce(&mut PieceBuffer)) {
        let Some(waiting) = &self.waiting else { return };
        // The buffer is consistent between two calls, even after a panic.
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        more(&mut waiting);
        while let Some((offset, bytes, length)) = waiting.pieces.front().copied() {
            if waiting.text.len() < length {
                return;
            }
            waiting.pieces.pop_front();
            let rest = waiting.text.split_off(length);
            let (call, text) = (self.call, std::mem::replace(&mut waiting.text, rest));
            self.core.hub.publish(self.run, || LiveEvent::Output { call, offset, bytes, text });
        }
    }
}

impl CallProgressSink for LivePieces<'_> {
    fn push_piece(&self, offset: u64, bytes: u64, text: &str) {
        if text.len() > LIVE_PIECE_BYTES_MAX {
            return;
        }
        self.publish_pieces(|waiting| {
            if waiting.pieces.len() < PIECES_HELD_MAX {
                waiting.pieces.push_back((offset, bytes, text.len()));
                let told = waiting.held.push(text);
                waiting.text.push_str(&told);
            }
        });
    }

    fn note_waiting(&self) {
        self.slot.pause();
        self.core.dispatch_ready();
    }

    fn goes_on(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.slot.resume(|| self.core.dispatch_ready()))
    }
}
