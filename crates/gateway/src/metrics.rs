//! Meters of the gateway, under `dromia_`, and their text form.
//!
//! Every label value is known when the process starts (route templates, status classes, directions, reasons), so no
//! request can add a series. Counters are handles made once; counting is an atomic add.

mod tenants;
#[cfg(test)]
mod text_check;
mod tools;
mod usage;

use std::fmt;
use std::time::Duration;

use ::metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use axum::http::StatusCode;
use dromia_contracts::task::TaskState;
use dromia_contracts::tool::ToolDescriptor;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use self::tenants::TenantMeters;
pub use self::tools::ToolMeters;
pub(crate) use self::usage::render_usage;
use crate::core::GatewayCore;
use crate::routes::ROUTES;

/// Upper bounds of the latency histogram, in seconds.
const SECONDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Why a client was refused or dropped at the edge, before a handler or while one runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdgeRefusal {
    /// Its Host is none of ours.
    Host,
    /// The page that asks may not.
    Origin,
    /// The node answers as many requests as it may.
    Requests,
    /// The node carries as many streams as it may.
    Streams,
    /// The actor says too much.
    ActorRate,
    /// The token asks too often.
    TokenRate,
    /// The token has too many requests in flight.
    TokenRequests,
    /// The token has too many streams open.
    TokenStreams,
    /// The body did not arrive in time.
    SlowBody,
    /// There are too many bytes of bodies on their way.
    BodyBytes,
    /// The answer was left unread for too long.
    SlowReader,
    /// The encrypted connection did not come about.
    Handshake,
    /// The peer's address has too many connections.
    AddressConnections,
}

impl EdgeRefusal {
    const ALL: [Self; 13] = [
        Self::Host,
        Self::Origin,
        Self::Requests,
        Self::Streams,
        Self::ActorRate,
        Self::TokenRate,
        Self::TokenRequests,
        Self::TokenStreams,
        Self::SlowBody,
        Self::BodyBytes,
        Self::SlowReader,
        Self::Handshake,
        Self::AddressConnections,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Requests => "requests",
            Self::Streams => "streams",
            Self::ActorRate => "actor_rate",
            Self::TokenRate => "token_rate",
            Self::TokenRequests => "token_requests",
            Self::TokenStreams => "token_streams",
            Self::SlowBody => "slow_body",
            Self::BodyBytes => "body_bytes",
            Self::SlowReader => "slow_reader",
            Self::Handshake => "handshake",
            Self::AddressConnections => "address_connections",
        }
    }
}

