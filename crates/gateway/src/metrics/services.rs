//! Meters of the services behind the gateway. They are read from the services when the text is made.

#![expect(clippy::cast_precision_loss, reason = "a gauge is a float; counts beyond 2^53 do not occur")]

use ::metrics::{Counter, Gauge};
use dromia_contracts::runs::EngineLoad;
use dromia_contracts::store::Store;
use dromia_contracts::task::TaskState;

use super::GatewayMeters;
use super::registry::MeterRegistry;
use crate::core::GatewayCore;
use crate::outbox::OutboxCounts;

/// The meters of each service.
pub(super) struct ServiceMeters {
    http: HttpGauges,
    engine: EngineMeters,
    store: StoreMeters,
    outbox: OutboxMeters,
}

impl ServiceMeters {
    pub(super) fn new(registry: MeterRegistry<'_>) -> Self {
        Self {
            http: HttpGauges::new(registry),
            engine: EngineMeters::new(registry),
            store: StoreMeters::new(registry),
            outbox: OutboxMeters::new(registry),
        }
    }
}

impl GatewayMeters {
    /// Returns the text that Prometheus reads.
    pub(crate) fn render(&self, core: &GatewayCore) -> String {
        let ServiceMeters { http, engine, store, outbox } = &self.services;
        http.read_core(core);
        engine.read_load(core.ports.runs.engine_load());
        store.read_store(&*core.ports.store);
        outbox.read_counts(core.ports.outbox.delivery_counts());
        self.handle.render()
    }
}

struct HttpGauges {
    connections_open: Gauge,
    requests_in_flight: Gauge,
    streams_open: Gauge,
    cached_tokens: Gauge,
}

impl HttpGauges {
    fn new(registry: MeterRegistry<'_>) -> Self {
        Self {
            connections_open: registry.gauge("dromia_http_connections_open", "Open connections."),
            requests_in_flight: registry
                .gauge("dromia_http_requests_in_flight", "Requests that hold a share."),
            streams_open: registry.gauge("dromia_http_streams_open", "Open journal streams."),
            cached_tokens: registry.gauge("dromia_credentials_cached", "Credentials in the cache."),
        }
    }

    fn read_core(&self, core: &GatewayCore) {
        self.connections_open.set(core.connections_open() as f64);
        self.requests_in_flight.set(core.requests_in_flight() as f64);
        self.streams_open.set(core.streams_open() as f64);
        self.cached_tokens.set(core.caches.tokens.len() as f64);
    }
}

struct EngineMeters {
    active: Gauge,
    ready: Gauge,
    active_max: Gauge,
    /// By state, in the order of [`TaskState::ALL`].
    tasks: [Counter; TaskState::ALL.len()],
    budget_stops: Counter,
    loops: Counter,
    input_tokens: Counter,
    output_tokens: Counter,
}

impl EngineMeters {
    fn new(registry: MeterRegistry<'_>) -> Self {
        let [budget_stops, loops] = registry.labelled_counters(
            "dromia_run_stops_total",
            "Runs that a budget or repeated calls stopped.",
            "reason",
            ["budget", "loop"],
        );
        let [input_tokens, output_tokens] = registry.labelled_counters(
            "dromia_answered_tokens_total",
            "Model tokens of all durable answers.",
            "direction",
            ["input", "output"],
        );
        Self {
            active: registry.gauge("dromia_runs_active", "Runs with a task."),
            ready: registry.gauge("dromia_runs_ready", "Sessions and runs that wait for a task."),
            active_max: registry.gauge("dromia_runs_active_max", "The most runs with a task."),
            tasks: registry.labelled_counters(
                "dromia_tasks_total",
                "Tasks and turns by resulting state since the start.",
                "state",
                TaskState::ALL.map(TaskState::as_str),
            ),
            budget_stops,
            loops,
            input_tokens,
            output_tokens,
        }
    }

    fn read_load(&self, load: EngineLoad) {
        self.active.set(load.active as f64);
        self.ready.set(load.ready as f64);
        self.active_max.set(load.active_max as f64);
        for (state, counter) in TaskState::ALL.into_iter().zip(&self.tasks) {
            counter.absolute(load.tasks.count_of(state));
        }
        self.budget_stops.absolute(load.budget_stops);
        self.loops.absolute(load.loops);
        self.input_tokens.absolute(load.input_tokens);
        self.output_tokens.absolute(load.output_tokens);
    }
}

struct StoreMeters {
    writable: Gauge,
    damage: Counter,
    wal_bytes: Gauge,
    file_bytes: Gauge,
    commits: Counter,
    batches: Counter,
    rows: Counter,
    writer_micros: Counter,
    bytes_written: Counter,
}

impl StoreMeters {
    fn new(registry: MeterRegistry<'_>) -> Self {
        Self {
            writable: registry.gauge("dromia_store_writable", "1 while the store accepts writes."),
            damage: registry.counter("dromia_store_damage_total", "Reads and writes of damaged data."),
            wal_bytes: registry.gauge("dromia_store_wal_bytes", "Bytes in the write-ahead log."),
            file_bytes: registry.gauge("dromia_store_file_bytes", "Bytes in the main file."),
            commits: registry.counter("dromia_store_commits_total", "Transactions that became durable."),
            batches: registry.counter("dromia_store_batches_total", "Batches that became durable."),
            rows: registry.counter("dromia_store_rows_total", "Rows written."),
            writer_micros: registry.counter("dromia_store_writer_micros_total", "CPU time of the writer."),
            bytes_written: registry.counter("dromia_store_bytes_written_total", "Bytes written to disk."),
        }
    }

    fn read_store(&self, store: &dyn Store) {
        let (health, stats) = (store.store_health(), store.store_stats());
        self.writable.set(if health.read_only.is_none() { 1.0 } else { 0.0 });
        self.damage.absolute(health.damaged.as_ref().map_or(0, |damage| damage.met));
        self.wal_bytes.set(health.wal_bytes as f64);
        self.file_bytes.set(health.file_bytes as f64);
        self.commits.absolute(stats.commits);
        self.batches.absolute(stats.batches);
        self.rows.absolute(stats.rows);
        self.writer_micros.absolute(stats.writer_micros);
        self.bytes_written.absolute(stats.bytes_written);
    }
}

struct OutboxMeters {
    delivered: Counter,
    failed: Counter,
    dead: Counter,
    unknown: Counter,
    in_flight: Gauge,
    targets: Gauge,
}

impl OutboxMeters {
    fn new(registry: MeterRegistry<'_>) -> Self {
        let [delivered, failed, dead, unknown] = registry.labelled_counters(
            "dromia_deliveries_total",
            "Attempts at messages by resulting state, and dead messages.",
            "state",
            ["delivered", "failed", "dead", "unknown_after_send"],
        );
        Self {
            delivered,
            failed,
            dead,
            unknown,
            in_flight: registry.gauge("dromia_deliveries_in_flight", "Messages being sent."),
            targets: registry.gauge("dromia_delivery_targets_open", "Targets with a message to deliver."),
        }
    }

    fn read_counts(&self, counts: OutboxCounts) {
        self.delivered.absolute(counts.delivered);
        self.failed.absolute(counts.failed);
        self.dead.absolute(counts.dead);
        self.unknown.absolute(counts.unknown);
        self.in_flight.set(counts.in_flight as f64);
        self.targets.set(counts.targets as f64);
    }
}
