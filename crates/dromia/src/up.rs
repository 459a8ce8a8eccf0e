//! `dromia up`: builds the rooms of a home, introduces them to one another, serves, drains.
//!
//! Order: read the configuration, open the store (which takes the home's lock), build, bind, announce, run. The
//! first line on standard output is the address. On SIGTERM or Ctrl-C: take no more, let turns end, leave; what
//! did not end is taken over at the next start. From the word to the end it takes `limits.drain_ms` at most: doors and
//! turns have one deadline. A second word ends it at once.

mod stop;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use dromia_contracts::audit::AuditLog;
use dromia_contracts::capability::Capabilities;
use dromia_contracts::egress::{Egress, Line, LineError, Plan, Route};
use dromia_contracts::gate::Gate;
use dromia_contracts::runtime::Runtime;
use dromia_contracts::store::Store;
use dromia_contracts::terms::Terms;
use dromia_contracts::tool::ToolHost;
use dromia_contracts::{Authority, Digest};
use dromia_engine::{Engine, Ports};
use dromia_gateway::{BuildError, Channels, Outbox, OutboxPorts};
use dromia_guard::{GrantGate, GuardedEgress, Policies, StoreCapabilities, StoreVault};
use dromia_models::Models;
use dromia_store::{Inspector, OpenError, SqliteStore, StoreConfig};
use dromia_tools::{AgentHomes, ExternalTool, Toolbox, ToolsConfig};
use tokio::time::Instant;

use crate::audit::{Book, HouseNotary, Keeper};
use crate::config::{self, Environment, External, Flag, Problem, Resolved, SetArguments, names};
use crate::home::Home;
use crate::keyfile::KeyFile;
use crate::keys::{self, VaultKeys};
use crate::log::{Form, Log};
use crate::obstacle;
use crate::outside;
use crate::policy;
use crate::post::HttpPost;
use crate::redact::{self, Redactor};
use crate::system::{self, Exit};
use crate::terms::Table;
use crate::walls::{self, Walls};
use crate::world;

use self::stop::{Ear, Word};

/// Reads an address as it is typed. A name is none: it may mean several.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write it as an IP address and a port, such as 127.0.0.1:7700".to_owned())
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  dromia up\n  dromia up --listen 127.0.0.1:0     take a free port; the first line says which"
)]
pub(crate) struct UpArguments {
    /// The TCP address to serve; beats DROMIA_LISTEN and `listen` in dromia.yaml. Without `http.tls` loopback only.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,

    #[command(flatten)]
    set: SetArguments,

    /// Write the log as JSON lines.
    #[arg(long)]
    log_json: bool,
}

/// How long the store may take to tell which names it has.
const NAMES_PATIENCE: Duration = Duration::from_secs(10);

/// Serves a home until it is told to stop.
pub(crate) fn run(home: &Home, arguments: &UpArguments) -> anyhow::Result<ExitCode> {
    let mut flags = arguments.set.flags();
    flags.extend(arguments.listen.map(|address| Flag {
        name: "--listen",
        key: "listen".to_owned(),
        value: address.to_string(),
    }));
    let resolved = config::load(home, &flags)?;
    home.check_store()?;
    let text = config::text(home)?;
    let written = serde_saphyr::from_str::<serde_json::Value>(&text).ok();
    let redactor = Redactor::of(home, &redact::variables(), written.as_ref());
    let log = Log::start(redactor, if arguments.log_json { Form::Json } else { Form::Text });
    for Problem { at, message, .. } in config::misspelt(&Environment::of_process(), &text) {
        tracing::warn!(%at, problem = %message, "a variable looks like a key's and is none");
    }
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = tokio.block_on(serve(home, resolved, &log));
    // Tasks that did not end in time are dropped: recovery takes their runs over.
    tokio.shutdown_timeout(Duration::from_millis(100));
    result
}

/// The rooms of a home, introduced to one another.
pub(crate) struct House {
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) engine: Engine,
    pub(crate) runtime: Runtime,
    pub(crate) authority: Authority,
    pub(crate) egress: Arc<GuardedEgress>,
    pub(crate) vault: Arc<StoreVault>,
    pub(crate) capabilities: Arc<StoreCapabilities>,
    pub(crate) tools: Arc<dyn ToolHost>,
    pub(crate) gate: Arc<dyn Gate>,
    pub(crate) policies: Policies,
    pub(crate) terms: Arc<dyn Terms>,
}

