//! Containers that are kept warm for the next program of the same family.
//!
//! A container belongs to one run, one agent, one label, one workspace and one set of bounds; a program with another of
//! these gets another container. It is lent to one program at a time, and comes back only if that program ended by
//! itself. Idle ones are few, and each for a short while; they go when their run comes to rest, and with this server,
//! however that ends: each is held by a helper, whose lifeline is in here.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dromia_contracts::sandbox::{
    ProcessEvent, ProcessExit, ProcessSpec, SandboxFamily, SandboxMount, SandboxProcess,
};
use dromia_contracts::{BoxFuture, RunId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::order::HelperOrder;
use crate::process::RunningProcess;
use crate::{HELPER_NAME, helper};

/// The words to a helper that keeps a container: a program begins there, or none is left.
const BUSY: u8 = b'b';
pub(crate) const IDLE: u8 = b'i';

/// The most idle containers; one more takes the place of the one that is idle for longest.
const IDLE_MAX: usize = 8;

/// How long a container may take to start.
const RISE: Duration = Duration::from_secs(30);

/// The longest name of a container.
const NAME_BYTES_MAX: usize = 128;

/// Which programs may run in a container, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContainerKey {
    family: SandboxFamily,
    workspace: PathBuf,
    mounts: Vec<SandboxMount>,
    /// What of the workspace a container that is made now would guard; one that was made before guards what was there then.
    guarded: Vec<PathBuf>,
    memory_bytes: u64,
    disk_bytes: u64,
    processes: u32,
}

impl ContainerKey {
    /// The key of a program; nothing if it has no family. What a container is made with belongs to it.
    pub(super) fn for_spec(spec: &ProcessSpec) -> Option<Self> {
        Some(Self {
            family: spec.family?,
            workspace: spec.workspace.clone(),
            mounts: spec.mounts.clone(),
            guarded: helper::open_over_no_link(&spec.workspace)
                .and_then(|top| helper::present_guards(&top))
                .unwrap_or_default(),
            memory_bytes: spec.limits.memory_bytes,
            disk_bytes: spec.limits.disk_bytes,
            processes: spec.limits.processes,
        })
    }
}

/// A container, and the helper that keeps it. Dropping it takes it away, in a while.
#[derive(Debug)]
pub(super) struct WarmContainer {
    key: ContainerKey,
    name: String,
    control: UnixStream,
    helper: Child,
}

impl WarmContainer {
    /// Has a container made. Whatever goes wrong is no more than that none is kept: the program gets one of its own.
    pub(super) async fn make_warm(helper: &Path, key: ContainerKey, order: &HelperOrder) -> Option<Self> {
        tokio::time::timeout(RISE, Self::try_make(helper, key, order)).await.ok()?.ok()
    }

    async fn try_make(helper: &Path, key: ContainerKey, order: &HelperOrder) -> io::Result<Self> {
        let text = order.encode()?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let helper = Command::new(helper)
            .arg0(HELPER_NAME)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        ours.set_nonblocking(true)?;
        let mut control = UnixStream::from_std(ours)?;
        control.write_all(&text).await?;
        let mut said = Vec::new();
        loop {
            if let Some((b'\n', name)) = said.split_last() {
                let name = String::from_utf8(name.to_vec()).map_err(io::Error::other)?;
                return Ok(Self { key, name, control, helper });
            }
            // A report is no name, and longer than one; so is its end.
            if control.read_buf(&mut said).await? == 0 || said.len() > NAME_BYTES_MAX {
                return Err(io::Error::other("no container is kept"));
            }
        }
    }

    /// The container's name.
    pub(super) fn container_name(&self) -> &str {
        &self.name
    }

    /// Sends a word to the helper; returns whether it is there.
    fn tell_helper(&mut self, word: u8) -> bool {
        matches!(self.helper.try_wait(), Ok(None)) && matches!(self.control.try_write(&[word]), Ok(1))
    }
}

/// The containers that are idle, the one longest so first.
#[derive(Debug, Default)]
pub(super) struct ContainerPool {
    idle: Mutex<Vec<WarmContainer>>,
}

