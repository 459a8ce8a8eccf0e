//! Registers counters and gauges by name, with the help text that Prometheus shows.

use ::metrics::{Counter, Gauge, Key, Label, Recorder};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::METADATA;

/// Where meters are registered.
#[derive(Clone, Copy)]
pub(super) struct MeterRegistry<'a>(pub(super) &'a PrometheusRecorder);

impl MeterRegistry<'_> {
    pub(super) fn counter(self, name: &'static str, help: &'static str) -> Counter {
        self.0.describe_counter(name.into(), None, help.into());
        self.0.register_counter(&Key::from_static_name(name), &METADATA)
    }

    pub(super) fn gauge(self, name: &'static str, help: &'static str) -> Gauge {
        self.0.describe_gauge(name.into(), None, help.into());
        self.0.register_gauge(&Key::from_static_name(name), &METADATA)
    }

    /// Registers one counter for each value of a label.
    pub(super) fn labelled_counters<const N: usize>(
        self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: [&'static str; N],
    ) -> [Counter; N] {
        self.0.describe_counter(name.into(), None, help.into());
        values.map(|value| {
            let key = Key::from_parts(name, vec![Label::new(label, value)]);
            self.0.register_counter(&key, &METADATA)
        })
    }
}
