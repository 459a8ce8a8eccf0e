//! What a diagnosis asks outside the files of the home: the system, the server, the network.

use std::cell::OnceCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dromia_api::agent::AgentResource;
use dromia_api::delivery::DeliveryResource;
use dromia_api::run::RunResource;
use dromia_api::secret::SecretResource;
use dromia_api::session::SessionResource;
use dromia_api::status::NodeStatus;
use dromia_api::tenant::TenantResource;
use dromia_api::token::TokenResource;
use dromia_api::{ListPage, SecretPlacement, TENANT_DEFAULT};
use dromia_cli::{ApiClient, Error, GlobalOptions, Outcome};
use dromia_contracts::egress::{Egress as _, EgressFault};
use dromia_contracts::runtime::Clock;
use dromia_guard::GuardedEgress;
use dromia_sandbox::probe::{self, BackendGap, BackendKind, BackendParts};
use dromia_sandbox::{DockerEngine, FirecrackerParts};
use dromia_store::{NameInventory, TenantNames};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::config;
use crate::egress_client;
use crate::home::Home;
use crate::runtime;

/// How long the server of a model or our own may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most tenants that are asked about their runs.
const TENANTS_MAX: usize = 32;

/// The most pages of a list of names that are asked for.
const PAGES_MAX: usize = 16;

/// How long input must wait to be called stuck: a turn that ends hands its session on sooner.
const STUCK_AFTER: Duration = Duration::from_millis(300);

/// A bound that the system sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SystemLimit {
    /// Open files of a process.
    Files,
    /// Bytes of one file.
    FileBytes,
}

/// What a file system says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSystem {
    pub(crate) free_bytes: u64,
    /// Nothing where the file system does not count them.
    pub(crate) free_inodes: Option<u64>,
    /// Its kind, as far as it is known.
    pub(crate) kind: Option<String>,
}

/// The server of the home.
#[derive(Debug)]
pub(crate) enum ServerProbe {
    /// None runs.
    Absent,
    /// Something has the socket and does not answer as it should.
    Mute(String),
    /// It answers.
    Answers(Box<ServerAnswers>),
}

/// What the server says.
#[derive(Debug)]
pub(crate) struct ServerAnswers {
    pub(crate) status: NodeStatus,
    /// Held runs of all tenants.
    pub(crate) held: u64,
    /// Sessions whose input no run took between two looks.
    pub(crate) stuck: Vec<String>,
    /// Messages of all tenants that are given up, or may not have arrived; those of one page of each.
    pub(crate) stopped: u64,
    /// When the oldest message was prepared that waits, among the newest of each tenant.
    pub(crate) oldest_delivery: Option<Timestamp>,
}

/// One backend of process isolation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackendStatus {
    pub(crate) name: &'static str,
    pub(crate) tier: &'static str,
    /// What is missing and what adds it; nothing if it works.
    pub(crate) missing: Option<(String, String)>,
    /// What it lacks on this kernel, though it works.
    pub(crate) gaps: Vec<BackendGap>,
}

/// A secret of a tenant, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretRow {
    pub(crate) name: String,
    /// Its server: scheme, host and port.
    pub(crate) host: String,
    pub(crate) placement: SecretPlacement,
}

/// What lies outside the home's files. Nothing here changes anything.
pub(crate) trait DoctorWorld {
    /// The time.
    fn now(&self) -> Timestamp;
    /// When this program was made, if its file says so.
    fn built_at(&self) -> Option<Timestamp>;
    /// The file system of a path, or of the nearest parent that is there.
    fn file_system(&self, path: &Path) -> io::Result<FileSystem>;
    /// A bound; nothing if there is none.
    fn system_limit(&self, limit: SystemLimit) -> Option<u64>;
    /// The memory that a process may take; nothing if it is unknown.
    fn memory_bytes(&self) -> Option<u64>;
    /// Whether an address can be bound.
    fn try_port(&self, address: SocketAddr) -> io::Result<()>;
    /// The server, asked once.
    fn server_probe(&self) -> &ServerProbe;
    /// Whether the server knows an agent of the default tenant; nothing if it does not say.
    fn has_agent(&self, handle: &str) -> Option<bool>;
    /// The names that the server has, and which of some platforms its sessions are on; nothing if it does not say all.
    fn known_names(&self, platforms: &[String]) -> Option<NameInventory>;
    /// The secrets of a tenant; nothing if the server does not say.
    fn tenant_secrets(&self, tenant: &str) -> Option<Vec<SecretRow>>;
    /// A backend of process isolation by its name, tried out once; nothing if it cannot be tried.
    fn backend_status(&self, name: &str) -> Option<&BackendStatus>;
    /// Whether an HTTP server answers at all, whatever it answers.
    fn reach_url(&self, url: &str) -> Result<(), String>;
}

