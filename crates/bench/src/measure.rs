//! Latencies, their percentiles, and medians over rounds.

use std::time::Duration;

use serde::Serialize;

/// What a load saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct LoadSummary {
    /// Requests that were answered as expected.
    pub(crate) answered: u64,
    /// Requests that were not.
    pub(crate) failed: u64,
    /// How long the load took.
    pub(crate) seconds: f64,
    /// Answers per second.
    pub(crate) rate: f64,
    /// Half of the answers took at most this long.
    pub(crate) p50_ms: f64,
    /// 95 % did.
    pub(crate) p95_ms: f64,
    /// 99 % did.
    pub(crate) p99_ms: f64,
}

/// The latencies of one load.
#[derive(Debug, Default)]
pub(crate) struct LatencyRecorder {
    micros: Vec<u32>,
    failed: u64,
}

impl LatencyRecorder {
    /// Adds one answered request.
    pub(crate) fn record_answer(&mut self, took: Duration) {
        self.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds one that was not.
    pub(crate) fn record_failure(&mut self) {
        self.failed += 1;
    }

    /// Adds those of another connection.
    pub(crate) fn merge_from(&mut self, other: Self) {
        self.micros.extend(other.micros);
        self.failed += other.failed;
    }

    /// Sums up a load that took so long.
    pub(crate) fn into_summary(mut self, took: Duration) -> LoadSummary {
        self.micros.sort_unstable();
        let answered = self.micros.len() as u64;
        let seconds = took.as_secs_f64();
        LoadSummary {
            answered,
            failed: self.failed,
            seconds,
            rate: ratio_or_zero(count_as_f64(answered), seconds),
            p50_ms: percentile(&self.micros, 50),
            p95_ms: percentile(&self.micros, 95),
            p99_ms: percentile(&self.micros, 99),
        }
    }
}

/// The nearest rank, in milliseconds; 0 where there is nothing.
fn percentile(sorted_micros: &[u32], percent: usize) -> f64 {
    let rank = (sorted_micros.len() * percent).div_ceil(100).max(1);
    sorted_micros.get(rank - 1).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
}

/// The nearest rank of values in any order; 0 where there is none.
pub(crate) fn percentile_of(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().unwrap_or_default()
}

/// The median; the mean of the middle two where there is no middle one; 0 where there is nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len() / 2, sorted.len() % 2) {
        (0, 0) => 0.0,
        (middle, 1) => sorted[middle],
        (middle, _) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Divides; 0 where there is nothing to divide by.
pub(crate) fn ratio_or_zero(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "figures are rounded to a few digits when they are shown")]
pub(crate) fn count_as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the expected values are exact")]
    fn percentiles_are_nearest_ranks() {
        let sorted: Vec<u32> = (1..=200).map(|number| number * 1000).collect();
        assert_eq!([50, 95, 99].map(|percent| percentile(&sorted, percent)), [100.0, 190.0, 198.0]);
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!([50, 95, 99].map(|percent| percentile_of(values.clone(), percent)), [100.0, 190.0, 198.0]);
        assert_eq!([50, 95, 99].map(|percent| percentile(&[7000], percent)), [7.0; 3]);
        assert_eq!([50, 99].map(|percent| percentile(&[], percent)), [0.0; 2]);
    }

    #[test]
    fn a_median_does_not_care_for_order_or_outliers() {
        for (values, expected) in
            [(&[3.0, 1.0, 900.0][..], 3.0), (&[4.0, 1.0, 2.0, 900.0], 3.0), (&[5.0], 5.0), (&[], 0.0)]
        {
            assert!((median(values) - expected).abs() < f64::EPSILON, "{values:?}");
        }
    }

    #[test]
    fn a_summary_counts_failures_beside_the_answers() {
        let mut one = LatencyRecorder::default();
        one.record_answer(Duration::from_millis(2));
        let mut other = LatencyRecorder::default();
        other.record_answer(Duration::from_millis(4));
        other.record_failure();
        one.merge_from(other);
        let summary = one.into_summary(Duration::from_secs(2));
        let expected = LoadSummary {
            answered: 2,
            failed: 1,
            seconds: 2.0,
            rate: 1.0,
            p50_ms: 2.0,
            p95_ms: 4.0,
            p99_ms: 4.0,
        };
        assert_eq!(summary, expected);
    }
}
