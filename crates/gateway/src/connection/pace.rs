//! Whose turn it is on one HTTP/2 stream: ours to say something, or the reader's to take it.
//!
//! On HTTP/1 a reader that takes nothing stalls the connection, and the deadline of its writes sees that. On HTTP/2
//! each stream has a window of its own, so one of them can stall while the connection goes on. A body is asked for its
//! next piece only when the previous one has gone out; the time since a piece was given is therefore the reader's.
//!
//! Long pieces are given in short ones, so no more than a short one waits beyond the window that the reader opened.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

/// The most bytes that are given at once.
const PIECE_BYTES_MAX: usize = 16 << 10;

tokio::task_local! {
    static TURN: Arc<ReaderTurn>;
}

/// Since when it is the reader's turn, if it is.
#[derive(Debug, Default)]
pub(super) struct ReaderTurn(Mutex<Option<Instant>>);

impl ReaderTurn {
    /// The turn of the stream whose task this is.
    pub(super) fn of_this_stream() -> Arc<Self> {
        TURN.try_with(Arc::clone).unwrap_or_default()
    }

    /// Carries a stream; whatever it does finds this turn.
    pub(super) async fn carry_stream(self: Arc<Self>, stream: impl Future<Output = ()>) {
        TURN.scope(self, stream).await;
    }

    /// Waits until the reader has taken nothing for so long; it may take twice as long to see that.
    pub(super) async fn wait_stalled(&self, limit: Duration) {
        loop {
            sleep_until(self.turn_began().unwrap_or_else(Instant::now) + limit).await;
            if self.turn_began().is_some_and(|since| since.elapsed() >= limit) {
                return;
            }
        }
    }

    fn turn_began(&self) -> Option<Instant> {
        *self.lock()
    }

    fn take_back(&self) {
        *self.lock() = None;
    }

    fn hand_over(&self) {
        *self.lock() = Some(Instant::now());
    }

    // A panic under the lock cannot leave an instant half-written, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that notes whose turn it is.
#[derive(Debug)]
pub(super) struct PacedBody {
    body: Body,
    /// What was taken from the body and not given yet.
    rest: Bytes,
    turn: Arc<ReaderTurn>,
}

impl PacedBody {
    pub(super) fn new(body: Body, turn: Arc<ReaderTurn>) -> Self {
        Self { body, rest: Bytes::new(), turn }
    }
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.turn.take_back();
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let bytes = self.rest.len().min(PIECE_BYTES_MAX);
        let piece = self.rest.split_to(bytes);
        self.turn.hand_over();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_long_body_is_given_in_short_pieces_and_whole() {
        let text: Vec<u8> = (0..100_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
        let mut paced = PacedBody::new(Body::from(text.clone()), Arc::default());
        assert_eq!(paced.size_hint().exact(), Some(100_000));
        let mut read = Vec::new();
        while let Some(frame) = paced.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE_BYTES_MAX);
            read.extend_from_slice(&piece);
            assert_eq!(paced.size_hint().exact(), Some((text.len() - read.len()) as u64));
        }
        assert_eq!(read, text);
        assert!(paced.is_end_stream());
        assert!(PacedBody::new(Body::empty(), Arc::default()).is_end_stream());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_reader_that_takes_nothing_counts_as_stalled() {
        let limit = Duration::from_secs(5);
        let turn = Arc::new(ReaderTurn::default());
        let (text, pieces) = tokio::sync::mpsc::unbounded_channel::<Result<Bytes, std::io::Error>>();
        let pieces = futures_util::stream::unfold(pieces, |mut pieces| async move {
            let piece = pieces.recv().await?;
            Some((piece, pieces))
        });
        let mut paced = PacedBody::new(Body::from_stream(pieces), turn.clone());
        let quiet = tokio::time::timeout(Duration::from_mins(1), turn.wait_stalled(limit)).await;
        assert!(quiet.is_err(), "nothing was said yet");
        text.send(Ok(Bytes::from_static(b"a"))).unwrap();
        assert!(paced.frame().await.is_some());
        let began = Instant::now();
        turn.wait_stalled(limit).await;
        assert!(began.elapsed() <= 2 * limit);
        let waiting = tokio::time::timeout(Duration::from_mins(1), paced.frame()).await;
        assert!(waiting.is_err(), "nothing more was said");
        let ours = tokio::time::timeout(Duration::from_mins(1), turn.wait_stalled(limit)).await;
        assert!(ours.is_err(), "it is our turn");
    }
}
