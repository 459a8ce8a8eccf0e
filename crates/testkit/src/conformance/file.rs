//! Claims about what is known of files: the newest word on each path, a bound, what counts for the rest, gone with the agent,
//! and nothing crosses tenants or agents.

use std::collections::BTreeMap;
use std::sync::Arc;

use dromia_contracts::agent::AgentState;
use dromia_contracts::file::{FILE_LABELS_MAX, FileLabel, FileLabels, KnownFile};
use dromia_contracts::label::Label;
use dromia_contracts::store::{AgentStateSet, CommitRefusal, FileLabelsPut, Mutation, PageRequest, Store};
use dromia_contracts::{Actor, AgentId, Digest};

use super::scene::{StoreScene, agent_create};

fn put_mutation(agent: AgentId, said: FileLabels) -> Mutation {
    Mutation::FileLabelsPut(FileLabelsPut { agent, said })
}

fn new_file_label(number: u8, label: Label) -> FileLabel {
    FileLabel { content: Digest::from_bytes([number; 32]), label, author: Actor::new("cli:ada") }
}

fn labels_of_file(path: &str, number: u8, label: Label) -> FileLabels {
    FileLabels::for_file(path, Some(new_file_label(number, label)))
}

fn label_row(path: &str, number: u8, label: Label) -> (String, FileLabel) {
    (path.to_owned(), new_file_label(number, label))
}

async fn put_labels(scene: &StoreScene, said: FileLabels) {
    scene.commit_mutation(put_mutation(scene.agent, said)).await;
}

async fn read_known(scene: &StoreScene, path: &str) -> KnownFile {
    scene.store.file_label(&scene.tenant_scope(), scene.agent, path).await.expect("a read")
}

async fn list_labels(scene: &StoreScene) -> Vec<(String, FileLabel)> {
    scene
        .store
        .file_labels(&scene.tenant_scope(), scene.agent, PageRequest::first_page(256))
        .await
        .expect("a read")
}

pub(super) async fn what_was_said_last_of_a_file_counts_and_what_counts_for_the_rest_never_goes_down(
    store: Arc<dyn Store>,
) {
    let scene = StoreScene::open_scene(store, 1).await;
    assert_eq!(read_known(&scene, "a").await, KnownFile::default());
    for _ in 0..2 {
        put_labels(&scene, labels_of_file("b/c", 1, Label::ACTOR_TEXT)).await;
        put_labels(&scene, labels_of_file("a", 2, Label::CLAIM)).await;
        let rows = [label_row("a", 2, Label::CLAIM), label_row("b/c", 1, Label::ACTOR_TEXT)];
        assert_eq!(list_labels(&scene).await, rows, "by path, and once");
    }
    let after = PageRequest { after: Some("a"), limit: 1 };
    let page = scene.store.file_labels(&scene.tenant_scope(), scene.agent, after).await;
    assert_eq!(page, Ok(vec![label_row("b/c", 1, Label::ACTOR_TEXT)]));
    put_labels(&scene, labels_of_file("a", 3, Label::PUBLIC_FACT)).await;
    let now = KnownFile { file: Some(new_file_label(3, Label::PUBLIC_FACT)), ..KnownFile::default() };
    assert_eq!(read_known(&scene, "a").await, now);
    for _ in 0..2 {
        put_labels(
            &scene,
            FileLabels { rest: Some(Label::UNKNOWN_FILE), ..FileLabels::for_file("b/c", None) },
        )
        .await;
        assert_eq!(list_labels(&scene).await, [label_row("a", 3, Label::PUBLIC_FACT)]);
    }
    for (more, rest) in [(Label::ACTOR_TEXT, Label::CLAIM), (Label::PUBLIC_FACT, Label::CLAIM)] {
        put_labels(&scene, FileLabels { rest: Some(more), ..FileLabels::default() }).await;
        assert_eq!(read_known(&scene, "b/c").await, KnownFile { file: None, rest });
        assert_eq!(read_known(&scene, "a").await, KnownFile { rest, ..now.clone() });
    }
    for bad in ["", &"x".repeat(4_097)] {
        let refusal =
            scene.refuse_mutation(put_mutation(scene.agent, labels_of_file(bad, 1, Label::CLAIM))).await;
        assert!(matches!(refusal, CommitRefusal::Malformed(_)), "{refusal:?}");
    }
    let twice = scene.new_batch().with_mutation(put_mutation(scene.agent, FileLabels::for_file("a", None)));
    let refusal = scene
        .commit_refused(twice.with_mutation(put_mutation(scene.agent, FileLabels::for_file("b", None))))
        .await;
    assert!(matches!(refusal, CommitRefusal::Malformed(_)), "{refusal:?}");
    let nobody = AgentId::from_bytes([0xee; 16]);
    let refusal = scene.refuse_mutation(put_mutation(nobody, labels_of_file("a", 1, Label::CLAIM))).await;
    assert_eq!(refusal, CommitRefusal::NotFound(nobody.to_string()));
    assert_eq!(
        list_labels(&scene).await,
        [label_row("a", 3, Label::PUBLIC_FACT)],
        "a refused batch says nothing"
    );
}

