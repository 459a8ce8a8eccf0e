//! What one token may take: requests by the second, requests at a time, streams at a time. How often one
//! actor may submit an input is in `actors`.
//!
//! A request first counts against what is in flight and then against the rate (`bucket`), so one that is refused spends
//! nothing.
//!
//! Bound: the entries of tokens with something in flight, which the shares of the node bound, and at most
//! [`TOKENS_MAX`] others. A token whose bucket is full is as good as one that was never seen, so those go first; if
//! that is not enough, the limiter resets every token with nothing in flight. Only authenticated tokens have an entry.

mod actors;
mod bucket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use dromia_contracts::{ErrorCode, TokenId};
use jiff::Timestamp;

pub(crate) use self::actors::ActorRateLimiter;
use self::bucket::{RefillRate, TokenBucket};
use crate::config::GatewayConfig;
use crate::edge_refusal::EdgeRefusal;
use crate::failure::ApiError;

/// The most tokens whose buckets are remembered.
const TOKENS_MAX: usize = 10_000;

/// What each token may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TokenLimits {
    /// The rate, if there is one.
    pace: Option<RefillRate>,
    requests_max: usize,
    streams_max: usize,
}

impl TokenLimits {
    fn from_config(config: &GatewayConfig) -> Self {
        let pace = RefillRate::per_second(
            config.callers.token_rate_max.into(),
            config.callers.token_burst_max.into(),
        );
        Self {
            pace: (config.callers.token_rate_max > 0).then_some(pace),
            requests_max: config.callers.token_requests_max,
            streams_max: config.callers.token_streams_max,
        }
    }
}

/// One token.
#[derive(Debug)]
struct TokenAllowance {
    bucket: Option<TokenBucket>,
    requests: usize,
    streams: usize,
}

impl TokenAllowance {
    fn is_idle(&self) -> bool {
        self.requests == 0 && self.streams == 0
    }
}

/// What is counted at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AllowanceKind {
    Request,
    Stream,
}

/// What of its allowance a token has used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowanceExhausted {
    /// Its rate, for so many milliseconds.
    Rate { again_ms: u64 },
    /// Its requests at a time.
    Requests,
    /// Its streams at a time.
    Streams,
}

impl AllowanceExhausted {
    /// Under which reason the refusal is counted.
    pub(crate) const fn refusal_reason(self) -> EdgeRefusal {
        match self {
            Self::Rate { .. } => EdgeRefusal::TokenRate,
            Self::Requests => EdgeRefusal::TokenRequests,
            Self::Streams => EdgeRefusal::TokenStreams,
        }
    }
}

impl From<AllowanceExhausted> for ApiError {
    fn from(spent: AllowanceExhausted) -> Self {
        let limited = |text| Self::new(ErrorCode::RateLimited, text);
        match spent {
            AllowanceExhausted::Rate { again_ms } => {
                let seconds = again_ms.div_ceil(1_000).max(1);
                limited("this token sends requests faster than one token may").again_in(seconds)
            }
            AllowanceExhausted::Requests => limited("this token has as many requests open as one token may"),
            AllowanceExhausted::Streams => limited("this token has as many streams open as one token may"),
        }
    }
}

/// The allowances of all tokens.
#[derive(Debug)]
pub(crate) struct TokenAllowances {
    limits: RwLock<TokenLimits>,
    tokens: Mutex<HashMap<TokenId, TokenAllowance>>,
}

impl TokenAllowances {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        Self { limits: RwLock::new(TokenLimits::from_config(config)), tokens: Mutex::default() }
    }

    /// Lets other limits count from the next request on.
    pub(crate) fn replace_limits(&self, config: &GatewayConfig) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = TokenLimits::from_config(config);
    }

    fn limits(&self) -> TokenLimits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request of a token in.
    pub(crate) fn acquire_request(
        self: &Arc<Self>,
        token: TokenId,
        now: Timestamp,
    ) -> Result<AllowancePermit, AllowanceExhausted> {
        let TokenLimits { pace, requests_max, .. } = self.limits();
        let mut tokens = self.lock();
        let allowance = self.token_entry(&mut tokens, token, now);
        if allowance.requests >= requests_max {
            return Err(AllowanceExhausted::Requests);
        }
        if let Some(pace) = pace {
            // A token that was known before there was a rate begins with a full bucket.
            let bucket = allowance.bucket.get_or_insert(TokenBucket::new_full(pace, now.as_millisecond()));
            bucket
                .take_one(pace, now.as_millisecond())
                .map_err(|again_ms| AllowanceExhausted::Rate { again_ms })?;
        }
        allowance.requests += 1;
        Ok(self.make_permit(token, AllowanceKind::Request))
    }

    /// Lets a stream of a token begin, whose request was let in before.
    pub(crate) fn acquire_stream(
        self: &Arc<Self>,
        token: TokenId,
        now: Timestamp,
    ) -> Result<AllowancePermit, AllowanceExhausted> {
        let mut tokens = self.lock();
        let allowance = self.token_entry(&mut tokens, token, now);
        if allowance.streams >= self.limits().streams_max {
            return Err(AllowanceExhausted::Streams);
        }
        allowance.streams += 1;
        Ok(self.make_permit(token, AllowanceKind::Stream))
    }

    fn make_permit(self: &Arc<Self>, token: TokenId, kind: AllowanceKind) -> AllowancePermit {
        AllowancePermit { allowances: Arc::clone(self), token, kind }
    }

    fn token_entry<'map>(
        &self,
        tokens: &'map mut HashMap<TokenId, TokenAllowance>,
        token: TokenId,
        now: Timestamp,
    ) -> &'map mut TokenAllowance {
        let now_ms = now.as_millisecond();
        if tokens.len() >= TOKENS_MAX && !tokens.contains_key(&token) {
            self.make_room(tokens, now_ms);
        }
        let bucket = self.limits().pace.map(|pace| TokenBucket::new_full(pace, now_ms));
        tokens.entry(token).or_insert(TokenAllowance { bucket, requests: 0, streams: 0 })
    }

    fn make_room(&self, tokens: &mut HashMap<TokenId, TokenAllowance>, now_ms: i64) {
        if let Some(pace) = self.limits().pace {
            tokens.retain(|_, allowance| {
                let mut bucket = allowance.bucket;
                let level = bucket.as_mut().map(|bucket| {
                    bucket.refill(pace, now_ms);
                    bucket.level
                });
                !allowance.is_idle() || level.is_some_and(|level| level < pace.bucket_capacity())
            });
        }
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, allowance| !allowance.is_idle());
        }
    }

    fn give_back(&self, token: TokenId, kind: AllowanceKind) {
        let mut tokens = self.lock();
        let Some(allowance) = tokens.get_mut(&token) else { return };
        match kind {
            AllowanceKind::Request => allowance.requests -= 1,
            AllowanceKind::Stream => allowance.streams -= 1,
        }
        // Without a rate there is nothing to remember of a token that has nothing in flight.
        if allowance.is_idle() && allowance.bucket.is_none() {
            tokens.remove(&token);
        }
    }

    // A panic under the lock cannot leave a count half-written, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, HashMap<TokenId, TokenAllowance>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of a token's allowance, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct AllowancePermit {
    allowances: Arc<TokenAllowances>,
    token: TokenId,
    kind: AllowanceKind,
}