impl ContainerPool {
    /// Lends a container, if one is there for this key.
    pub(super) fn take_matching(&self, key: &ContainerKey) -> Option<WarmContainer> {
        let mut idle = self.lock_idle();
        let number = idle.iter().position(|kept| kept.key == *key)?;
        let mut kept = idle.remove(number);
        drop(idle);
        // One that went meanwhile is not lent.
        kept.tell_helper(BUSY).then_some(kept)
    }

    fn give_back(&self, mut kept: WarmContainer) {
        if !kept.tell_helper(IDLE) {
            return;
        }
        let mut idle = self.lock_idle();
        idle.push(kept);
        let over = idle.len().saturating_sub(IDLE_MAX);
        idle.drain(..over);
    }

    /// Takes away what is kept for a run.
    pub(super) fn let_go(&self, run: RunId) {
        self.lock_idle().retain(|kept| kept.key.family.run != run);
    }

    fn lock_idle(&self) -> MutexGuard<'_, Vec<WarmContainer>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program in a container that was lent to it.
#[derive(Debug)]
pub(super) struct PooledProcess {
    running: RunningProcess,
    kept: Option<WarmContainer>,
    pool: Arc<ContainerPool>,
}

impl PooledProcess {
    pub(super) fn new(running: RunningProcess, kept: WarmContainer, pool: Arc<ContainerPool>) -> Self {
        Self { running, kept: Some(kept), pool }
    }
}

impl SandboxProcess for PooledProcess {
    fn next(&mut self) -> BoxFuture<'_, Option<ProcessEvent>> {
        Box::pin(async move {
            let event = self.running.next().await;
            if let Some(ProcessEvent::Ended(ending)) = &event {
                // Its helper took it away in every other case.
                let kept = self.kept.take().filter(|_| matches!(ending, ProcessExit::Exited { .. }));
                if let Some(kept) = kept {
                    self.pool.give_back(kept);
                }
            }
            event
        })
    }

    fn stop(&mut self) {
        self.running.stop();
    }

    fn take_proxy_socket(&mut self) -> Option<TcpListener> {
        self.running.take_proxy_socket()
    }
}

#[cfg(test)]
mod tests {
    use dromia_contracts::AgentId;
    use dromia_contracts::label::Label;
    use dromia_contracts::sandbox::{NetworkAccess, ProcessLimits};

    use super::*;

    fn spec() -> ProcessSpec {
        ProcessSpec {
            argv: vec!["true".to_owned()],
            env: Vec::new(),
            workspace: "/srv/w".into(),
            reference: None,
            cwd: PathBuf::new(),
            mounts: Vec::new(),
            limits: ProcessLimits::DEFAULT,
            network: NetworkAccess::None,
            family: Some(SandboxFamily {
                run: RunId::from_bytes([1; 16]),
                agent: AgentId::from_bytes([2; 16]),
                label: Label::ACTOR_TEXT,
            }),
        }
    }

    fn of(change: fn(&mut SandboxFamily)) -> ProcessSpec {
        let mut spec = spec();
        change(spec.family.as_mut().expect("it has one"));
        spec
    }

    /// A container in name only, whose helper is a process that waits, and the other end of its lifeline.
    async fn kept(key: ContainerKey) -> (WarmContainer, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a socket");
        let control = UnixStream::from_std(ours).expect("a socket");
        control.writable().await.expect("it is empty");
        let helper = Command::new("/bin/sleep").arg("600").kill_on_drop(true).spawn().expect("it waits");
        (WarmContainer { key, name: "dromia-1-2".to_owned(), control, helper }, theirs)
    }

    fn heard(mut line: &std::os::unix::net::UnixStream) -> Vec<u8> {
        use std::io::Read as _;
        line.set_nonblocking(true).expect("a socket");
        let mut words = [0; 16];
        match line.read(&mut words) {
            Ok(count) => words[..count].to_vec(),
            Err(_) => b"nothing".to_vec(),
        }
    }

