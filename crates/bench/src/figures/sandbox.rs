//! P7: what the sandbox costs a program, over starting the same one without it.
//!
//! The helper is the measured binary. Bare and sandboxed starts alternate, so that both meet the same machine. The
//! kernel's own backend is also measured on a workspace with every guarded path: each guard is a mount.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::bail;
use dromia_contracts::guarded_paths;
use dromia_contracts::sandbox::{
    NetworkAccess, ProcessEvent, ProcessExit, ProcessLimits, ProcessSpec, SandboxBackend,
};
use dromia_sandbox::probe::{self, BackendKind, BackendParts};

use crate::measure::median;
use crate::report::BenchGoal;
use crate::run::PhaseContext;

const STARTS: usize = 100;

/// The starts of a backend that takes seconds for one.
const SLOW_STARTS: usize = 5;

/// The shell call that is measured.
const CALL: [&str; 3] = ["/bin/sh", "-c", "true"];

/// Measures the phase.
pub(crate) async fn measure_sandbox(scene: &PhaseContext) -> anyhow::Result<Vec<BenchGoal>> {
    let helper = scene.dromia.canonicalize()?;
    let repository = create_repository(&scene.dir)?;
    let mut goals = Vec::new();
    // No engine and no control groups: the benchmark has none of its own to measure.
    let machine = BackendParts { helper, engine: None, monitor: None, groups: Vec::new() };
    for backend in BackendKind::ALL.into_iter().map(|kind| probe::probe_one(&machine, kind)) {
        let Ok(sandbox) = backend.state else { continue };
        let starts = if backend.kind == BackendKind::Gvisor { SLOW_STARTS } else { STARTS };
        let (mut bare, mut walled, mut guarded) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..starts {
            bare.push(time_unsandboxed().await?);
            walled.push(time_sandboxed(&*sandbox, &scene.dir).await?);
            if backend.kind == BackendKind::Strict {
                guarded.push(time_sandboxed(&*sandbox, &repository).await?);
            }
        }
        let (bare, walled) = (median(&bare), median(&walled));
        let over = walled - bare;
        if backend.kind == BackendKind::Strict {
            let over = median(&guarded) - bare;
            let what = "the same where a repository and all other names are guarded: < 4 ms".to_owned();
            goals.push(BenchGoal::with_target("P7.guarded", over, "ms", what, over < 4.0));
        }
        let what = format!("a shell call over a bare one of {bare:.2} ms");
        goals.push(match backend.kind {
            BackendKind::Strict => {
                BenchGoal::with_target("P7.native", over, "ms", format!("{what}: < 4 ms"), over < 4.0)
            }
            BackendKind::Base => BenchGoal::without_target("P7.base", over, "ms", what),
            BackendKind::Bubblewrap => BenchGoal::without_target("P7.bubblewrap", over, "ms", what),
            BackendKind::Docker => BenchGoal::without_target("P7.docker", over, "ms", what),
            BackendKind::Firecracker => BenchGoal::without_target("P7.firecracker", over, "ms", what),
            BackendKind::Gvisor => BenchGoal::without_target("P7.gvisor", over, "ms", what),
        });
    }
    if goals.is_empty() {
        bail!("no sandbox works here; run `dromia doctor --only sandbox`");
    }
    Ok(goals)
}

/// A workspace in which every name is there that is guarded.
fn create_repository(below: &Path) -> anyhow::Result<PathBuf> {
    let top = below.join("guarded");
    for directory in [".git/hooks", ".git/info", ".git/objects", ".git/refs"] {
        std::fs::create_dir_all(top.join(directory))?;
    }
    for (directory, names) in guarded_paths::DIRECTORIES {
        std::fs::create_dir_all(top.join(directory))?;
        names.iter().try_for_each(|name| std::fs::write(top.join(directory).join(name), ""))?;
    }
    guarded_paths::FILES
        .iter()
        .chain(&[".git/config", ".git/HEAD"])
        .try_for_each(|name| std::fs::write(top.join(name), ""))?;
    Ok(top)
}

/// Milliseconds of a call without a sandbox, its outputs read as the sandbox reads them.
async fn time_unsandboxed() -> anyhow::Result<f64> {
    let began = Instant::now();
    let output = tokio::process::Command::new(CALL[0]).args(&CALL[1..]).stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        bail!("the bare call failed");
    }
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

/// Milliseconds of a call in the sandbox.
async fn time_sandboxed(sandbox: &dyn SandboxBackend, workspace: &Path) -> anyhow::Result<f64> {
    let spec = ProcessSpec {
        argv: CALL.map(str::to_owned).into(),
        env: Vec::new(),
        workspace: workspace.to_owned(),
        reference: None,
        cwd: PathBuf::new(),
        mounts: Vec::new(),
        limits: ProcessLimits::DEFAULT,
        network: NetworkAccess::None,
        family: None,
    };
    let began = Instant::now();
    let mut process = sandbox.start_process(spec).await?;
    while let Some(event) = process.next().await {
        match event {
            ProcessEvent::Ended(ProcessExit::Exited { code: 0 }) | ProcessEvent::Output { .. } => {}
            ProcessEvent::Ended(ending) => bail!("{}: the call ended as {ending:?}", sandbox.backend_name()),
        }
    }
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}