impl Drop for AllowancePermit {
    fn drop(&mut self) {
        self.allowances.give_back(self.token, self.kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: u32) -> TokenId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        TokenId::from_bytes(bytes)
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).expect("a time")
    }

    fn allowances(change: impl FnOnce(&mut GatewayConfig)) -> Arc<TokenAllowances> {
        let mut config = GatewayConfig::default();
        change(&mut config);
        Arc::new(TokenAllowances::new(&config))
    }

    #[test]
    fn one_token_is_held_back_and_another_is_not() {
        let allowances =
            allowances(|config| (config.callers.token_rate_max, config.callers.token_burst_max) = (1, 1));
        assert!(allowances.acquire_request(token(1), at(0)).is_ok());
        assert_eq!(
            allowances.acquire_request(token(1), at(0)).err(),
            Some(AllowanceExhausted::Rate { again_ms: 1_000 })
        );
        assert!(allowances.acquire_request(token(2), at(0)).is_ok());
        assert!(allowances.acquire_request(token(1), at(1_000)).is_ok());
    }

    #[test]
    fn requests_and_streams_in_flight_are_counted_apart() {
        let allowances = allowances(|config| {
            (config.callers.token_requests_max, config.callers.token_streams_max) = (2, 1);
        });
        let first = allowances.acquire_request(token(1), at(0)).expect("let in");
        let second = allowances.acquire_request(token(1), at(0)).expect("let in");
        assert_eq!(allowances.acquire_request(token(1), at(0)).err(), Some(AllowanceExhausted::Requests));
        let stream = allowances.acquire_stream(token(1), at(0)).expect("let in");
        assert_eq!(allowances.acquire_stream(token(1), at(0)).err(), Some(AllowanceExhausted::Streams));
        assert!(allowances.acquire_stream(token(2), at(0)).is_ok());
        drop(first);
        assert!(allowances.acquire_request(token(1), at(0)).is_ok());
        drop((second, stream));
        assert!(allowances.lock().is_empty(), "an idle token is remembered: {allowances:?}");
    }

    #[test]
    fn a_refusal_for_requests_in_flight_spends_no_rate() {
        let allowances = allowances(|config| {
            (
                config.callers.token_rate_max,
                config.callers.token_burst_max,
                config.callers.token_requests_max,
            ) = (1, 2, 1);
        });
        let held = allowances.acquire_request(token(1), at(0)).expect("let in");
        assert_eq!(allowances.acquire_request(token(1), at(0)).err(), Some(AllowanceExhausted::Requests));
        drop(held);
        assert!(allowances.acquire_request(token(1), at(0)).is_ok());
    }

    #[test]
    fn the_token_table_is_bounded_and_keeps_tokens_in_flight() {
        let allowances = allowances(|config| {
            (
                config.callers.token_rate_max,
                config.callers.token_burst_max,
                config.callers.token_requests_max,
            ) = (1, 1, 1);
        });
        let busy = allowances.acquire_request(token(0), at(0)).expect("let in");
        for number in 1..=25_000 {
            assert!(allowances.acquire_request(token(number), at(0)).is_ok());
            assert!(allowances.lock().len() <= TOKENS_MAX);
        }
        assert_eq!(
            allowances.acquire_request(token(0), at(60_000)).err(),
            Some(AllowanceExhausted::Requests)
        );
        drop(busy);
        assert!(allowances.acquire_request(token(0), at(60_000)).is_ok());
    }

    #[test]
    fn the_refusal_says_when_to_come_again() {
        for (spent, seconds) in [
            (AllowanceExhausted::Rate { again_ms: 1 }, 1),
            (AllowanceExhausted::Rate { again_ms: 1_001 }, 2),
            (AllowanceExhausted::Requests, 1),
            (AllowanceExhausted::Streams, 1),
        ] {
            let failure = ApiError::from(spent);
            assert_eq!((failure.code(), failure.status()), (ErrorCode::RateLimited, 429));
            assert_eq!(failure.again_after(), Some(seconds), "{spent:?}");
        }
    }
}