/// The world as it is.
pub(crate) struct RealWorld {
    tokio: Runtime,
    clock: Arc<dyn Clock>,
    egress: GuardedEgress,
    socket: PathBuf,
    server: OnceCell<ServerProbe>,
    walls: [OnceCell<Option<BackendStatus>>; BackendKind::ALL.len()],
    /// The Docker engine of the configuration, if that is valid and names one.
    engine: Option<DockerEngine>,
    /// The parts of virtual machines, if it names any.
    monitor: Option<FirecrackerParts>,
    /// The directories of control groups that it names.
    groups: Vec<PathBuf>,
}

impl RealWorld {
    pub(crate) fn new(home: &Home, global: &GlobalOptions) -> anyhow::Result<Self> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = global.socket.clone().unwrap_or_else(|| home.socket_path());
        let (clock, egress) = (runtime::real_runtime().clock, egress_client::of_home(home));
        let named = config::load_resolved(home, &[]).map(|resolved| {
            (resolved.programs.containers, resolved.programs.monitor, resolved.programs.control_groups)
        });
        let (engine, monitor, groups) = named.unwrap_or_default();
        let (server, walls) = (OnceCell::new(), std::array::from_fn(|_| OnceCell::new()));
        Ok(Self { tokio, clock, egress, socket, server, walls, engine, monitor, groups })
    }

    fn client_for_tenant(&self, tenant: &str) -> ApiClient {
        ApiClient::new(self.socket.clone(), tenant.to_owned(), Some(PATIENCE))
    }

    async fn ask_server(&self) -> Outcome<ServerAnswers> {
        let operator = self.client_for_tenant(TENANT_DEFAULT);
        let status: NodeStatus = operator.get("/v1/status").await?;
        let tenants: ListPage<TenantResource> = operator.get("/v1/tenants?limit=256").await?;
        let mut held = 0;
        let mut waiting = Vec::new();
        let (mut stopped, mut oldest_delivery) = (0, None::<Timestamp>);
        for tenant in tenants.items.iter().take(TENANTS_MAX) {
            let client = self.client_for_tenant(tenant.handle.as_str());
            held += client.get::<ListPage<RunResource>>("/v1/runs?status=held&limit=256").await?.items.len()
                as u64;
            let sessions: ListPage<SessionResource> = client.get("/v1/sessions?limit=256").await?;
            let idle =
                sessions.items.into_iter().filter(|session| session.waiting > 0 && session.active.is_none());
            waiting.extend(idle.map(|session| (client.clone(), session)));
            for state in ["dead", "unknown_after_send"] {
                stopped +=
                    client.get::<ListPage<DeliveryResource>>(&deliveries_path(state)).await?.items.len()
                        as u64;
            }
            for state in ["prepared", "failed"] {
                let open: ListPage<DeliveryResource> = client.get(&deliveries_path(state)).await?;
                let oldest = open.items.iter().map(|delivery| delivery.prepared_at).min();
                oldest_delivery = [oldest_delivery, oldest].into_iter().flatten().min();
            }
        }
        let mut stuck = Vec::new();
        if !waiting.is_empty() {
            tokio::time::sleep(STUCK_AFTER).await;
        }
        for (client, before) in waiting.into_iter().take(TENANTS_MAX) {
            let after: SessionResource = client.get(&format!("/v1/sessions/{}", before.id)).await?;
            if after.active.is_none() && after.waiting >= before.waiting {
                stuck.push(after.id.to_string());
            }
        }
        Ok(ServerAnswers { status, held, stuck, stopped, oldest_delivery })
    }

    /// Asks for all names; nothing if there are more than are asked for.
    async fn ask_names(&self, platforms: &[String]) -> Outcome<Option<NameInventory>> {
        let mut names = NameInventory::default();
        let Some(tenants) =
            fetch_all::<TenantResource>(&self.client_for_tenant(TENANT_DEFAULT), "/v1/tenants").await?
        else {
            return Ok(None);
        };
        if tenants.len() > TENANTS_MAX {
            return Ok(None);
        }
        for tenant in tenants {
            let client = self.client_for_tenant(tenant.handle.as_str());
            let agents = fetch_all::<AgentResource>(&client, "/v1/agents").await?;
            let tokens = fetch_all::<TokenResource>(&client, "/v1/tokens").await?;
            let (Some(agents), Some(tokens)) = (agents, tokens) else { return Ok(None) };
            let tokens = tokens.into_iter().filter(|token| token.revoked_at.is_none());
            let of_tenant = TenantNames {
                agents: agents.into_iter().map(|agent| agent.handle.to_string()).collect(),
                tokens: tokens.map(|token| token.name).collect(),
            };
            names.tenants.insert(tenant.handle.to_string(), of_tenant);
            if platforms.is_empty() {
                continue;
            }
            // A platform that is on none of many pages may be on a later one, so it is not called unknown.
            let sessions = fetch_all::<SessionResource>(&client, "/v1/sessions").await?;
            let is_on = |platform: &&String| {
                sessions.as_ref().is_none_or(|all| all.iter().any(|session| session.platform == **platform))
            };
            names.platforms.extend(platforms.iter().filter(is_on).cloned());
        }
        Ok(Some(names))
    }
}

