//! Meters of tools: how long calls took by tool and outcome, and how many did not begin.
//!
//! The built-in tools are counted from the start, one of the configuration from its first call on. A name that a model made up
//! counts as `none`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ::metrics::{Counter, Histogram, Key, Label, Recorder, Unit};
use dromia_contracts::tool::{CallEnd, CallMeter, CallRefusal};
use dromia_contracts::tool_catalogue::ToolCatalogue;
use metrics_exporter_prometheus::PrometheusRecorder;

use super::METADATA;

/// The name of the histogram.
pub(super) const SECONDS_NAME: &str = "dromia_tool_seconds";

/// Upper bounds of the histogram, in seconds; a program may take ten minutes.
pub(super) const SECONDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 600.0];

/// The most tools that have meters of their own; a configuration may have fewer, but many of them over time.
const TOOLS_MAX: usize = 2048;

/// Counts calls of tools; a cheap clone.
#[derive(Clone)]
pub struct ToolMeters {
    recorder: Arc<PrometheusRecorder>,
    known: Arc<RwLock<BTreeMap<String, SingleToolMeters>>>,
    unknown: [Counter; CallRefusal::ALL.len()],
}

/// The meters of one tool; a cheap clone.
#[derive(Clone)]
struct SingleToolMeters {
    seconds: [Histogram; CallEnd::ALL.len()],
    refused: [Counter; CallRefusal::ALL.len()],
}

impl ToolMeters {
    /// Makes the meters of the built-in tools.
    pub(super) fn new(recorder: Arc<PrometheusRecorder>, tools: &ToolCatalogue) -> Self {
        recorder.describe_histogram(
            SECONDS_NAME.into(),
            Some(Unit::Seconds),
            "Time from the durable start of a tool call to its result.".into(),
        );
        recorder.describe_counter(
            "dromia_tool_refusals_total".into(),
            None,
            "Tool calls that did not start.".into(),
        );
        let unknown = refusal_counters(&recorder, "none");
        let meters = Self { recorder, known: Arc::default(), unknown };
        for tool in tools.descriptors().filter(|tool| !tools.is_configured(&tool.name)) {
            meters.find_or_make(&tool.name);
        }
        meters
    }

    /// Returns the meters of a tool; nothing for one beyond [`TOOLS_MAX`].
    fn find_or_make(&self, tool: &str) -> Option<SingleToolMeters> {
        // No code panics while it holds the lock.
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(tool) {
            return Some(known.clone());
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TOOLS_MAX {
            return known.get(tool).cloned();
        }
        let made = known.entry(tool.to_owned()).or_insert_with(|| SingleToolMeters {
            seconds: duration_histograms(&self.recorder, tool),
            refused: refusal_counters(&self.recorder, tool),
        });
        Some(made.clone())
    }
}

fn duration_histograms(recorder: &PrometheusRecorder, tool: &str) -> [Histogram; CallEnd::ALL.len()] {
    CallEnd::ALL.map(|end| {
        let labels = vec![Label::new("tool", tool.to_owned()), Label::new("outcome", end.as_str())];
        recorder.register_histogram(&Key::from_parts(SECONDS_NAME, labels), &METADATA)
    })
}

fn refusal_counters(recorder: &PrometheusRecorder, tool: &str) -> [Counter; CallRefusal::ALL.len()] {
    CallRefusal::ALL.map(|refusal| {
        let labels = vec![Label::new("tool", tool.to_owned()), Label::new("reason", refusal.as_str())];
        recorder.register_counter(&Key::from_parts("dromia_tool_refusals_total", labels), &METADATA)
    })
}

impl CallMeter for ToolMeters {
    fn count_call(&self, tool: &str, end: CallEnd, took: Duration) {
        let Some(meters) = self.find_or_make(tool) else { return };
        for (histogram, known) in meters.seconds.iter().zip(CallEnd::ALL) {
            if known == end {
                histogram.record(took.as_secs_f64());
            }
        }
    }

    fn count_refusal(&self, tool: Option<&str>, refusal: CallRefusal) {
        let meters = tool.and_then(|tool| self.find_or_make(tool));
        let counters = meters.as_ref().map_or(&self.unknown, |tool| &tool.refused);
        for (counter, known) in counters.iter().zip(CallRefusal::ALL) {
            if known == refusal {
                counter.increment(1);
            }
        }
    }
}

impl fmt::Debug for ToolMeters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolMeters").finish_non_exhaustive()
    }
}
