//! The rate of one token: a bucket that fills by the clock. A clock that is set back fills nothing and takes nothing away.

/// What one request takes out of a bucket. The level counts in thousandths, so a rate per second is one per millisecond.
const REQUEST: u64 = 1_000;

/// How a bucket fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) per_second: u64,
    pub(super) burst: u64,
}

impl Pace {
    pub(super) const fn full(self) -> u64 {
        self.burst * REQUEST
    }
}

/// How much of a rate is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) level: u64,
    pub(super) at_ms: i64,
}

impl Bucket {
    pub(super) fn fill(&mut self, pace: Pace, now_ms: i64) {
        let passed = u64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(0);
        self.level = self.level.saturating_add(passed.saturating_mul(pace.per_second)).min(pace.full());
        self.at_ms = now_ms;
    }

    /// Takes a request out, or says in how many milliseconds there will be one.
    pub(super) fn take(&mut self, pace: Pace, now_ms: i64) -> Result<(), u64> {
        self.fill(pace, now_ms);
        match self.level.checked_sub(REQUEST) {
            Some(level) => {
                self.level = level;
                Ok(())
            }
            None => Err((REQUEST - self.level).div_ceil(pace.per_second)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let pace = Pace { per_second: 2, burst: 3 };
        let mut bucket = Bucket { level: pace.full(), at_ms: 0 };
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
            assert_eq!(bucket.take(pace, now_ms), taken, "at {now_ms}");
        }
    }

    #[test]
    fn a_rate_that_no_millisecond_divides_is_never_exceeded() {
        let pace = Pace { per_second: 3, burst: 1 };
        let mut bucket = Bucket { level: 0, at_ms: 0 };
        let taken = (1..=10_000).filter(|now| bucket.take(pace, *now).is_ok()).count();
        assert_eq!(taken, 29, "each third of a second is 334 ms by a clock of milliseconds");
        assert_eq!(Bucket { level: 0, at_ms: 0 }.take(pace, 0), Err(334));
    }
}