    /// Waits until a lifeline is cut. The process that was started last holds a copy of it until it executes its program.
    async fn is_cut(line: &std::os::unix::net::UnixStream) {
        let until = std::time::Instant::now() + RISE;
        while !heard(line).is_empty() {
            assert!(std::time::Instant::now() < until, "its lifeline is not cut");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[test]
    fn another_run_agent_label_workspace_or_bound_is_another_container() {
        let key = ContainerKey::for_spec(&spec()).expect("it has a family");
        assert_eq!(
            ContainerKey::for_spec(&ProcessSpec { argv: vec!["other".to_owned()], ..spec() }),
            Some(key.clone())
        );
        assert_eq!(ContainerKey::for_spec(&ProcessSpec { family: None, ..spec() }), None);
        let limits = |change: fn(&mut ProcessLimits)| {
            let mut spec = spec();
            change(&mut spec.limits);
            spec
        };
        for other in [
            of(|family| family.run = RunId::from_bytes([9; 16])),
            of(|family| family.agent = AgentId::from_bytes([9; 16])),
            of(|family| family.label = Label::UNKNOWN_FILE),
            ProcessSpec { workspace: "/srv/v".into(), ..spec() },
            limits(|limits| limits.memory_bytes += 1),
            limits(|limits| limits.disk_bytes += 1),
            limits(|limits| limits.processes += 1),
        ] {
            assert_ne!(ContainerKey::for_spec(&other), Some(key.clone()), "{other:?}");
        }
        // What the helper of each program keeps makes no other container.
        let same = limits(|limits| (limits.wall_ms, limits.cpu_ms, limits.output_bytes) = (1, 2, 3));
        assert_eq!(ContainerKey::for_spec(&same), Some(key));
    }

    #[tokio::test]
    async fn a_container_is_lent_to_one_program_at_a_time() {
        let (pool, key) =
            (ContainerPool::default(), ContainerKey::for_spec(&spec()).expect("it has a family"));
        assert!(pool.take_matching(&key).is_none());
        let (container, line) = kept(key.clone()).await;
        pool.give_back(container);
        assert_eq!(heard(&line), b"i");
        let other = ContainerKey::for_spec(&of(|family| family.label = Label::UNKNOWN_FILE))
            .expect("it has a family");
        assert!(pool.take_matching(&other).is_none(), "it is of another label");
        let lent = pool.take_matching(&key).expect("it is there");
        assert_eq!((lent.container_name(), heard(&line)), ("dromia-1-2", b"b".to_vec()));
        assert!(pool.take_matching(&key).is_none(), "it is lent");
        drop(lent);
        is_cut(&line).await;
    }

    #[tokio::test]
    async fn idle_containers_leave_with_their_run_and_are_bounded() {
        let (pool, key) =
            (ContainerPool::default(), ContainerKey::for_spec(&spec()).expect("it has a family"));
        let other = ContainerKey::for_spec(&of(|family| family.run = RunId::from_bytes([9; 16])))
            .expect("it has a family");
        let (first, line) = kept(key.clone()).await;
        let (second, other_line) = kept(other.clone()).await;
        pool.give_back(first);
        pool.give_back(second);
        pool.let_go(RunId::from_bytes([1; 16]));
        assert!(pool.take_matching(&key).is_none());
        assert_eq!(heard(&line), b"i");
        is_cut(&line).await;
        assert_eq!((heard(&other_line), heard(&other_line)), (b"i".to_vec(), b"nothing".to_vec()));
        let mut lines = Vec::new();
        for _ in 0..IDLE_MAX {
            let (one, line) = kept(key.clone()).await;
            pool.give_back(one);
            lines.push(line);
        }
        assert_eq!(pool.lock_idle().len(), IDLE_MAX);
        assert!(pool.take_matching(&other).is_none(), "the one longest idle went first");
    }

    #[tokio::test]
    async fn a_container_without_its_helper_is_neither_pooled_nor_lent() {
        let (pool, key) =
            (ContainerPool::default(), ContainerKey::for_spec(&spec()).expect("it has a family"));
        let (mut gone, _line) = kept(key.clone()).await;
        gone.helper.kill().await.expect("it is ours");
        pool.give_back(gone);
        assert_eq!(pool.lock_idle().len(), 0);
        let (mut container, _line) = kept(key.clone()).await;
        assert!(container.tell_helper(IDLE));
        container.helper.kill().await.expect("it is ours");
        pool.lock_idle().push(container);
        assert!(pool.take_matching(&key).is_none());
    }
}
