//! Races of two programs: one exchanges a name in its workspace with a link that leads out, as fast as it can, while others
//! are started there. A program that looks such a name up twice, or follows it, has the link's end in the sandbox.
//!
//! The one that exchanges runs beside the sandbox, with no more than the workspace: it is at least as quick as any
//! program inside. What counts is what the started ones reach, and what changed outside, also by the programs that
//! start them. A start that is refused is no way out.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use dromia_contracts::sandbox::{
    NetworkAccess, ProcessEvent, ProcessExit, ProcessLimits, ProcessSpec, ReferencedDirectory,
    SandboxBackend, SandboxMount,
};
use rustix::fs::{CWD, RenameFlags};

use super::scene::AttemptStage;
use super::{AttackBattery, BatteryError};

/// What may be used by a program that only looks.
const LIMITS: ProcessLimits = ProcessLimits { wall_ms: 30_000, ..super::LIMITS };

/// Where the link takes its turn with the name.
const OTHER: &str = "other";

/// A directory below the top that has a repository: guarded where the workspace is a directory of the operator's.
const NESTED: &str = "sub";

/// How often the racer yields between two exchanges: look-ups lie closer together here and further apart there.
const PACES: [usize; 4] = [0, 20, 200, 2_000];

/// A name that is looked up when a program is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RacedName {
    /// It, below the workspace.
    pub name: &'static str,
    kind: RacedKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RacedKind {
    /// A directory that is guarded.
    Directory,
    /// A file that is guarded.
    File,
    /// The directory in which the program begins.
    Start,
    /// A directory that is mounted elsewhere.
    Source,
}

/// Every name below a workspace that a helper touches.
pub const RACED_NAMES: [RacedName; 13] = {
    const fn raced_name(name: &'static str, kind: RacedKind) -> RacedName {
        RacedName { name, kind }
    }
    [
        raced_name(".vscode", RacedKind::Directory),
        raced_name(".dromia", RacedKind::Directory),
        raced_name(".git", RacedKind::Directory),
        raced_name(".git/hooks", RacedKind::Directory),
        raced_name(".git/info", RacedKind::Directory),
        raced_name(".git/config", RacedKind::File),
        raced_name(".git/commondir", RacedKind::File),
        raced_name(".vscode/tasks.json", RacedKind::File),
        raced_name(".envrc", RacedKind::File),
        raced_name(NESTED, RacedKind::Directory),
        raced_name("sub/.git", RacedKind::Directory),
        raced_name("start", RacedKind::Start),
        raced_name("given", RacedKind::Source),
    ]
};

/// What became of the races for one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaceRow {
    /// The name.
    pub name: &'static str,
    /// How many programs were asked for.
    pub tries: usize,
    /// How many of them began.
    pub begun: usize,
    /// How many got out.
    pub escaped: usize,
    /// How often the name was exchanged meanwhile.
    pub exchanged: u64,
}

impl AttackBattery {
    /// Races for one name at a backend; the first that gets out ends it.
    pub async fn race_name(
        &self,
        backend: &dyn SandboxBackend,
        raced: RacedName,
        tries: usize,
    ) -> Result<RaceRow, BatteryError> {
        let mut row = RaceRow { name: raced.name, tries: 0, begun: 0, escaped: 0, exchanged: 0 };
        let stage = AttemptStage::set_up(&self.scratch)?;
        for directory in [".dromia/tools", "sub/.git/hooks"] {
            fs::create_dir_all(stage.workspace_path().join(directory))?;
        }
        // Where the root of this machine lies while a sandbox is built differs by who builds it.
        let roots = match backend.backend_name() {
            "native/strict" => ["/old", ""],
            "bubblewrap" => ["", "/oldroot"],
            _ => ["", ""],
        };
        for number in 0..tries {
            let racer = LinkRacer::start_racing(
                &stage,
                raced,
                roots[number % roots.len()],
                PACES[number / 2 % PACES.len()],
            )?;
            row.tries += 1;
            let looked = self.run_look(backend, &stage, raced).await;
            row.exchanged += racer.stop_racing();
            let said = looked?;
            row.begun += usize::from(said.is_some());
            let has_said = said.is_some_and(|said| contains_bytes(&said, stage.canary_secret().as_bytes()));
            if has_said || stage.is_outside_changed() {
                row.escaped += 1;
                break;
            }
        }
        Ok(row)
    }

