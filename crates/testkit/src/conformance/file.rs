//! Claims about what is known of files: the newest word on each path, a bound, what counts for the rest, gone with the agent,
//! and nothing crosses tenants or agents.

use std::collections::BTreeMap;
use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::file::{FILE_LABELS_MAX, FileLabel, FileLabels, KnownFile};
use dromia_contracts::label::Label;
use dromia_contracts::store::{AgentStateSet, FileLabelsPut, Mutation, Page, Refusal, Store};
use dromia_contracts::{Actor, AgentId, Digest};

use super::scene::{Scene, agent_create};

fn put(agent: AgentId, said: FileLabels) -> Mutation {
    Mutation::FileLabelsPut(FileLabelsPut { agent, said })
}

fn file(number: u8, label: Label) -> FileLabel {
    FileLabel { content: Digest::from_bytes([number; 32]), label, author: Actor::new("cli:ada") }
}

fn holds(path: &str, number: u8, label: Label) -> FileLabels {
    FileLabels::of(path, Some(file(number, label)))
}

fn row(path: &str, number: u8, label: Label) -> (String, FileLabel) {
    (path.to_owned(), file(number, label))
}

async fn say(scene: &Scene, said: FileLabels) {
    scene.done(scene.batch().with(put(scene.agent, said))).await;
}

async fn known(scene: &Scene, path: &str) -> KnownFile {
    scene.store.file_label(&scene.scope(), scene.agent, path).await.expect("a read")
}

async fn listed(scene: &Scene) -> Vec<(String, FileLabel)> {
    scene.store.file_labels(&scene.scope(), scene.agent, Page::first(256)).await.expect("a read")
}

pub(super) async fn what_was_said_last_of_a_file_counts_and_what_counts_for_the_rest_never_goes_down(
    store: Arc<dyn Store>,
) {
    let scene = Scene::open(store, 1).await;
    assert_eq!(known(&scene, "a").await, KnownFile::default());
    for _ in 0..2 {
        say(&scene, holds("b/c", 1, Label::ACTOR_TEXT)).await;
        say(&scene, holds("a", 2, Label::CLAIM)).await;
        let rows = [row("a", 2, Label::CLAIM), row("b/c", 1, Label::ACTOR_TEXT)];
        assert_eq!(listed(&scene).await, rows, "by path, and once");
    }
    let after = Page { after: Some("a"), limit: 1 };
    let page = scene.store.file_labels(&scene.scope(), scene.agent, after).await;
    assert_eq!(page, Ok(vec![row("b/c", 1, Label::ACTOR_TEXT)]));
    say(&scene, holds("a", 3, Label::PUBLIC_FACT)).await;
    let now = KnownFile { file: Some(file(3, Label::PUBLIC_FACT)), ..KnownFile::default() };
    assert_eq!(known(&scene, "a").await, now);
    for _ in 0..2 {
        say(&scene, FileLabels { rest: Some(Label::UNKNOWN_FILE), ..FileLabels::of("b/c", None) }).await;
        assert_eq!(listed(&scene).await, [row("a", 3, Label::PUBLIC_FACT)]);
    }
    for (more, rest) in [(Label::ACTOR_TEXT, Label::CLAIM), (Label::PUBLIC_FACT, Label::CLAIM)] {
        say(&scene, FileLabels { rest: Some(more), ..FileLabels::default() }).await;
        assert_eq!(known(&scene, "b/c").await, KnownFile { file: None, rest });
        assert_eq!(known(&scene, "a").await, KnownFile { rest, ..now.clone() });
    }
    for bad in ["", &"x".repeat(4_097)] {
        let refusal = scene.refused(scene.batch().with(put(scene.agent, holds(bad, 1, Label::CLAIM)))).await;
        assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}");
    }
    let twice = scene.batch().with(put(scene.agent, FileLabels::of("a", None)));
    let refusal = scene.refused(twice.with(put(scene.agent, FileLabels::of("b", None)))).await;
    assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}");
    let nobody = AgentId::from_bytes([0xee; 16]);
    let refusal = scene.refused(scene.batch().with(put(nobody, holds("a", 1, Label::CLAIM)))).await;
    assert_eq!(refusal, Refusal::NotFound(nobody.to_string()));
    assert_eq!(listed(&scene).await, [row("a", 3, Label::PUBLIC_FACT)], "a refused batch says nothing");
}

