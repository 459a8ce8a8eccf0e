//! What one token may take: requests by the second, requests at a time, streams at a time. What one actor may bring is
//! beside it (`actors`).
//!
//! A request first counts against what is in flight and then against the rate (`bucket`), so one that is refused spends
//! nothing.
//!
//! Bound: the entries of tokens with something in flight, which the shares of the node bound, and at most
//! [`TOKENS_MAX`] others. A token whose bucket is full is as good as one that was never seen, so those go first; if that
//! is not enough, every token with nothing in flight begins anew. Only tokens that were let in have an entry.

mod actors;
mod bucket;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dromia_contracts::{ErrorCode, TokenId};
use jiff::Timestamp;

pub(crate) use self::actors::Actors;
use self::bucket::{Bucket, Pace};
use crate::config::GatewayConfig;
use crate::failure::Failure;
use crate::metrics::Refused;

/// The most tokens whose buckets are remembered.
const TOKENS_MAX: usize = 10_000;

/// What each token may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    /// The rate, if there is one.
    pace: Option<Pace>,
    requests_max: usize,
    streams_max: usize,
}

/// One token.
#[derive(Debug)]
struct Allowance {
    bucket: Option<Bucket>,
    requests: usize,
    streams: usize,
}

impl Allowance {
    fn is_idle(&self) -> bool {
        self.requests == 0 && self.streams == 0
    }
}

/// What is counted at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Stream,
}

/// What of its allowance a token has used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    /// Its rate, for so many milliseconds.
    Rate { again_ms: u64 },
    /// Its requests at a time.
    Requests,
    /// Its streams at a time.
    Streams,
}

impl Spent {
    /// Under which reason the refusal is counted.
    pub(crate) const fn reason(self) -> Refused {
        match self {
            Self::Rate { .. } => Refused::TokenRate,
            Self::Requests => Refused::TokenRequests,
            Self::Streams => Refused::TokenStreams,
        }
    }
}

impl From<Spent> for Failure {
    fn from(spent: Spent) -> Self {
        let limited = |text| Self::new(ErrorCode::RateLimited, text);
        match spent {
            Spent::Rate { again_ms } => {
                let seconds = again_ms.div_ceil(1_000).max(1);
                limited("this token asks more often than one token may").again_in(seconds)
            }
            Spent::Requests => limited("this token has as many requests in flight as one token may"),
            Spent::Streams => limited("this token has as many streams open as one token may"),
        }
    }
}

/// The allowances of all tokens.
#[derive(Debug)]
pub(crate) struct Allowances {
    limits: Limits,
    tokens: Mutex<HashMap<TokenId, Allowance>>,
}

impl Allowances {
    pub(crate) fn new(config: &GatewayConfig) -> Self {
        let pace = Pace::per_second(config.token_rate_max.into(), config.token_burst_max.into());
        Self {
            limits: Limits {
                pace: (config.token_rate_max > 0).then_some(pace),
                requests_max: config.token_requests_max,
                streams_max: config.token_streams_max,
            },
            tokens: Mutex::default(),
        }
    }

    /// Lets a request of a token in.
    pub(crate) fn request(self: &Arc<Self>, token: TokenId, now: Timestamp) -> Result<Held, Spent> {
        let Limits { pace, requests_max, .. } = self.limits;
        let mut tokens = self.lock();
        let allowance = self.entry(&mut tokens, token, now);
        if allowance.requests >= requests_max {
            return Err(Spent::Requests);
        }
        if let (Some(pace), Some(bucket)) = (pace, &mut allowance.bucket) {
            bucket.take(pace, now.as_millisecond()).map_err(|again_ms| Spent::Rate { again_ms })?;
        }
        allowance.requests += 1;
        Ok(self.held(token, Kind::Request))
    }

    /// Lets a stream of a token begin, whose request was let in before.
    pub(crate) fn stream(self: &Arc<Self>, token: TokenId, now: Timestamp) -> Result<Held, Spent> {
        let mut tokens = self.lock();
        let allowance = self.entry(&mut tokens, token, now);
        if allowance.streams >= self.limits.streams_max {
            return Err(Spent::Streams);
        }
        allowance.streams += 1;
        Ok(self.held(token, Kind::Stream))
    }

    fn held(self: &Arc<Self>, token: TokenId, kind: Kind) -> Held {
        Held { allowances: Arc::clone(self), token, kind }
    }

