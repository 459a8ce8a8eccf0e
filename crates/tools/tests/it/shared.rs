//! Slots that tenants share: what one of them fills another one finds a slot in, and a call that waits says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dromia_contracts::sandbox::{
    IsolationTier, ProcessEvent, ProcessSpec, SandboxBackend, SandboxError, SandboxMount, SandboxProcess,
    SandboxSelector,
};
use dromia_contracts::tool::{CallProgressSink, ToolContext, ToolHost as _, ToolOutput};
use dromia_contracts::{Actor, AgentId, BoxFuture, ScopeAuthority, TenantId};
use tokio::task::JoinSet;

use crate::support::{AGENT, Bench, COLLEAGUE, OTHER_TENANT, TENANT, context};

/// A machine on which programs begin and never end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endless(Arc<AtomicUsize>);

impl SandboxSelector for Endless {
    fn pick_backend(&self, _: TenantId) -> BoxFuture<'_, Result<Arc<dyn SandboxBackend>, SandboxError>> {
        Box::pin(std::future::ready(Ok(Arc::new(self.clone()) as Arc<dyn SandboxBackend>)))
    }
}

impl SandboxBackend for Endless {
    fn backend_name(&self) -> &'static str {
        "endless"
    }

    fn isolation_tier(&self) -> IsolationTier {
        IsolationTier::Process
    }

    fn workspace_path(&self, spec: &ProcessSpec) -> PathBuf {
        spec.workspace.clone()
    }

    fn mount_path<'mount>(&self, mount: &'mount SandboxMount) -> &'mount Path {
        &mount.source
    }

    fn start_process(&self, _: ProcessSpec) -> BoxFuture<'_, Result<Box<dyn SandboxProcess>, SandboxError>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(Box::new(Running(Arc::clone(&self.0))) as Box<dyn SandboxProcess>)))
    }
}

/// A program that runs until it is dropped.
#[derive(Debug)]
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SandboxProcess for Running {
    fn next(&mut self) -> BoxFuture<'_, Option<ProcessEvent>> {
        Box::pin(std::future::pending())
    }

    fn stop(&mut self) {}

    fn take_proxy_socket(&mut self) -> Option<std::net::TcpListener> {
        None
    }
}

/// Counts the calls that say that they wait.
#[derive(Default)]
struct Waits(AtomicUsize);

impl CallProgressSink for Waits {
    fn push_piece(&self, _: u64, _: u64, _: &str) {}

    fn note_waiting(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn goes_on(&self) -> BoxFuture<'_, ()> {
        self.0.fetch_sub(1, Ordering::SeqCst);
        Box::pin(std::future::ready(()))
    }
}

fn context_of(tenant: TenantId, agent: AgentId) -> ToolContext {
    let scope = ScopeAuthority::claim().issue_scope(tenant, Actor::new("engine"));
    ToolContext { scope, agent, ..context() }
}

/// Lets others go on until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let looked = async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), looked)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn endless_programs_leave_slots_to_others_and_waiting_calls_report() {
    let endless = Endless::default();
    let running = || endless.0.load(Ordering::SeqCst);
    let bench = Arc::new(Bench::running(Arc::new(endless.clone())));
    let waits = Arc::new(Waits::default());
    let mut calls: JoinSet<ToolOutput> = JoinSet::new();
    let begin = |calls: &mut JoinSet<ToolOutput>, tenant, agent| {
        let (bench, waits) = (Arc::clone(&bench), Arc::clone(&waits));
        let call = bench.prepare("exec", r#"{"argv":["sleep"]}"#);
        calls.spawn(async move { bench.toolbox.execute_call(context_of(tenant, agent), call, &*waits).await })
    };
    let flood: Vec<_> = (0..20).map(|_| begin(&mut calls, TENANT, AGENT)).collect();
    until("twelve begin", || running() == 12).await;
    until("eight wait", || waits.0.load(Ordering::SeqCst) == 8).await;
    let other = begin(&mut calls, OTHER_TENANT, COLLEAGUE);
    until("another tenant's begins", || running() == 13).await;
    assert_eq!(waits.0.load(Ordering::SeqCst), 8, "it did not wait");
    // What is killed while it waits leaves the line, and what runs gives its slot to the next.
    flood[..8].iter().for_each(tokio::task::AbortHandle::abort);
    other.abort();
    until("the next ones begin", || running() == 12).await;
    calls.shutdown().await;
    assert_eq!(running(), 0);
    begin(&mut calls, TENANT, AGENT);
    until("every slot came back", || running() == 1).await;
}
