//! Directories of the operator's as workspaces: changes take turns there, and what lies there is not the agents'.

use dromia_contracts::content::parts_text;
use dromia_contracts::tool::{DiscardProgress, ToolContext, ToolHost as _};
use dromia_contracts::workspace::RunWorkspace;

use crate::support::{Bench, context};

fn works_in(workspace: &str) -> ToolContext {
    ToolContext { workspace: RunWorkspace::Directory(workspace.parse().expect("a reference")), ..context() }
}

async fn told(bench: &Bench, context: ToolContext, tool: &str, arguments: &str) -> String {
    let output = bench.toolbox.execute_call(context, bench.prepare(tool, arguments), &DiscardProgress).await;
    parts_text(&output.parts)
}

#[tokio::test]
async fn no_append_to_a_shared_directory_is_lost() {
    let root = tempfile::tempdir().expect("a directory");
    let (bench, place) = (Bench::rooted(root.path()), root.path().display().to_string());
    let append = r#"{"path":"log","content":"line\n"}"#;
    let bench = std::sync::Arc::new(bench);
    let mut appends = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (bench, context) = (std::sync::Arc::clone(&bench), works_in(&place));
        appends.spawn(async move { told(&bench, context, "file.append", append).await });
    }
    for said in appends.join_all().await {
        assert!(said.starts_with("appended"), "{said}");
    }
    let log = std::fs::read_to_string(root.path().join("log")).expect("it is there");
    assert_eq!(log, "line\n".repeat(32));
    assert!(!bench.home().join("agents").exists(), "nothing is made in the home");
}

#[tokio::test]
async fn what_lies_in_a_directory_of_the_operator_is_not_counted() {
    let root = tempfile::tempdir().expect("a directory");
    let large = std::fs::File::create(root.path().join("large")).expect("made");
    large.set_len(8 << 30).expect("it is long");
    let (bench, place) = (Bench::rooted(root.path()), root.path().display().to_string());
    let said = told(&bench, works_in(&place), "file.write", r#"{"path":"a","content":"x"}"#).await;
    assert_eq!(said, "wrote 1 byte");
    let said = told(&bench, works_in(&format!("{place}:ro")), "file.delete", r#"{"path":"a"}"#).await;
    assert!(said.contains("for reading only"), "{said}");
    let withdrawn = RunWorkspace::Withdrawn(place.parse().expect("a reference"));
    let context = ToolContext { workspace: withdrawn, ..context() };
    let said = told(&bench, context, "file.read", r#"{"path":"a"}"#).await;
    assert!(said.contains("has it no more") && said.contains(&place), "{said}");
}
