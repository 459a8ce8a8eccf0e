//! How much room a program in a container takes: its workspace, files that it removed and still holds, the volume.
//!
//! A process of a container is one of this machine, so what it holds is looked at as behind other walls ([`HeldResources`]), as far as
//! this user may. An engine may count processes from elsewhere than this helper (where the server itself is in a container), so
//! only a process whose control group names the container is looked at.
//!
//! What it refuses to do: count what it may not see. [`WorkspaceVolume`] ends what comes of that.

use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{InspectContainerOptions, TopOptions};
use dromia_contracts::sandbox::ProcessSpec;
use rustix::process::Pid;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::ENGINE_WAIT;
use crate::helper::meter::WorkspaceQuota;
use crate::helper::open_files::HeldResources;
use crate::helper::volume::WorkspaceVolume;

/// How often the volume is looked at, and after how many looks the workspace and what is held are measured.
const TICK: Duration = Duration::from_millis(25);
const MEASURED_EVERY: u32 = 20;

/// The most processes of a container that are looked at.
const PROCESSES_MAX: usize = 4096;

/// What a program in a container may still write: its quota, and the reserve of the volume.
pub(super) struct ContainerQuota {
    quota: WorkspaceQuota,
    volume: WorkspaceVolume,
    limit: u64,
    /// Where the workspace lies.
    device: u64,
}

impl ContainerQuota {
    /// Measures the workspace and the volume before the program can write.
    pub(super) fn before(spec: &ProcessSpec) -> Self {
        let limit = spec.limits.disk_bytes;
        Self {
            quota: WorkspaceQuota::measure_before(&spec.workspace, limit),
            volume: WorkspaceVolume::measure_before(&spec.workspace),
            limit,
            device: rustix::fs::stat(&spec.workspace).map_or(0, |found| found.st_dev),
        }
    }

    /// Returns once the program in a container takes more than it may, or its volume is nearly full; else never.
    pub(super) async fn runs_out(mut self, docker: &Docker, container: &str, workspace: &Path) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = 0_u32;
        loop {
            ticks.tick().await;
            if self.volume.is_filling() {
                return;
            }
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(MEASURED_EVERY) {
                let pids = processes(docker, container).await;
                let nameless = HeldResources::of_processes(&pids, self.device).nameless_bytes();
                if nameless > self.limit || self.quota.is_exceeded_with(workspace, nameless) {
                    return;
                }
            }
        }
    }
}

/// The processes of a container that are this machine's; none where the engine says nothing of them.
async fn processes(docker: &Docker, container: &str) -> Vec<Pid> {
    let asked = async {
        let found = docker.inspect_container(container, None::<InspectContainerOptions>).await.ok()?;
        let top = TopOptions { ps_args: "-eo pid".to_owned() };
        let listed = docker.top_processes(container, Some(top)).await.ok()?;
        Some((found.id?, listed.processes?))
    };
    let Ok(Some((id, listed))) = timeout(ENGINE_WAIT, asked).await else { return Vec::new() };
    let numbers = listed.iter().take(PROCESSES_MAX).filter_map(|row| row.first()?.trim().parse().ok());
    numbers.filter_map(Pid::from_raw).filter(|pid| is_of(*pid, &id)).collect()
}

/// Whether a process of this machine is in the control group of a container.
fn is_of(pid: Pid, container: &str) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_pid()));
    groups.is_ok_and(|groups| groups.contains(container))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_outside_a_containers_group_is_not_its_own() {
        let own = rustix::process::getpid();
        let groups = std::fs::read_to_string("/proc/self/cgroup").expect("it is told");
        let path = groups.lines().next().and_then(|line| line.split(':').nth(2)).expect("a group");
        assert!(is_of(own, path) && !is_of(own, "0123456789abcdef"), "{groups}");
    }
}