/// Asks for a whole list; nothing if it has too many pages.
async fn fetch_all<T: DeserializeOwned>(client: &ApiClient, path: &str) -> Outcome<Option<Vec<T>>> {
    let (mut items, mut after) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let page: ListPage<T> = client.get(&format!("{path}?limit=256{after}")).await?;
        items.extend(page.items);
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => return Ok(Some(items)),
        }
    }
    Ok(None)
}

fn deliveries_path(state: &str) -> String {
    format!("/v1/deliveries?state={state}&limit=256")
}

impl DoctorWorld for RealWorld {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn built_at(&self) -> Option<Timestamp> {
        let program = std::env::current_exe().ok()?;
        Timestamp::try_from(std::fs::metadata(program).ok()?.modified().ok()?).ok()
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        let path = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
        let found = rustix::fs::statvfs(path)?;
        // A file system without a table of names says that it has none at all.
        let free_inodes = (found.f_files > 0).then_some(found.f_favail);
        let free_bytes = found.f_bavail.saturating_mul(found.f_frsize);
        Ok(FileSystem { free_bytes, free_inodes, kind: filesystem_kind(path) })
    }

    fn system_limit(&self, limit: SystemLimit) -> Option<u64> {
        match limit {
            // A server raises its own.
            SystemLimit::Files => crate::file_limit::open_files_max(),
            SystemLimit::FileBytes => rustix::process::getrlimit(rustix::process::Resource::Fsize).current,
        }
    }