pub(crate) struct GatewayMeters {
    handle: PrometheusHandle,
    routes: Vec<RouteMeters>,
    unmatched: RouteMeters,
    refused: Vec<(EdgeRefusal, Counter)>,
    input_tokens: Counter,
    output_tokens: Counter,
    /// What a tenant may see of its own.
    pub(crate) tenants: TenantMeters,
    /// By state, in the order of [`TaskState::ALL`].
    tasks: [Counter; TaskState::ALL.len()],
    tools: ToolMeters,
    log: LogMeter,
    gauges: GatewayGauges,
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

/// Gauges that are read from the other services when the text is made.
struct GatewayGauges {
    connections_open: Gauge,
    requests_in_flight: Gauge,
    streams_open: Gauge,
    cached_tokens: Gauge,
    runs_active: Gauge,
    runs_ready: Gauge,
    runs_active_max: Gauge,
    store_writable: Gauge,
    store_damage: Counter,
    wal_bytes: Gauge,
    file_bytes: Gauge,
    commits: Counter,
    batches: Counter,
    rows: Counter,
    writer_micros: Counter,
    bytes_written: Counter,
    delivered: Counter,
    failed: Counter,
    dead: Counter,
    budget_stops: Counter,
    loops: Counter,
    unknown: Counter,
    deliveries_in_flight: Gauge,
    delivery_targets: Gauge,
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
    /// Makes the meters; the tools are those that calls are counted of.
    pub(crate) fn new(tools: &[ToolDescriptor]) -> Result<Self, MetersError> {
        let of_tools = Matcher::Full(tools::SECONDS_NAME.to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS)?
            .set_buckets_for_metric(of_tools, &tools::SECONDS)?
            .build_recorder();
        let counter = |name: &'static str, help: &'static str| {
            recorder.describe_counter(name.into(), None, help.into());
            recorder.register_counter(&Key::from_static_name(name), &METADATA)
        };
        let gauge = |name: &'static str, help: &'static str| {
            recorder.describe_gauge(name.into(), None, help.into());
            recorder.register_gauge(&Key::from_static_name(name), &METADATA)
        };
        recorder.describe_counter("dromia_http_requests_total".into(), None, "Answered requests.".into());
        recorder.describe_histogram(
            "dromia_http_request_seconds".into(),
            Some(Unit::Seconds),
            "Time from the routed request to its answer, including waits.".into(),
        );
        let tokens = |direction: &'static str| {
            let labels = vec![Label::new("direction", direction)];
            recorder.register_counter(&Key::from_parts("dromia_answered_tokens_total", labels), &METADATA)
        };
        recorder.describe_counter(
            "dromia_answered_tokens_total".into(),
            None,
            "Model tokens of all durable answers.".into(),
        );
        let deliveries = |state: &'static str| {
            let labels = vec![Label::new("state", state)];
            recorder.register_counter(&Key::from_parts("dromia_deliveries_total", labels), &METADATA)
        };
        recorder.describe_counter(
            "dromia_deliveries_total".into(),
            None,
            "Attempts at messages by resulting state, and dead messages.".into(),
        );
        let tasks = |state: TaskState| {
            let labels = vec![Label::new("state", state.as_str())];
            recorder.register_counter(&Key::from_parts("dromia_tasks_total", labels), &METADATA)
        };
        recorder.describe_counter(
            "dromia_tasks_total".into(),
            None,
            "Tasks and turns by resulting state since the start.".into(),
        );
        let stops = |reason: &'static str| {
            let labels = vec![Label::new("reason", reason)];
            recorder.register_counter(&Key::from_parts("dromia_run_stops_total", labels), &METADATA)
        };
        recorder.describe_counter(
            "dromia_run_stops_total".into(),
            None,
            "Runs that a budget or repeated calls stopped.".into(),
        );
        let refused = |reason: EdgeRefusal| {
            let labels = vec![Label::new("reason", reason.as_str())];
            let key = Key::from_parts("dromia_http_refusals_total", labels);
            (reason, recorder.register_counter(&key, &METADATA))
        };
        recorder.describe_counter(
            "dromia_http_refusals_total".into(),
            None,
            "Requests and connections that the server refused or dropped.".into(),
        );
        let gauges = GatewayGauges {
            connections_open: gauge("dromia_http_connections_open", "Open connections."),
            requests_in_flight: gauge("dromia_http_requests_in_flight", "Requests that hold a share."),
            streams_open: gauge("dromia_http_streams_open", "Open journal streams."),
            cached_tokens: gauge("dromia_credentials_cached", "Credentials in the cache."),
            runs_active: gauge("dromia_runs_active", "Runs with a task."),
            runs_ready: gauge("dromia_runs_ready", "Sessions and runs that wait for a task."),
            runs_active_max: gauge("dromia_runs_active_max", "The most runs with a task."),
            store_writable: gauge("dromia_store_writable", "1 while the store accepts writes."),
            store_damage: counter("dromia_store_damage_total", "Reads and writes of damaged data."),
            wal_bytes: gauge("dromia_store_wal_bytes", "Bytes in the write-ahead log."),
            file_bytes: gauge("dromia_store_file_bytes", "Bytes in the main file."),
            commits: counter("dromia_store_commits_total", "Transactions that became durable."),
            batches: counter("dromia_store_batches_total", "Batches that became durable."),
            rows: counter("dromia_store_rows_total", "Rows written."),
            writer_micros: counter("dromia_store_writer_micros_total", "CPU time of the writer."),
            bytes_written: counter("dromia_store_bytes_written_total", "Bytes written to disk."),
            delivered: deliveries("delivered"),
            failed: deliveries("failed"),
            dead: deliveries("dead"),
            budget_stops: stops("budget"),
            loops: stops("loop"),
            unknown: deliveries("unknown_after_send"),
            deliveries_in_flight: gauge("dromia_deliveries_in_flight", "Messages being sent."),
            delivery_targets: gauge("dromia_delivery_targets_open", "Targets with a message to deliver."),
        };
        Ok(Self {
            routes: ROUTES
                .iter()
                .map(|route| RouteMeters::new(&recorder, route.method, route.path))
                .collect(),
            unmatched: RouteMeters::new(&recorder, "any", "none"),
            refused: EdgeRefusal::ALL.map(refused).into(),
            input_tokens: tokens("input"),
            output_tokens: tokens("output"),
            tenants: TenantMeters::default(),
            tasks: TaskState::ALL.map(tasks),
            tools: ToolMeters::new(&recorder, tools),
            log: LogMeter(counter(
                "dromia_log_lines_dropped_total",
                "Lines of the log dropped because standard error was not read in time.",
            )),
            gauges,
            handle: recorder.handle(),
        })
    }

    /// Returns the meters of a route; what is not in the table counts as unmatched.
    pub(crate) fn of(&self, method: &str, path: &str) -> RouteMeters {
        let index = ROUTES.iter().position(|route| (route.method, route.path) == (method, path));
        index.and_then(|index| self.routes.get(index)).unwrap_or(&self.unmatched).clone()
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

    /// Returns the text that Prometheus reads.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts beyond 2^53 do not occur")]
    pub(crate) fn render(&self, core: &GatewayCore) -> String {
        let gauges = &self.gauges;
        gauges.connections_open.set(core.connections_open() as f64);
        gauges.requests_in_flight.set(core.requests_in_flight() as f64);
        gauges.streams_open.set(core.streams_open() as f64);
        gauges.cached_tokens.set(core.tokens.len() as f64);
        let load = core.ports.runs.engine_load();
        gauges.runs_active.set(load.active as f64);
        gauges.runs_ready.set(load.ready as f64);
        gauges.runs_active_max.set(load.active_max as f64);
        for (state, counter) in TaskState::ALL.into_iter().zip(&self.tasks) {
            counter.absolute(load.tasks.count_of(state));
        }
        gauges.budget_stops.absolute(load.budget_stops);
        gauges.loops.absolute(load.loops);
        self.input_tokens.absolute(load.input_tokens);
        self.output_tokens.absolute(load.output_tokens);
        let health = core.ports.store.store_health();
        gauges.store_writable.set(if health.read_only.is_none() { 1.0 } else { 0.0 });
        gauges.store_damage.absolute(health.damaged.as_ref().map_or(0, |damage| damage.met));
        gauges.wal_bytes.set(health.wal_bytes as f64);
        gauges.file_bytes.set(health.file_bytes as f64);
        let stats = core.ports.store.store_stats();
        gauges.commits.absolute(stats.commits);
        gauges.batches.absolute(stats.batches);
        gauges.rows.absolute(stats.rows);
        gauges.writer_micros.absolute(stats.writer_micros);
        gauges.bytes_written.absolute(stats.bytes_written);
        let outbox = core.ports.outbox.delivery_counts();
        gauges.delivered.absolute(outbox.delivered);
        gauges.failed.absolute(outbox.failed);
        gauges.dead.absolute(outbox.dead);
        gauges.unknown.absolute(outbox.unknown);
        gauges.deliveries_in_flight.set(outbox.in_flight as f64);
        gauges.delivery_targets.set(outbox.targets as f64);
        self.handle.render()
    }
}

impl fmt::Debug for GatewayMeters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meters").field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}
