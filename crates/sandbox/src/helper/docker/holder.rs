//! Who holds a container, and taking away containers without a living holder.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions};
use rustix::process::getpid;
use tokio::time::{sleep, timeout};

use super::ENGINE_WAIT;

/// The labels of our containers: where processes have the numbers that are meant, and which one holds it.
pub(super) const PLACE: &str = "dromia.sandbox.place";
pub(super) const HOLDER: &str = "dromia.sandbox.holder";

/// The most containers of gone holders that are taken away at a time.
const SWEEP_MAX: usize = 64;

/// The time between two attempts to remove a container that another process is removing.
const AGAIN: Duration = Duration::from_millis(100);

/// Takes a container away, running or not. Whether it is gone.
pub(super) async fn is_removed(docker: &Docker, name: &str) -> bool {
    let removed = async {
        loop {
            let force = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
            match docker.remove_container(name, Some(force)).await {
                Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => return true,
                // Another process is removing it at this moment.
                Err(Error::DockerResponseServerError { status_code: 409, .. }) => sleep(AGAIN).await,
                Err(_) => return false,
            }
        }
    };
    timeout(ENGINE_WAIT, removed).await.unwrap_or(false)
}

/// Takes away what helpers left that are gone.
pub(super) async fn remove_orphans(docker: &Docker, holder: &ContainerHolder) -> Result<(), Error> {
    let filters = HashMap::from([("label".to_owned(), vec![format!("{PLACE}={}", holder.place)])]);
    let asked =
        ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
    let found = docker.list_containers(Some(asked)).await?;
    let left = found.into_iter().filter(|container| {
        let holder = container.labels.as_ref().and_then(|labels| labels.get(HOLDER));
        !holder.is_some_and(|holder| is_alive(holder))
    });
    for id in left.filter_map(|container| container.id).take(SWEEP_MAX) {
        // The next one tries again.
        is_removed(docker, &id).await;
    }
    Ok(())
}

/// Who holds a container: this process, by its number and its start, and where the number counts.
pub(super) struct ContainerHolder {
    pub(super) place: String,
    pub(super) who: String,
}

impl ContainerHolder {
    pub(super) fn this_process() -> io::Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let namespace = fs::read_link("/proc/self/ns/pid")?;
        let pid = getpid().as_raw_pid();
        let start = start_ticks(pid).ok_or_else(|| io::Error::other("/proc does not list this process"))?;
        Ok(Self { place: format!("{}/{}", boot.trim(), namespace.display()), who: format!("{pid}-{start}") })
    }

    /// The name of the container that it holds.
    pub(super) fn container_name(&self) -> String {
        format!("dromia-{}", self.who)
    }
}

/// Whether a holder still runs.
pub(in crate::helper) fn is_alive(who: &str) -> bool {
    let Some((pid, start)) = who.split_once('-') else { return false };
    let Some(pid) = pid.parse().ok() else { return false };
    start_ticks(pid).is_some_and(|found| found == start)
}

/// When a process started, in ticks since this machine did.
pub(in crate::helper) fn start_ticks(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_identified_by_number_and_start_time() {
        let this = ContainerHolder::this_process().expect("this process is there");
        assert!(is_alive(&this.who));
        let pid = getpid().as_raw_pid();
        for gone in [format!("{pid}-1"), format!("{pid}"), "x-1".to_owned(), "-1".to_owned()] {
            assert!(!is_alive(&gone), "{gone}");
        }
    }
}
