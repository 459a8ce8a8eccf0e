//! The backends of this machine, and a process run to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dromia_contracts::sandbox::{
    Ending, Limits, Network, Process, ProcessEvent, ProcessSpec, Sandbox, Stream,
};
use dromia_sandbox::probe::{self, Kind, Machine};
use dromia_sandbox::{Engine, Gvisor};

/// The helper that is built with these tests.
pub(crate) fn helper() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_dromia-sandbox-helper"))
}

/// This machine, with the engine that a test started.
pub(crate) fn machine(engine: Option<Engine>) -> Machine {
    Machine { helper: helper().to_owned(), engine, monitor: None, groups: Vec::new() }
}

/// Every backend of this machine that starts at once; each must work.
pub(crate) fn backends() -> Vec<Arc<dyn Sandbox>> {
    let is_slow = |kind: &Kind| matches!(kind, Kind::Docker | Kind::Firecracker | Kind::Gvisor);
    let quick = Kind::ALL.into_iter().filter(|kind| !is_slow(kind));
    let all: Vec<_> = quick.map(|kind| probe::one(&machine(None), kind)).collect();
    for name in ["native/strict", "bubblewrap", "native/base"] {
        let backend = all.iter().find(|backend| backend.name == name).expect("it is listed");
        assert!(backend.state.is_ok(), "{name} does not work here: {:?}", backend.state);
    }
    all.into_iter().filter_map(|backend| backend.state.ok()).collect()
}

/// gVisor, whose programs take seconds to start.
pub(crate) fn gvisor() -> Gvisor {
    let places = ["/usr/local/bin/runsc", "/usr/bin/runsc"].map(PathBuf::from);
    let runsc =
        places.into_iter().find(|path| path.is_file()).expect("gVisor is there: apt-get install runsc");
    Gvisor::new(helper().to_owned(), runsc)
}

/// A shell script in a workspace.
pub(crate) fn script(workspace: &Path, script: &str) -> ProcessSpec {
    ProcessSpec {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        env: Vec::new(),
        workspace: workspace.to_owned(),
        cwd: PathBuf::new(),
        mounts: Vec::new(),
        limits: Limits { wall_ms: 10_000, ..Limits::DEFAULT },
        network: Network::None,
        family: None,
    }
}

/// What a process wrote and how it ended.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) ending: Ending,
}

/// Runs a process to its end.
pub(crate) async fn run(backend: &dyn Sandbox, spec: ProcessSpec) -> Told {
    told(backend.start(spec).await.expect("it starts")).await
}

/// Hears a process to its end.
pub(crate) async fn told(mut process: Box<dyn Process>) -> Told {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match process.next().await.expect("an end comes last") {
            ProcessEvent::Output { stream: Stream::Out, bytes } => out.extend_from_slice(&bytes),
            ProcessEvent::Output { stream: Stream::Err, bytes } => err.extend_from_slice(&bytes),
            ProcessEvent::Ended(ending) => {
                assert_eq!(process.next().await, None, "nothing comes after the end");
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                return Told { out: text(out), err: text(err), ending };
            }
        }
    }
}