/// Opens the store and builds the engine; nothing runs yet.
pub(crate) fn build(home: &Home, resolved: &Resolved) -> anyhow::Result<House> {
    let runtime = world::runtime();
    let authority = Authority::claim();
    let sqlite =
        Arc::new(SqliteStore::open(StoreConfig::new(home.store())).map_err(|error| opened(home, error))?);
    let store: Arc<dyn Store> = Arc::clone(&sqlite) as _;
    let keys = KeyFile::new(home.vault_key(), Arc::clone(&runtime.ids));
    let keys = keys.beside(StoreConfig::new(home.store()));
    let vault = Arc::new(StoreVault::new(Arc::clone(&store), Arc::new(keys), runtime.clone()));
    let capabilities = StoreCapabilities::new(Arc::clone(&store), Arc::clone(&vault), runtime.clone());
    let capabilities = Arc::new(capabilities);
    let egress = outside::egress(resolved.reachable.opened.clone()).with_vault(Arc::clone(&vault));
    let egress = egress.with_capabilities(capabilities.live());
    let egress = Arc::new(egress);
    let models = Models::new(resolved.models.clone(), &runtime.clock, &*egress).map_err(|error| {
        let source =
            std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Exit::usage(format!("{}: {error}{source}", home.config().display()))
    })?;
    let held: Arc<dyn Capabilities> = Arc::clone(&capabilities) as _;
    let table = Table::new(resolved.said.clone(), Arc::clone(&store), authority.operator(), held);
    let terms: Arc<dyn Terms> = Arc::new(table);
    let way_out = egress.line(outside::programs(&resolved.reachable.limits))?;
    let tools = ToolsConfig {
        root: home.root().to_owned(),
        pace: resolved.tool_pace,
        hops_max: resolved.message_hops_max,
        sandboxes: Arc::new(Walls::new(resolved, Arc::clone(&store), authority.operator())),
        terms: Arc::clone(&terms),
        way_out,
        leaks: Arc::clone(&vault) as _,
    };
    let limits = resolved.reachable.limits.clone();
    let line = egress.line(Plan { route: Route::Granted, limits })?;
    let tools = Toolbox::new(tools, Arc::clone(&store), runtime.clone(), line);
    let tools = tools.with_external(external(resolved, &*egress)?);
    let policies = Policies::built_in()?.knowing(tools.manifests());
    let policies = policies.about_irreversible(resolved.irreversible);
    let names: Vec<_> = tools.descriptors().iter().map(|tool| tool.name.clone()).collect();
    let gate = GrantGate::new(policies.clone(), names).with_capabilities(capabilities.live());
    let tools: Arc<dyn ToolHost> = Arc::new(tools);
    let gate: Arc<dyn Gate> = Arc::new(gate.with_privileged(resolved.said.privileged()));
    let ports = Ports {
        store: Arc::clone(&store),
        model: Arc::new(models),
        tools: Arc::clone(&tools),
        gate: Arc::clone(&gate),
        terms: Arc::clone(&terms),
        leaks: Arc::clone(&vault) as _,
        homes: Arc::new(AgentHomes::new(home.root().to_owned())),
        runtime: runtime.clone(),
        authority: authority.clone(),
    };
    let engine = Engine::new(ports, resolved.engine.clone());
    capabilities.tell_of_changes(engine.rights_watch());
    Ok(House {
        store: sqlite,
        engine,
        runtime,
        authority,
        egress,
        vault,
        capabilities,
        tools,
        gate,
        policies,
        terms,
    })
}

/// A tool of the operator's own with the line to its server.
type Connected = (ExternalTool, Arc<dyn Line>);

/// Opens a line to the server of each tool of the operator's own.
fn external(resolved: &Resolved, egress: &dyn Egress) -> Result<Vec<Connected>, LineError> {
    let opened = |external: &External| Ok((external.tool.clone(), egress.line(external.plan())?));
    resolved.external.iter().map(opened).collect()
}