pub(super) async fn so_many_files_are_known_and_a_further_one_counts_for_the_rest(store: Arc<dyn Store>) {
    let scene = Scene::open(store, 1).await;
    let numbers: Vec<_> = (0..FILE_LABELS_MAX).collect();
    for page in numbers.chunks(255) {
        let files: BTreeMap<_, _> =
            page.iter().map(|number| (format!("{number:05}"), Some(file(1, Label::PUBLIC_FACT)))).collect();
        say(&scene, FileLabels { files, rest: None }).await;
    }
    for _ in 0..2 {
        say(&scene, holds("further", 2, Label::ACTOR_TEXT)).await;
        assert_eq!(known(&scene, "further").await, KnownFile { file: None, rest: Label::ACTOR_TEXT });
    }
    say(&scene, holds("00000", 3, Label::CLAIM)).await;
    assert_eq!(known(&scene, "00000").await.file, Some(file(3, Label::CLAIM)));
    let mut said = holds("further", 2, Label::PUBLIC_FACT);
    said.extend(FileLabels::of("00001", None));
    say(&scene, said).await;
    assert_eq!(known(&scene, "further").await.file, Some(file(2, Label::PUBLIC_FACT)), "there is room");
}

pub(super) async fn a_stranger_knows_and_says_nothing_of_files_and_an_erasure_takes_it(
    store: Arc<dyn Store>,
) {
    let mine = Scene::open(store, 1).await;
    let theirs = Scene::open(Arc::clone(&mine.store), 2).await;
    let second = mine.agent_id();
    mine.done(mine.batch().with(agent_create(second, "second"))).await;
    say(&mine, FileLabels { rest: Some(Label::CLAIM), ..holds("a", 1, Label::ACTOR_TEXT) }).await;
    mine.done(mine.batch().with(put(second, holds("a", 2, Label::CLAIM)))).await;
    let (store, stranger) = (&mine.store, theirs.scope());
    assert_eq!(store.file_label(&stranger, mine.agent, "a").await, Ok(KnownFile::default()));
    assert_eq!(store.file_labels(&stranger, mine.agent, Page::first(9)).await, Ok(Vec::new()));
    let refusal = theirs.refused(theirs.batch().with(put(mine.agent, FileLabels::of("a", None)))).await;
    assert_eq!(refusal, Refusal::NotFound(mine.agent.to_string()));
    let narrow = mine.scope().narrowed_to(second);
    assert_eq!(store.file_label(&narrow, mine.agent, "a").await, Ok(KnownFile::default()));
    assert_eq!(store.file_labels(&narrow, second, Page::first(9)).await, Ok(vec![row("a", 2, Label::CLAIM)]));
    assert_eq!(listed(&mine).await, [row("a", 1, Label::ACTOR_TEXT)]);
    let (from, to) = (vec![AgentState::Running], AgentState::Deleting);
    let set = AgentStateSet { agent: mine.agent, from, to };
    mine.done(mine.batch().with(Mutation::AgentStateSet(set))).await;
    assert!(listed(&mine).await.is_empty(), "one that is being erased is not found");
    // A run that has not ended yet may still say something.
    say(&mine, holds("b", 1, Label::CLAIM)).await;
    while !store.erase_agent_page(&mine.scope(), mine.agent).await.expect("a page").1 {}
    mine.done(mine.batch().with(agent_create(mine.agent, "ada"))).await;
    assert!(listed(&mine).await.is_empty());
    assert_eq!(known(&mine, "a").await, KnownFile::default());
    assert_eq!(store.file_labels(&narrow, second, Page::first(9)).await, Ok(vec![row("a", 2, Label::CLAIM)]));
}
