//! The door of a process that may reach something: what is behind it, and that there is nothing beside it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use dromia_contracts::sandbox::{NetworkAccess, ProcessExit, ProcessSpec, SandboxError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{backends, run, script, told};

/// A program that counts what it is told of a proxy, talks to it, and then tries what else there may be. `port` is one at
/// which this machine listens.
fn curious(workspace: &Path, port: u16) -> ProcessSpec {
    let text = format!(
        "env | grep -ci _proxy=http://127.0.0.1:3128
        (exec 3<>/dev/tcp/127.0.0.1/3128 && echo asked >&3 && head -n 1 <&3) 2>/dev/null
        for to in tcp/127.0.0.1/{port} tcp/127.0.0.1/3129 tcp/169.254.169.254/80 udp/127.0.0.1/53; do
            (exec 4<>/dev/$to) 2>/dev/null && echo reached $to
        done
        echo end"
    );
    let mut spec = script(workspace, "");
    spec.argv = vec!["/bin/bash".to_owned(), "-c".to_owned(), text];
    spec
}

#[tokio::test]
async fn a_program_with_a_proxy_reaches_only_its_holder() {
    let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = outside.local_addr().expect("an address").port();
    for backend in backends().into_iter().filter(|backend| backend.backend_name() != "native/base") {
        let dir = tempfile::tempdir().expect("a directory");
        let spec = ProcessSpec { network: NetworkAccess::Proxy, ..curious(dir.path(), port) };
        let mut process = backend.start_process(spec).await.expect("it starts");
        let door = process.take_proxy_socket().expect("it has one");
        assert!(process.take_proxy_socket().is_none(), "there is one door");
        let door = tokio::net::TcpListener::from_std(door).expect("it does not block");
        let answered = tokio::spawn(async move {
            let (mut stream, _) = door.accept().await.expect("somebody comes");
            let mut asked = [0; 6];
            stream.read_exact(&mut asked).await.expect("it asks");
            stream.write_all(b"answered\n").await.expect("it is sent");
            asked
        });
        let told = told(process).await;
        assert_eq!(told.out, "4\nanswered\nend\n", "{} {told:?}", backend.backend_name());
        assert_eq!(told.ending, ProcessExit::Exited { code: 0 }, "{}", backend.backend_name());
        assert_eq!(&answered.await.expect("it was asked"), b"asked\n", "{}", backend.backend_name());
    }
}

#[tokio::test]
async fn a_program_without_a_proxy_makes_no_socket() {
    for backend in backends() {
        let dir = tempfile::tempdir().expect("a directory");
        let told = run(&*backend, curious(dir.path(), 1)).await;
        assert_eq!(told.out, "0\nend\n", "{} {told:?}", backend.backend_name());
    }
}

#[tokio::test]
async fn an_unused_proxy_ends_with_its_failed_program() {
    for backend in backends().into_iter().filter(|backend| backend.backend_name() != "native/base") {
        let dir = tempfile::tempdir().expect("a directory");
        let mut spec = script(dir.path(), "");
        spec.network = NetworkAccess::Proxy;
        spec.argv = vec!["/no/such/program".to_owned()];
        let told = run(&*backend, spec).await;
        assert!(format!("{told:?}").contains("/no/such/program"), "{} {told:?}", backend.backend_name());
        assert_ne!(told.ending, ProcessExit::Exited { code: 0 });
    }
}

#[tokio::test]
async fn base_isolation_refuses_a_proxy_and_says_why() {
    let base =
        backends().into_iter().find(|backend| backend.backend_name() == "native/base").expect("it is there");
    let dir = tempfile::tempdir().expect("a directory");
    let spec = ProcessSpec { network: NetworkAccess::Proxy, ..script(dir.path(), "touch file") };
    let refused = base.start_process(spec).await.map(drop);
    let Err(SandboxError::Unavailable { missing, fix }) = refused else { panic!("{refused:?}") };
    assert!(missing.contains("native/base") && fix.contains("network: none"), "{missing}; {fix}");
    assert!(!dir.path().join("file").exists());
}
