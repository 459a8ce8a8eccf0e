//! Meters of the gateway, under `dromia_`, and their text form.
//!
//! Every label value is known when the process starts (route templates, status classes, directions, reasons), so no
//! request can add a series. Counters are handles made once; counting is an atomic add.

mod registry;
mod services;
mod tenants;
#[cfg(test)]
mod text_check;
mod tools;
mod usage;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use axum::http::StatusCode;
use dromia_contracts::tool_catalogue::ToolCatalogue;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use self::registry::MeterRegistry;
use self::services::ServiceMeters;
use self::tenants::TenantMeters;
pub use self::tools::ToolMeters;
pub(crate) use self::usage::render_usage;
use crate::edge_refusal::EdgeRefusal;

/// Upper bounds of the latency histogram, in seconds.
const SECONDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

pub(crate) struct GatewayMeters {
    handle: PrometheusHandle,
    routes: Vec<(&'static str, &'static str, RouteMeters)>,
    unmatched: RouteMeters,
    refused: Vec<(EdgeRefusal, Counter)>,
    /// What a tenant may see of its own.
    pub(crate) tenants: TenantMeters,
    tools: ToolMeters,
    log: LogMeter,
    services: ServiceMeters,
}

/// Counts the lines of the log that were dropped, because the log's queue was full.
#[derive(Clone)]
pub struct LogMeter(Counter);

impl LogMeter {
    /// Says how many there were since the start.
    pub fn set_dropped(&self, dropped: u64) {
        self.0.absolute(dropped);
    }
}

impl fmt::Debug for LogMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogMeter")
    }
}

/// Says that the histogram's bounds were refused.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up the meters")]
pub struct MetersError(#[from] metrics_exporter_prometheus::BuildError);

/// Counts the requests of one route.
#[derive(Clone)]
pub(crate) struct RouteMeters {
    classes: [Counter; 4],
    seconds: Histogram,
}

impl RouteMeters {
    fn new(recorder: &PrometheusRecorder, method: &'static str, path: &'static str) -> Self {
        let labels = || vec![Label::new("method", method), Label::new("route", path)];
        let class = |class: &'static str| {
            let mut labels = labels();
            labels.push(Label::new("class", class));
            recorder.register_counter(&Key::from_parts("dromia_http_requests_total", labels), &METADATA)
        };
        Self {
            classes: ["2xx", "3xx", "4xx", "5xx"].map(class),
            seconds: recorder
                .register_histogram(&Key::from_parts("dromia_http_request_seconds", labels()), &METADATA),
        }
    }

    /// Counts one answered request.
    pub(crate) fn record_request(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(2, 5) - 2;
        self.classes[class].increment(1);
        self.seconds.record(took.as_secs_f64());
    }
}

impl GatewayMeters {
    /// Makes the meters of these tools and of these routes, each a method and a path.
    pub(crate) fn new(
        tools: &ToolCatalogue,
        routes: impl Iterator<Item = (&'static str, &'static str)>,
    ) -> Result<Self, MetersError> {
        let of_tools = Matcher::Full(tools::SECONDS_NAME.to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS)?
            .set_buckets_for_metric(of_tools, &tools::SECONDS)?
            .build_recorder();
        let recorder = Arc::new(recorder);
        let registry = MeterRegistry(&recorder);
        recorder.describe_counter("dromia_http_requests_total".into(), None, "Answered requests.".into());
        recorder.describe_histogram(
            "dromia_http_request_seconds".into(),
            Some(Unit::Seconds),
            "Time from the routed request to its answer, including waits.".into(),
        );
        let refused = registry.labelled_counters(
            "dromia_http_refusals_total",
            "Requests and connections that the server refused or dropped.",
            "reason",
            EdgeRefusal::ALL.map(EdgeRefusal::as_str),
        );
        Ok(Self {
            routes: routes
                .map(|(method, path)| (method, path, RouteMeters::new(&recorder, method, path)))
                .collect(),
            unmatched: RouteMeters::new(&recorder, "any", "none"),
            refused: EdgeRefusal::ALL.into_iter().zip(refused).collect(),
            tenants: TenantMeters::default(),
            tools: ToolMeters::new(Arc::clone(&recorder), tools),
            log: LogMeter(registry.counter(
                "dromia_log_lines_dropped_total",
                "Lines of the log dropped because standard error was not read in time.",
            )),
            services: ServiceMeters::new(registry),
            handle: recorder.handle(),
        })
    }

    /// Returns the meters of a route; what is not in the table counts as unmatched.
    pub(crate) fn of(&self, method: &str, path: &str) -> RouteMeters {
        let found = self.routes.iter().find(|(known, at, _)| (*known, *at) == (method, path));
        found.map_or(&self.unmatched, |(_, _, meters)| meters).clone()
    }

    pub(crate) fn unmatched_route(&self) -> &RouteMeters {
        &self.unmatched
    }

    /// The meters of tools, for the engine that runs calls.
    pub(crate) fn tool_meters(&self) -> ToolMeters {
        self.tools.clone()
    }

    /// The meter of dropped lines, for the log writer.
    pub(crate) fn log_meter(&self) -> LogMeter {
        self.log.clone()
    }

    /// Counts what was refused or dropped at the edge.
    pub(crate) fn count_refusal(&self, reason: EdgeRefusal) {
        self.refusal_counter(reason).increment(1);
    }

    /// The counter of one reason, for what counts by itself.
    pub(crate) fn refusal_counter(&self, reason: EdgeRefusal) -> Counter {
        let found = self.refused.iter().find(|(known, _)| *known == reason);
        found.map_or_else(Counter::noop, |(_, counter)| counter.clone())
    }

    /// Folds recorded samples into their buckets. Without it they would pile up while no scraper comes.
    pub(crate) fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl fmt::Debug for GatewayMeters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters").field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}
