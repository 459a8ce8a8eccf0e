//! P7: what walls cost a program, over starting the same one without.
//!
//! The helper is the measured binary. Bare and walled starts take turns, so that both meet the same machine.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use anyhow::bail;
use dromia_contracts::sandbox::{Ending, Limits, Network, ProcessEvent, ProcessSpec, Sandbox};
use dromia_sandbox::probe::{self, Kind, Machine};

use crate::measure::median;
use crate::report::Goal;
use crate::run::Scene;

const STARTS: usize = 100;

/// The starts of a backend that takes seconds for one.
const SLOW_STARTS: usize = 5;

/// The shell call that is measured.
const CALL: [&str; 3] = ["/bin/sh", "-c", "true"];

/// Measures the phase.
pub(crate) async fn measure(scene: &Scene) -> anyhow::Result<Vec<Goal>> {
    let helper = scene.dromia.canonicalize()?;
    let mut goals = Vec::new();
    // No engine and no groups: whoever measures has none of its own to be measured.
    for backend in probe::all(&Machine { helper, engine: None, monitor: None, groups: Vec::new() }) {
        let Ok(sandbox) = backend.state else { continue };
        let starts = if backend.kind == Kind::Gvisor { SLOW_STARTS } else { STARTS };
        let (mut bare, mut walled) = (Vec::new(), Vec::new());
        for _ in 0..starts {
            bare.push(without().await?);
            walled.push(within(&*sandbox, scene).await?);
        }
        let (bare, walled) = (median(&bare), median(&walled));
        let over = walled - bare;
        let what = format!("a shell call over a bare one of {bare:.2} ms");
        goals.push(match backend.kind {
            Kind::Strict => Goal::judged("P7.native", over, "ms", format!("{what}: < 4 ms"), over < 4.0),
            Kind::Base => Goal::printed("P7.base", over, "ms", what),
            Kind::Bubblewrap => Goal::printed("P7.bubblewrap", over, "ms", what),
            Kind::Docker => Goal::printed("P7.docker", over, "ms", what),
            Kind::Firecracker => Goal::printed("P7.firecracker", over, "ms", what),
            Kind::Gvisor => Goal::printed("P7.gvisor", over, "ms", what),
        });
    }
    if goals.is_empty() {
        bail!("no sandbox works here; look with `dromia doctor --only sandbox`");
    }
    Ok(goals)
}

/// Milliseconds of a call without walls, its outputs read as the sandbox reads them.
async fn without() -> anyhow::Result<f64> {
    let began = Instant::now();
    let output = tokio::process::Command::new(CALL[0]).args(&CALL[1..]).stdin(Stdio::null()).output().await?;
    if !output.status.success() {
        bail!("the bare call failed");
    }
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

/// Milliseconds of a call behind walls.
async fn within(sandbox: &dyn Sandbox, scene: &Scene) -> anyhow::Result<f64> {
    let spec = ProcessSpec {
        argv: CALL.map(str::to_owned).into(),
        env: Vec::new(),
        workspace: scene.dir.clone(),
        cwd: PathBuf::new(),
        mounts: Vec::new(),
        limits: Limits::DEFAULT,
        network: Network::None,
        family: None,
    };
    let began = Instant::now();
    let mut process = sandbox.start(spec).await?;
    while let Some(event) = process.next().await {
        match event {
            ProcessEvent::Ended(Ending::Exited { code: 0 }) | ProcessEvent::Output { .. } => {}
            ProcessEvent::Ended(ending) => bail!("{}: the call ended as {ending:?}", sandbox.name()),
        }
    }
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}