/// Builds the outbox and has the engine ring at its door.
fn outbox(house: &House, channels: Channels) -> Outbox {
    let ports = OutboxPorts {
        store: Arc::clone(&house.store) as _,
        post: Arc::new(HttpPost::new(Arc::clone(&house.egress) as _)),
        leaks: Arc::clone(&house.vault) as _,
        keys: Arc::new(VaultKeys(Arc::clone(&house.vault))),
        runtime: house.runtime.clone(),
        authority: house.authority.clone(),
    };
    let outbox = Outbox::new(ports, channels);
    house.engine.tell_of_deliveries(Arc::new(outbox.clone()));
    outbox
}

async fn serve(home: &Home, resolved: Resolved, log: &Log) -> anyhow::Result<ExitCode> {
    let (mut ear, mut hurry) = (Ear::open()?, Ear::open()?);
    let house = build(home, &resolved)?;
    log.know(&house.vault);
    keys::tell_locked(home, &house).await;
    keys::find(&house, &resolved.models, &resolved.channels).await?;
    policy::follow(home, &house.policies, Arc::clone(&house.runtime.clock))?;
    walls::clear(&resolved);
    tell_unmatched(home, &resolved).await;
    let socket = home.checked_socket()?;
    if let Some(dir) = socket.parent() {
        system::private_dir(dir)?;
    }
    let drain = Duration::from_millis(resolved.limits.drain_ms);
    let mut gateway = resolved.gateway(Some(socket));
    gateway.tls = gateway.tls.map(|files| files.below(home.root()));
    let outbox = outbox(&house, resolved.channels);
    let written = config::text(home)?;
    let book = Book::of(home);
    let key = Arc::new(book.key(house.runtime.ids.secret())?);
    let notary = HouseNotary::new(Arc::clone(&key), home, &written);
    let records: Arc<dyn AuditLog> = Arc::clone(&house.store) as _;
    let clock = Arc::clone(&house.runtime.clock);
    let keeper = Keeper::open(&book, key, Arc::clone(&records), house.authority.operator(), clock).await?;
    let ports = dromia_gateway::Ports {
        store: Arc::clone(&house.store) as _,
        runs: Arc::new(house.engine.clone()),
        outbox: outbox.clone(),
        tools: Arc::clone(&house.tools),
        gate: Arc::clone(&house.gate),
        terms: Arc::clone(&house.terms),
        vault: Arc::clone(&house.vault) as _,
        audit: records,
        notary: Arc::new(notary),
        capabilities: Arc::clone(&house.capabilities) as _,
        runtime: house.runtime.clone(),
        authority: house.authority.clone(),
    };
    let built = dromia_gateway::build(gateway, ports).await;
    let (gateway, handle) = built.map_err(|error| not_built(home, error))?;
    if let Some(door) = handle.tcp_address() {
        // Before any agent runs: none of them reaches this server by its own address, whatever is opened.
        house.egress.keep_from(door);
    }
    house.engine.tell_of_calls(Arc::new(handle.tool_meters()));
    house.engine.budgets_declare(&resolved.budgets).await?;
    house.engine.start();
    outbox.start();
    sweep(Arc::clone(&house.store));
    let applied = Digest::from_bytes(*blake3::hash(written.as_bytes()).as_bytes());
    let keeping = keeper.start(Arc::clone(&house.store) as _, applied);
    announce(&handle)?;

    let (engine, stopping) = (house.engine.clone(), outbox.clone());
    let told = OnceLock::new();
    let stop = async {
        if ear.word().await == Word::Interrupt {
            anstream::eprintln!("{}", stop::told(engine.active(), drain));
        }
        told.get_or_init(Instant::now);
        tracing::info!("draining");
        engine.drain();
        stopping.drain();
    };
    let drained = async {
        gateway.run(stop).await;
        // The gateway used up some of that time; what is left of it is the turns' and the messages'.
        let deadline = told.get().copied().unwrap_or_else(Instant::now) + drain;
        let is_at_work = || house.engine.active() > 0 || outbox.in_flight() > 0;
        while is_at_work() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        keeping.stop().await;
    };
    tokio::select! {
        () = Box::pin(drained) => Ok(ExitCode::SUCCESS),
        () = hurry.twice() => {
            tracing::warn!("told to end at once; what is open goes on at the next start");
            Ok(dromia_cli::Exit::Interrupted.into())
        }
    }
}

