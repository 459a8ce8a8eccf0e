//! A server whose standard error nobody reads, and whose files may not grow: it answers and ends all the same.

use std::io::Write as _;
use std::process::Command;

use crate::home::{DEADLINE, Home, block_on};

#[test]
fn a_server_with_unread_stderr_answers_and_counts_dropped_lines() {
    let home = Home::new();
    let (unread, mut pipe) = std::io::pipe().expect("a pipe");
    let room = rustix::pipe::fcntl_getpipe_size(&pipe).expect("its size");
    // Whoever writes a byte more than this waits until somebody reads.
    pipe.write_all(&vec![b'.'; room]).expect("it takes as much as it has room for");
    let mut command = home.command();
    // At this level the start and the end have lines to write.
    command.env("DROMIA_LOG", "trace").stderr(pipe);
    let server = home.serve_by(command);
    block_on(async {
        assert_eq!(server.get("/health").await.0, 200);
        let request = reqwest::Client::new().get(format!("{}/metrics", server.url));
        let answer = request.bearer_auth(&server.token).timeout(DEADLINE).send().await.expect("it answers");
        let text = answer.text().await.expect("text");
        assert!(text.contains("dromia_log_lines_dropped_total 0"), "{text}");
    });
    server.terminate();
    drop(unread);
}

#[test]
fn a_file_size_signal_does_not_end_the_server() {
    let home = Home::new();
    let server = home.serve();
    let kill = Command::new("kill").args(["-XFSZ", &server.pid().to_string()]).status().expect("kill runs");
    assert!(kill.success());
    assert_eq!(block_on(server.get("/health")).0, 200);
    server.terminate();
}