    fn memory_bytes(&self) -> Option<u64> {
        let number = |file: &str| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        let group = number("/sys/fs/cgroup/memory.max")
            .or_else(|| number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
        let space = rustix::process::getrlimit(rustix::process::Resource::As).current;
        let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
            line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
        });
        [group, space, machine].into_iter().flatten().min()
    }

    fn try_port(&self, address: SocketAddr) -> io::Result<()> {
        TcpListener::bind(address).map(drop)
    }

    fn server_probe(&self) -> &ServerProbe {
        self.server.get_or_init(|| match self.tokio.block_on(self.ask_server()) {
            Ok(answers) => ServerProbe::Answers(Box::new(answers)),
            Err(Error::Unreachable { .. }) => ServerProbe::Absent,
            Err(problem) => ServerProbe::Mute(problem.to_string()),
        })
    }

    fn has_agent(&self, handle: &str) -> Option<bool> {
        let client = self.client_for_tenant(TENANT_DEFAULT);
        let path = format!("/v1/agents/{handle}");
        match self.tokio.block_on(client.get::<dromia_api::agent::AgentResource>(&path)) {
            Ok(_) => Some(true),
            Err(Error::Problem(problem)) if problem.status == 404 => Some(false),
            Err(_) => None,
        }
    }

    fn known_names(&self, platforms: &[String]) -> Option<NameInventory> {
        self.tokio.block_on(self.ask_names(platforms)).ok().flatten()
    }

    fn tenant_secrets(&self, tenant: &str) -> Option<Vec<SecretRow>> {
        let client = self.client_for_tenant(tenant);
        match self.tokio.block_on(client.get::<ListPage<SecretResource>>("/v1/secrets?limit=256")) {
            Ok(listed) => {
                let kept = |SecretResource { name, host, placement, .. }| SecretRow { name, host, placement };
                Some(listed.items.into_iter().map(kept).collect())
            }
            // There is no such tenant.
            Err(Error::Problem(problem)) if problem.status == 404 => Some(Vec::new()),
            Err(_) => None,
        }
    }

    fn backend_status(&self, name: &str) -> Option<&BackendStatus> {
        let number = BackendKind::ALL.iter().position(|kind| kind.name() == name)?;
        let tried = || {
            let helper = crate::sandbox::helper_program().ok()?;
            let (engine, monitor) = (self.engine.clone(), self.monitor.clone());
            let machine = BackendParts { helper, engine, monitor, groups: self.groups.clone() };
            let backend = probe::probe_one(&machine, BackendKind::ALL[number]);
            Some(BackendStatus {
                name: backend.name,
                tier: backend.tier.as_str(),
                missing: backend.state.err().map(|missing| (missing.what, missing.fix)),
                gaps: backend.gaps,
            })
        };
        self.walls[number].get_or_init(tried).as_ref()
    }

    fn reach_url(&self, url: &str) -> Result<(), String> {
        let line = self
            .egress
            .open_client(egress_client::probe_plan(url, PATIENCE))
            .map_err(|error| error.to_string())?;
        let asked = line.send_request(egress_client::get_request(url.to_owned(), Vec::new()));
        match self.tokio.block_on(asked).map_err(|error| error.failure) {
            // Whatever it answers, it answers.
            Ok(_) | Err(EgressFault::TooLarge { .. } | EgressFault::Redirects { .. }) => Ok(()),
            Err(EgressFault::Late(_)) => Err("it does not answer".to_owned()),
            Err(EgressFault::Unreachable) => Err("no connection".to_owned()),
            Err(failure) => Err(failure.to_string()),
        }
    }
}

#[cfg(target_os = "linux")]
fn filesystem_kind(path: &Path) -> Option<String> {
    /// The numbers by which Linux knows its file systems.
    const KINDS: &[(u64, &str)] = &[
        (0x6969, "nfs"),
        (0x517b, "smb"),
        (0xfe53_4d42, "smb2"),
        (0xff53_4d42, "cifs"),
        (0x0102_1997, "9p"),
        (0x00c3_6400, "ceph"),
        (0x5346_414f, "afs"),
        (0x6573_5546, "fuse"),
        (0x0bd0_0bd0, "lustre"),
        (0x0102_1994, "tmpfs"),
        (0xef53, "ext4"),
        (0x5846_5342, "xfs"),
        (0x9123_683e, "btrfs"),
        (0x2fc1_2fc1, "zfs"),
        (0x794c_7630, "overlay"),
    ];
    let found = rustix::fs::statfs(path).ok()?;
    // The field is signed on some machines; the numbers have 32 bits on all.
    #[expect(clippy::cast_sign_loss, reason = "only the low 32 bits are compared")]
    let number = found.f_type as u64 & 0xffff_ffff;
    KINDS.iter().find(|(known, _)| *known == number).map(|(_, name)| (*name).to_owned())
}

#[cfg(not(target_os = "linux"))]
fn kind(_: &Path) -> Option<String> {
    None
}