pub(super) async fn so_many_files_are_known_and_a_further_one_counts_for_the_rest(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let numbers: Vec<_> = (0..FILE_LABELS_MAX).collect();
    for page in numbers.chunks(255) {
        let files: BTreeMap<_, _> = page
            .iter()
            .map(|number| (format!("{number:05}"), Some(new_file_label(1, Label::PUBLIC_FACT))))
            .collect();
        put_labels(&scene, FileLabels { files, rest: None }).await;
    }
    for _ in 0..2 {
        put_labels(&scene, labels_of_file("further", 2, Label::ACTOR_TEXT)).await;
        assert_eq!(read_known(&scene, "further").await, KnownFile { file: None, rest: Label::ACTOR_TEXT });
    }
    put_labels(&scene, labels_of_file("00000", 3, Label::CLAIM)).await;
    assert_eq!(read_known(&scene, "00000").await.file, Some(new_file_label(3, Label::CLAIM)));
    let mut said = labels_of_file("further", 2, Label::PUBLIC_FACT);
    said.extend(FileLabels::for_file("00001", None));
    put_labels(&scene, said).await;
    assert_eq!(
        read_known(&scene, "further").await.file,
        Some(new_file_label(2, Label::PUBLIC_FACT)),
        "there is room"
    );
}

pub(super) async fn a_stranger_knows_and_says_nothing_of_files_and_an_erasure_takes_it(
    store: Arc<dyn Store>,
) {
    let mine = StoreScene::open_scene(store, 1).await;
    let theirs = StoreScene::open_scene(Arc::clone(&mine.store), 2).await;
    let second = mine.agent_id();
    mine.commit_done(mine.new_batch().with_mutation(agent_create(second, "second"))).await;
    put_labels(&mine, FileLabels { rest: Some(Label::CLAIM), ..labels_of_file("a", 1, Label::ACTOR_TEXT) })
        .await;
    mine.commit_done(
        mine.new_batch().with_mutation(put_mutation(second, labels_of_file("a", 2, Label::CLAIM))),
    )
    .await;
    let (store, stranger) = (&mine.store, theirs.tenant_scope());
    assert_eq!(store.file_label(&stranger, mine.agent, "a").await, Ok(KnownFile::default()));
    assert_eq!(store.file_labels(&stranger, mine.agent, PageRequest::first_page(9)).await, Ok(Vec::new()));
    let refusal = theirs
        .commit_refused(
            theirs.new_batch().with_mutation(put_mutation(mine.agent, FileLabels::for_file("a", None))),
        )
        .await;
    assert_eq!(refusal, CommitRefusal::NotFound(mine.agent.to_string()));
    let narrow = mine.tenant_scope().narrowed_to(second);
    assert_eq!(store.file_label(&narrow, mine.agent, "a").await, Ok(KnownFile::default()));
    assert_eq!(
        store.file_labels(&narrow, second, PageRequest::first_page(9)).await,
        Ok(vec![label_row("a", 2, Label::CLAIM)])
    );
    assert_eq!(list_labels(&mine).await, [label_row("a", 1, Label::ACTOR_TEXT)]);
    let (from, to) = (vec![AgentState::Running], AgentState::Deleting);
    let set = AgentStateSet { agent: mine.agent, from, to };
    mine.commit_done(mine.new_batch().with_mutation(Mutation::AgentStateSet(set))).await;
    assert!(list_labels(&mine).await.is_empty(), "one that is being erased is not found");
    // A run that has not ended yet may still say something.
    put_labels(&mine, labels_of_file("b", 1, Label::CLAIM)).await;
    while !store.erase_agent_page(&mine.tenant_scope(), mine.agent).await.expect("a page").1 {}
    mine.commit_done(mine.new_batch().with_mutation(agent_create(mine.agent, "ada"))).await;
    assert!(list_labels(&mine).await.is_empty());
    assert_eq!(read_known(&mine, "a").await, KnownFile::default());
    assert_eq!(
        store.file_labels(&narrow, second, PageRequest::first_page(9)).await,
        Ok(vec![label_row("a", 2, Label::CLAIM)])
    );
}