    /// Starts a program that looks where the name leads; what it said, or nothing if it was not started.
    async fn run_look(
        &self,
        backend: &dyn SandboxBackend,
        stage: &AttemptStage,
        raced: RacedName,
    ) -> Result<Option<Vec<u8>>, BatteryError> {
        let mut spec = ProcessSpec {
            argv: ["/bin/sh", "-c", &race_script(raced)].map(str::to_owned).into(),
            env: Vec::new(),
            workspace: stage.workspace_path().to_owned(),
            reference: if raced.name.starts_with(NESTED) { Some(reference_of(stage)?) } else { None },
            cwd: PathBuf::new(),
            mounts: Vec::new(),
            limits: LIMITS,
            network: NetworkAccess::None,
            family: None,
        };
        match raced.kind {
            RacedKind::Start => spec.cwd = raced.name.into(),
            RacedKind::Source => spec.mounts.push(SandboxMount {
                source: stage.workspace_path().join(raced.name),
                target: "/opt/given".into(),
                writable: true,
            }),
            RacedKind::Directory | RacedKind::File => {}
        }
        // A backend that sees the name exchanged may refuse: that is no way out.
        let Ok(mut process) = backend.start_process(spec).await else { return Ok(None) };
        let (mut said, mut ending) = (Vec::new(), ProcessExit::Lost);
        while let Some(event) = process.next().await {
            match event {
                ProcessEvent::Output { bytes, .. } => said.extend_from_slice(&bytes),
                ProcessEvent::Ended(how) => ending = how,
            }
        }
        let is_begun = !matches!(ending, ProcessExit::NotStarted { .. } | ProcessExit::Lost);
        Ok((is_begun || !said.is_empty()).then_some(said))
    }
}

/// The workspace as a directory of the operator's.
fn reference_of(stage: &AttemptStage) -> io::Result<ReferencedDirectory> {
    let found = stage.workspace_path().metadata()?;
    Ok(ReferencedDirectory { device: found.dev(), inode: found.ino(), read_only: false })
}

fn contains_bytes(text: &[u8], piece: &[u8]) -> bool {
    text.windows(piece.len()).any(|window| window == piece)
}

/// Looks at the name under both of its turns, and where else it may have come, and tries to change what it finds.
fn race_script(raced: RacedName) -> String {
    let other = link_name(raced.name);
    match raced.kind {
        RacedKind::Directory => format!(
            "for i in 1 2 3; do for p in {} {other}; do cat $p/secret; echo x > $p/raced; done; done 2>/dev/null; exit 0",
            raced.name
        ),
        RacedKind::File => format!(
            "for i in 1 2 3; do for p in {} {other}; do cat $p; echo x >> $p; done; done 2>/dev/null; exit 0",
            raced.name
        ),
        RacedKind::Start => "cat secret 2>/dev/null; echo x > raced 2>/dev/null; exit 0".to_owned(),
        RacedKind::Source => {
            "cat /opt/given/secret 2>/dev/null; echo x > /opt/given/raced 2>/dev/null; exit 0".to_owned()
        }
    }
}

/// The name of the link, in the same directory.
fn link_name(name: &str) -> String {
    match name.rsplit_once('/') {
        Some((parent, _)) => format!("{parent}/{OTHER}"),
        None => OTHER.to_owned(),
    }
}

/// Exchanges a name with a link until it is ended.
struct LinkRacer {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl LinkRacer {
    fn start_racing(stage: &AttemptStage, raced: RacedName, root: &str, pace: usize) -> io::Result<Self> {
        let (name, other) =
            (stage.workspace_path().join(raced.name), stage.workspace_path().join(link_name(raced.name)));
        match raced.kind {
            RacedKind::Directory | RacedKind::Start | RacedKind::Source => fs::create_dir_all(&name)?,
            RacedKind::File => {}
        }
        drop(fs::remove_file(&other));
        let outside =
            Path::new(root).join(stage.outside_path().strip_prefix("/").unwrap_or(stage.outside_path()));
        let outside = if root.is_empty() { Path::new("/").join(&outside) } else { outside };
        symlink(if raced.kind == RacedKind::File { outside.join("secret") } else { outside }, &other)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut exchanged = 0;
            // An even number leaves the name where it was.
            while !ends.load(Ordering::Relaxed) || exchanged % 2 == 1 {
                match rustix::fs::renameat_with(CWD, &name, CWD, &other, RenameFlags::EXCHANGE) {
                    Ok(()) => exchanged += 1,
                    Err(_) if ends.load(Ordering::Relaxed) => break,
                    Err(_) => {}
                }
                (0..pace).for_each(|_| std::thread::yield_now());
            }
            exchanged
        });
        Ok(Self { is_over, thread })
    }

    /// Ends it; how often it exchanged the two.
    fn stop_racing(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}
