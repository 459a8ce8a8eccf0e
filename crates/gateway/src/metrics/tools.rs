//! Meters of tools: how long calls took by tool and outcome, and how many did not begin.
//!
//! The tools are known when the process starts. A name that a model made up counts as `none`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Histogram, Key, Label, Recorder, Unit};
use dromia_contracts::tool::{CallEnd, CallMeter, CallRefusal, ToolDescriptor};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::METADATA;

/// The name of the histogram.
pub(super) const SECONDS_NAME: &str = "dromia_tool_seconds";

/// Upper bounds of the histogram, in seconds; a program may take ten minutes.
pub(super) const SECONDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 600.0];

/// Counts calls of tools; a cheap clone.
#[derive(Clone)]
pub struct ToolMeters {
    known: Arc<BTreeMap<String, SingleToolMeters>>,
    unknown: [Counter; CallRefusal::ALL.len()],
}

/// The meters of one tool.
struct SingleToolMeters {
    seconds: [Histogram; CallEnd::ALL.len()],
    refused: [Counter; CallRefusal::ALL.len()],
}

impl ToolMeters {
    /// Makes the meters of the tools that there are.
    pub(super) fn new(recorder: &PrometheusRecorder, tools: &[ToolDescriptor]) -> Self {
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
        let known = tools.iter().map(|tool| {
            let name = &tool.name;
            (
                name.clone(),
                SingleToolMeters {
                    seconds: duration_histograms(recorder, name),
                    refused: refusal_counters(recorder, name),
                },
            )
        });
        Self { known: Arc::new(known.collect()), unknown: refusal_counters(recorder, "none") }
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
        let meters = self.known.get(tool);
        for (histogram, known) in meters.into_iter().flat_map(|tool| tool.seconds.iter().zip(CallEnd::ALL)) {
            if known == end {
                histogram.record(took.as_secs_f64());
            }
        }
    }

    fn count_refusal(&self, tool: &str, refusal: CallRefusal) {
        let meters = self.known.get(tool).map_or(&self.unknown, |tool| &tool.refused);
        for (counter, known) in meters.iter().zip(CallRefusal::ALL) {
            if known == refusal {
                counter.increment(1);
            }
        }
    }
}

impl fmt::Debug for ToolMeters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolMeters").field("tools", &self.known.len()).finish_non_exhaustive()
    }
}
