//! Refusals for overload wait before they are sent, so that clients that come again at once cannot spend the server on refusals.
//!
//! A client asks again when it has its answer. A refusal costs little, but thousands of clients that ignore `Retry-After` turn
//! refusals round and round. Each waits [`PAUSE_MIN`], and longer the more wait, so that no more than
//! [`REFUSALS_PER_SECOND`] leave; a client alone does not notice. What waits holds a connection or a stream of one, which have
//! bounds of their own, and no share of anything. Beyond [`WAITING_MAX`] a refusal goes out at once and an HTTP/1 connection is
//! closed behind it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Version};
use axum::response::Response;
use dromia_contracts::ErrorCode;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::failure::ApiError;

/// The shortest time that a refusal waits.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// How many refusals leave in a second at most.
const REFUSALS_PER_SECOND: u32 = 1_000;

/// The most refusals that wait; so many leave in the longest pause.
const WAITING_MAX: usize = 8_000;

/// Counts the refusals that wait.
#[derive(Debug, Default)]
pub(crate) struct RefusalPauses {
    waiting: AtomicUsize,
}

impl RefusalPauses {
    /// Has a refusal for overload wait; any other answer goes out at once, and so does everything while the server closes.
    pub(crate) async fn delay_refusal(
        &self,
        response: &mut Response,
        version: Version,
        closing: &CancellationToken,
    ) {
        let code = response.extensions().get::<ApiError>().map(ApiError::code);
        if !code.is_some_and(is_overload) || closing.is_cancelled() {
            return;
        }
        let waits = WaitingRefusal::begin_wait(self);
        match refusal_delay(waits.before) {
            Some(pause) => tokio::select! {
                () = sleep(pause) => {}
                () = closing.cancelled() => {}
            },
            None if version < Version::HTTP_2 => {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            None => {}
        }
    }
}

/// Tells whether a refusal says that there is too much to do, so that a client may try again at once.
const fn is_overload(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Overloaded | ErrorCode::RateLimited | ErrorCode::ActorRateLimited)
}

/// How long a refusal waits behind so many others; nothing where no more may wait.
fn refusal_delay(before: usize) -> Option<Duration> {
    if before >= WAITING_MAX {
        return None;
    }
    let turn = Duration::from_secs(1) * u32::try_from(before).unwrap_or(u32::MAX);
    Some((turn / REFUSALS_PER_SECOND).clamp(PAUSE_MIN, PAUSE_MAX))
}

/// A refusal that waits.
struct WaitingRefusal<'a> {
    pauses: &'a RefusalPauses,
    before: usize,
}

impl<'a> WaitingRefusal<'a> {
    fn begin_wait(pauses: &'a RefusalPauses) -> Self {
        Self { pauses, before: pauses.waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for WaitingRefusal<'_> {
    fn drop(&mut self) {
        self.pauses.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use axum::body::Body;
    use axum::response::IntoResponse as _;
    use tokio::time::Instant;

    use super::*;

    /// How many clients come again at once, and for how long.
    const CLIENTS: usize = 2_600;
    const SECONDS: u32 = 20;

    /// How many refusals a second leave where so many clients ask again as soon as they have one, by how each waits.
    async fn refused_per_second<F>(rest: impl Fn(Arc<RefusalPauses>) -> F) -> u32
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (pauses, count) = (Arc::new(RefusalPauses::default()), Arc::new(AtomicU32::new(0)));
        let until = Instant::now() + Duration::from_secs(SECONDS.into());
        let mut clients = tokio::task::JoinSet::new();
        // A client that has its refusal asks again.
        let ask = || {
            let (waits, count) = (rest(Arc::clone(&pauses)), Arc::clone(&count));
            async move {
                waits.await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        };
        for _ in 0..CLIENTS {
            clients.spawn(ask());
        }
        while Instant::now() < until {
            clients.join_next().await;
            clients.spawn(ask());
        }
        count.load(Ordering::Relaxed) / SECONDS
    }

    async fn rest(pauses: Arc<RefusalPauses>) {
        let mut refused = ApiError::new(ErrorCode::Overloaded, "too much").into_response();
        pauses.delay_refusal(&mut refused, Version::HTTP_11, &CancellationToken::new()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_to_a_crowd_stay_within_a_rate() {
        let refused = refused_per_second(rest).await;
        assert!(refused <= REFUSALS_PER_SECOND * 5 / 4, "{refused} a second");
        let began = Instant::now();
        rest(Arc::default()).await;
        assert!(began.elapsed() < 2 * PAUSE_MIN, "a client alone waits the shortest time");
    }

    /// Planted fault: each waits the shortest time, however many there are.
    #[tokio::test(start_paused = true)]
    async fn a_pause_that_knows_no_crowd_is_caught() {
        let refused = refused_per_second(|_| sleep(PAUSE_MIN)).await;
        assert!(refused > REFUSALS_PER_SECOND * 5 / 4, "nothing notices it: {refused} a second");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_refusal_of_an_open_server_is_delayed() {
        let (pauses, closing, began) = (RefusalPauses::default(), CancellationToken::new(), Instant::now());
        pauses.delay_refusal(&mut Response::new(Body::empty()), Version::HTTP_11, &closing).await;
        pauses
            .delay_refusal(
                &mut ApiError::invalid_request("wrong").into_response(),
                Version::HTTP_11,
                &closing,
            )
            .await;
        pauses.waiting.store(WAITING_MAX, Ordering::Relaxed);
        let mut refused = ApiError::new(ErrorCode::RateLimited, "too much").into_response();
        pauses.delay_refusal(&mut refused, Version::HTTP_11, &closing).await;
        assert_eq!(refused.headers().get(CONNECTION), Some(&HeaderValue::from_static("close")));
        pauses.waiting.store(0, Ordering::Relaxed);
        closing.cancel();
        pauses.delay_refusal(&mut refused, Version::HTTP_11, &closing).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
