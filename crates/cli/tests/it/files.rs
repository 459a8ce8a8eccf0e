//! `dromia file`: which requests leave, and what a person reads.

use dromia_cli::CommandExit;

use crate::server::Server;

#[tokio::test]
async fn files_are_listed_and_copied_over_http() {
    let server = Server::new(|asked, _| {
        match asked.line.split(' ').next() {
        Some("GET") if asked.line.contains("/files?") => (
            200,
            r#"{"items":[{"name":"notes","kind":"directory","bytes":0},{"name":"plan.md","kind":"file","bytes":7}],"next":null}"#
                .to_owned(),
        ),
        Some("GET") => (200, "the plan".to_owned()),
        _ => (200, r#"{"path":"notes/plan.md","bytes":8}"#.to_owned()),
    }
    });
    let line = || server.asked.lock().unwrap().pop().unwrap();
    let listed = server.run(&["file", "list", "a b", "--agent", "ops"]).await;
    assert_eq!(line().line, "GET /v1/agents/ops/files?limit=50&path=a%20b");
    assert!(listed.out.contains("notes/") && listed.out.contains("plan.md"), "{listed:?}");
    let got = server.run(&["file", "get", "notes/plan.md", "--agent", "ops"]).await;
    assert_eq!((got.out.as_str(), got.exit), ("the plan", CommandExit::Done));
    assert_eq!(line().line, "GET /v1/agents/ops/files/notes%2Fplan.md");
    let (here, copy) = (server.home.path().join("plan.md"), server.home.path().join("copy.md"));
    std::fs::write(&here, "the plan").unwrap();
    let (here, copy) = (here.to_str().unwrap(), copy.to_str().unwrap());
    assert_eq!(
        server.run(&["file", "get", "x", "--file", copy, "--agent", "ops"]).await.exit,
        CommandExit::Done
    );
    assert_eq!(std::fs::read_to_string(copy).unwrap(), "the plan");
    let again = server.run(&["file", "get", "x", "--file", copy, "--agent", "ops"]).await;
    assert_eq!(again.exit, CommandExit::Usage, "what is there stays");
    let put = server.run(&["file", "put", here, "--agent", "ops"]).await;
    assert_eq!(put.out, "wrote notes/plan.md (8 bytes)\n");
    let asked = line();
    assert_eq!((asked.line.as_str(), asked.body.as_str()), ("PUT /v1/agents/ops/files/plan.md", "the plan"));
    server.typed(&["file", "put", "-", "notes/x", "--agent", "ops"], "typed", false).await;
    let asked = line();
    assert_eq!((asked.line.as_str(), asked.body.as_str()), ("PUT /v1/agents/ops/files/notes%2Fx", "typed"));
    let unnamed = server.typed(&["file", "put", "-", "--agent", "ops"], "typed", false).await;
    assert!(unnamed.exit == CommandExit::Usage && unnamed.err.contains("notes/today.md"), "{unnamed:?}");
}

#[tokio::test]
async fn a_file_cannot_control_the_terminal() {
    let server = Server::new(|_, before| match before {
        0 => (200, "a\u{1b}[2Jb\n".to_owned()),
        _ => (200, "a\u{1b}b".to_owned()),
    });
    let shown = server.typed(&["file", "get", "x", "--agent", "ops"], "", true).await;
    assert!(shown.out.starts_with('a') && !shown.out.contains('\u{1b}'), "{shown:?}");
    let piped = server.run(&["file", "get", "x", "--agent", "ops"]).await;
    assert_eq!(piped.out, "a\u{1b}b", "a pipe gets what the file holds");
}