/// Says which names of the configuration nothing has, as `doctor` does. What nobody could look up is not told.
async fn tell_unmatched(home: &Home, resolved: &Resolved) {
    if resolved.mentions.is_empty() {
        return;
    }
    let platforms = names::platforms(&resolved.mentions);
    let look = Inspector::new(StoreConfig::new(home.store()), NAMES_PATIENCE);
    let found = match tokio::task::spawn_blocking(move || look.names(&platforms)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the names in dromia.yaml could not be compared with the store");
            None
        }
        Err(_) => None,
    };
    for Problem { at, message, .. } in names::unmatched(&resolved.mentions, found.as_ref()) {
        tracing::warn!(%at, problem = %message, "dromia.yaml has a name that nothing has; what is said of it counts for nobody");
    }
}

/// Removes, in the background, the files that an earlier life left without a row.
fn sweep(store: Arc<SqliteStore>) {
    tokio::spawn(async move {
        match store.sweep().await {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "files without a row were removed"),
            Err(error) => tracing::warn!(%error, "the sweep must wait for the next start"),
        }
    });
}

/// Says where the server is reached; a program that started it reads the first line.
fn announce(handle: &dromia_gateway::Handle) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    if let Some(address) = handle.tcp_address() {
        let scheme = if handle.is_encrypted() { "https" } else { "http" };
        writeln!(out, "listening {scheme}://{address}").context("failed to announce the address")?;
    }
    out.flush().context("failed to announce the address")
}

/// Says what an operator can do about a door that does not open.
fn not_built(home: &Home, error: BuildError) -> anyhow::Error {
    let socket = home.socket().display().to_string();
    match error {
        BuildError::Config(problem) => Exit::usage(format!(
            "{problem}; mend it in {}, or choose an address with --listen 127.0.0.1:0",
            home.config().display()
        )),
        BuildError::Tls(problem) => Exit::usage(format!(
            "{problem}; mend http.tls in {}, and look with `dromia doctor --only tls`",
            home.config().display()
        )),
        BuildError::SocketInUse { path } => Exit::conflict(format!(
            "another server answers on {}; stop it, or use another home with --home",
            path.display()
        )),
        BuildError::Bind { door, source } if door == socket => Exit::conflict(format!(
            "failed to bind {door}: {source}; remove what lies there, or use another home with --home"
        )),
        BuildError::Bind { door, source } => Exit::conflict(format!(
            "failed to bind {door}: {source}; stop whatever has it, or choose another address with --listen 127.0.0.1:0"
        )),
        other @ BuildError::Meters(_) => other.into(),
    }
}

/// Says what an operator can do about a store that does not open.
pub(crate) fn opened(home: &Home, error: OpenError) -> anyhow::Error {
    if let Some(message) = obstacle::told(home.root(), &error) {
        return Exit { code: 1, message }.into();
    }
    let place = home.root().display();
    match error {
        OpenError::HomeLocked { pid } => {
            let who = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            Exit::conflict(format!("{place} is in use by {who}; stop it, or use another home with --home"))
        }
        OpenError::NewerSchema { found, known } => Exit::conflict(format!(
            "the store in {place} has schema {found} and this program knows {known}; use the newer program"
        )),
        OpenError::NotOurs => Exit::conflict(format!("the database in {place} belongs to another program")),
        OpenError::LogHeld => Exit::conflict(format!(
            "another process reads the database in {place}, so what an earlier run left in its log could not be made \
             durable; end it (a `dromia audit verify` that still runs, an open `sqlite3`) and start again"
        )),
        OpenError::Damaged { problem } => Exit {
            code: 1,
            message: format!("the store in {place} is damaged: {problem}; restore it from a backup"),
        }
        .into(),
        other => anyhow::Error::new(other).context(format!("failed to open the store in {place}")),
    }
}
