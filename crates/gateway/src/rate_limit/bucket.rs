//! A rate: a bucket that fills by the clock. A clock that is set back fills nothing and takes nothing away.

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60_000;

/// How a bucket fills. Its level counts one thing in as many parts as its time has milliseconds, so that a rate of so many
/// things in that time is so many parts in each millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RefillRate {
    /// So many things in that time.
    count: u64,
    /// That time, and the parts of one thing.
    time_ms: u64,
    /// So many things at once.
    burst: u64,
}

impl RefillRate {
    pub(super) const fn per_second(count: u64, burst: u64) -> Self {
        Self { count, time_ms: SECOND_MS, burst }
    }

    pub(super) const fn per_minute(count: u64, burst: u64) -> Self {
        Self { count, time_ms: MINUTE_MS, burst }
    }

    pub(super) const fn bucket_capacity(self) -> u64 {
        self.burst * self.time_ms
    }
}

/// How much of a rate is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenBucket {
    pub(super) level: u64,
    pub(super) at_ms: i64,
}

impl TokenBucket {
    /// A bucket of which nothing was taken yet.
    pub(super) const fn new_full(pace: RefillRate, now_ms: i64) -> Self {
        Self { level: pace.bucket_capacity(), at_ms: now_ms }
    }

    pub(super) fn refill(&mut self, pace: RefillRate, now_ms: i64) {
        let passed = u64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(0);
        self.level = self.level.saturating_add(passed.saturating_mul(pace.count)).min(pace.bucket_capacity());
        self.at_ms = now_ms;
    }

    /// Takes one thing out, or says in how many milliseconds there will be one.
    pub(super) fn take_one(&mut self, pace: RefillRate, now_ms: i64) -> Result<(), u64> {
        self.refill(pace, now_ms);
        match self.level.checked_sub(pace.time_ms) {
            Some(level) => {
                self.level = level;
                Ok(())
            }
            None => Err((pace.time_ms - self.level).div_ceil(pace.count)),
        }
    }

    /// Puts back what was taken for nothing.
    pub(super) fn give_back(&mut self, pace: RefillRate) {
        self.level = self.level.saturating_add(pace.time_ms).min(pace.bucket_capacity());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let pace = RefillRate::per_second(2, 3);
        let mut bucket = TokenBucket::new_full(pace, 0);
        for (now_ms, taken) in [
            (0, Ok(())),
            (0, Ok(())),
            (0, Ok(())),
            (0, Err(500)),
            (499, Err(1)),
            (500, Ok(())),
            (500, Err(500)),
            // It fills to its burst and no further.
            (60_000, Ok(())),
            (60_000, Ok(())),
            (60_000, Ok(())),
            (60_000, Err(500)),
            // A clock that is set back gives nothing, and counts from there.
            (1_000, Err(500)),
            (1_499, Err(1)),
            (1_500, Ok(())),
        ] {
            assert_eq!(bucket.take_one(pace, now_ms), taken, "at {now_ms}");
        }
    }

    #[test]
    fn a_rate_that_no_millisecond_divides_is_never_exceeded() {
        let pace = RefillRate::per_second(3, 1);
        let mut bucket = TokenBucket { level: 0, at_ms: 0 };
        let taken = (1..=10_000).filter(|now| bucket.take_one(pace, *now).is_ok()).count();
        assert_eq!(taken, 29, "each third of a second is 334 ms by a clock of milliseconds");
        assert_eq!(TokenBucket { level: 0, at_ms: 0 }.take_one(pace, 0), Err(334));
    }

    #[test]
    fn a_bucket_refills_by_the_minute_up_to_its_capacity() {
        let pace = RefillRate::per_minute(6, 2);
        let mut bucket = TokenBucket::new_full(pace, 0);
        for (now_ms, taken) in [
            (0, Ok(())),
            (0, Ok(())),
            (0, Err(10_000)),
            (9_999, Err(1)),
            (10_000, Ok(())),
            (10_000, Err(10_000)),
        ] {
            assert_eq!(bucket.take_one(pace, now_ms), taken, "at {now_ms}");
        }
        bucket.give_back(pace);
        assert_eq!(bucket.take_one(pace, 10_000), Ok(()));
        for _ in 0..3 {
            bucket.give_back(pace);
        }
        assert_eq!(bucket, TokenBucket::new_full(pace, 10_000));
    }
}