    fn entry<'map>(
        &self,
        tokens: &'map mut HashMap<TokenId, Allowance>,
        token: TokenId,
        now: Timestamp,
    ) -> &'map mut Allowance {
        let now_ms = now.as_millisecond();
        if tokens.len() >= TOKENS_MAX && !tokens.contains_key(&token) {
            self.make_room(tokens, now_ms);
        }
        let bucket = self.limits.pace.map(|pace| Bucket::of(pace, now_ms));
        tokens.entry(token).or_insert(Allowance { bucket, requests: 0, streams: 0 })
    }

    fn make_room(&self, tokens: &mut HashMap<TokenId, Allowance>, now_ms: i64) {
        if let Some(pace) = self.limits.pace {
            tokens.retain(|_, allowance| {
                let mut bucket = allowance.bucket;
                let level = bucket.as_mut().map(|bucket| {
                    bucket.fill(pace, now_ms);
                    bucket.level
                });
                !allowance.is_idle() || level.is_some_and(|level| level < pace.full())
            });
        }
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, allowance| !allowance.is_idle());
        }
    }

    fn give_back(&self, token: TokenId, kind: Kind) {
        let mut tokens = self.lock();
        let Some(allowance) = tokens.get_mut(&token) else { return };
        match kind {
            Kind::Request => allowance.requests -= 1,
            Kind::Stream => allowance.streams -= 1,
        }
        // Without a rate there is nothing to remember of a token that has nothing in flight.
        if allowance.is_idle() && allowance.bucket.is_none() {
            tokens.remove(&token);
        }
    }

    // A panic under the lock cannot leave a count half-written, so a poisoned lock is as good as another.
    fn lock(&self) -> MutexGuard<'_, HashMap<TokenId, Allowance>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of a token's allowance, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    allowances: Arc<Allowances>,
    token: TokenId,
    kind: Kind,
}

impl Drop for Held {
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

    fn allowances(change: impl FnOnce(&mut GatewayConfig)) -> Arc<Allowances> {
        let mut config = GatewayConfig::default();
        change(&mut config);
        Arc::new(Allowances::new(&config))
    }

    #[test]
    fn one_token_is_held_back_and_another_is_not() {
        let allowances = allowances(|config| (config.token_rate_max, config.token_burst_max) = (1, 1));
        assert!(allowances.request(token(1), at(0)).is_ok());
        assert_eq!(allowances.request(token(1), at(0)).err(), Some(Spent::Rate { again_ms: 1_000 }));
        assert!(allowances.request(token(2), at(0)).is_ok());
        assert!(allowances.request(token(1), at(1_000)).is_ok());
    }

    #[test]
    fn what_is_in_flight_is_counted_by_kind_and_given_back() {
        let allowances = allowances(|config| (config.token_requests_max, config.token_streams_max) = (2, 1));
        let first = allowances.request(token(1), at(0)).expect("let in");
        let second = allowances.request(token(1), at(0)).expect("let in");
        assert_eq!(allowances.request(token(1), at(0)).err(), Some(Spent::Requests));
        let stream = allowances.stream(token(1), at(0)).expect("let in");
        assert_eq!(allowances.stream(token(1), at(0)).err(), Some(Spent::Streams));
        assert!(allowances.stream(token(2), at(0)).is_ok());
        drop(first);
        assert!(allowances.request(token(1), at(0)).is_ok());
        drop((second, stream));
        assert!(allowances.lock().is_empty(), "an idle token is remembered: {allowances:?}");
    }

    #[test]
    fn a_request_that_is_refused_for_what_is_in_flight_spends_no_rate() {
        let allowances = allowances(|config| {
            (config.token_rate_max, config.token_burst_max, config.token_requests_max) = (1, 2, 1);
        });
        let held = allowances.request(token(1), at(0)).expect("let in");
        assert_eq!(allowances.request(token(1), at(0)).err(), Some(Spent::Requests));
        drop(held);
        assert!(allowances.request(token(1), at(0)).is_ok());
    }

    #[test]
    fn the_remembered_tokens_are_bounded_and_none_in_flight_is_forgotten() {
        let allowances = allowances(|config| {
            (config.token_rate_max, config.token_burst_max, config.token_requests_max) = (1, 1, 1);
        });
        let busy = allowances.request(token(0), at(0)).expect("let in");
        for number in 1..=25_000 {
            assert!(allowances.request(token(number), at(0)).is_ok());
            assert!(allowances.lock().len() <= TOKENS_MAX);
        }
        assert_eq!(allowances.request(token(0), at(60_000)).err(), Some(Spent::Requests));
        drop(busy);
        assert!(allowances.request(token(0), at(60_000)).is_ok());
    }

    #[test]
    fn the_refusal_says_when_to_come_again() {
        for (spent, seconds) in [
            (Spent::Rate { again_ms: 1 }, 1),
            (Spent::Rate { again_ms: 1_001 }, 2),
            (Spent::Requests, 1),
            (Spent::Streams, 1),
        ] {
            let failure = Failure::from(spent);
            assert_eq!((failure.code(), failure.status()), (ErrorCode::RateLimited, 429));
            assert_eq!(failure.again_after(), Some(seconds), "{spent:?}");
        }
    }
}
