//! Labels of files: what the store's index knows of the files of a workspace, and what a call says of those that it changed.
//!
//! Invariant: a file is what it is known as only while it holds the very bytes that were labelled; every other one is
//! untrusted, for the agent at most. What a file tool writes has the label of all that its run has seen. What a program
//! changed has that of the whole workspace beside it, because it may have read all of it, and is untrusted where it may
//! reach other hosts. Where the index cannot be read, a file has the strictest label. What one actor's input led to is
//! untrusted for every other one. It writes nothing: labels become durable in the commit of the call's result, so a
//! crash before leaves files without a known label.
//!
//! Bounds: of one call [`SAID_MAX`] files are named. What a program changed beyond that, or in a workspace that is too large
//! to be walked, keeps no label of its own: the whole workspace then counts as tainted, which is said as what counts for
//! every file of which nothing is known.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use dromia_contracts::content::ContentPart;
use dromia_contracts::file::{FILE_PATH_BYTES_MAX, FileLabel, FileLabels, KnownFile, label_for};
use dromia_contracts::label::{IntegrityLevel, Label};
use dromia_contracts::store::{PageRequest, Store};
use dromia_contracts::tool::ToolContext;
use dromia_contracts::{Actor, AgentId, Digest, RunId};

use crate::workspace_scan::{WorkspaceDigests, content_digest};

/// The most files of which one call says what they hold.
const SAID_MAX: usize = 128;
/// The most bytes of their paths, which share a batch with the call's result.
const SAID_BYTES_MAX: usize = 16 << 10;

/// Who knows the labels of files.
#[derive(Debug)]
pub(crate) struct FileLabelRegistry {
    store: Arc<dyn Store>,
    /// What runs that have not come to rest may have written already, before it is durable what it holds. There are as many
    /// as the engine drives at most.
    at_work: Mutex<HashMap<RunId, AtWork>>,
}

/// A run that may write.
#[derive(Debug)]
struct AtWork {
    agent: AgentId,
    author: Actor,
    label: Label,
}

impl FileLabelRegistry {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, at_work: Mutex::default() }
    }

    /// Asks what is known of one file.
    pub(crate) async fn file_access(&self, context: &ToolContext, path: &str) -> FileAccess {
        let known = self.store.file_label(&context.scope, context.agent, path).await;
        let known = known.unwrap_or(KnownFile { file: None, rest: STRICTEST });
        FileAccess { known, author: context.author.clone(), label: context.label }
    }

    /// Asks what is known of all files.
    pub(crate) async fn workspace_labels(&self, context: &ToolContext) -> WorkspaceLabels {
        let (rest, author) = (self.file_access(context, "").await.known.rest, context.author.clone());
        let mut known = WorkspaceLabels { files: BTreeMap::new(), rest, least: Label::PUBLIC_FACT, author };
        loop {
            let after = known.files.last_key_value().map(|(path, _)| path.clone());
            let page = PageRequest { after: after.as_deref(), limit: PageRequest::<()>::LIMIT_MAX };
            let Ok(files) = self.store.file_labels(&context.scope, context.agent, page).await else {
                return WorkspaceLabels {
                    files: BTreeMap::new(),
                    rest: STRICTEST,
                    least: STRICTEST,
                    ..known
                };
            };
            let is_last = files.len() < PageRequest::<()>::LIMIT_MAX;
            known.files.extend(files);
            if is_last {
                return known;
            }
        }
    }

    /// Remembers that a run may write to the workspace now, and with which label, until it comes to rest. Returns the join
    /// of what all runs of the agent may write.
    pub(crate) fn begin_writing(&self, context: &ToolContext, label: Label) -> Label {
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = at_work.entry(context.run).or_insert_with(|| AtWork {
            agent: context.agent,
            author: context.author.clone(),
            label,
        });
        mine.label = mine.label.join(label);
        let all = at_work.values().filter(|run| run.agent == context.agent);
        all.fold(label, |all, run| all.join(label_for(run.label, &run.author, &context.author)))
    }

    /// Forgets a run that has come to rest: what it wrote is known, or will never be reported.
    pub(crate) fn let_go(&self, run: RunId) {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }
}

/// Untrusted, and readable only by the actor.
const STRICTEST: Label = Label::CLAIM;

/// What is known of a file, and who is about to read or write it.
#[derive(Debug)]
pub(crate) struct FileAccess {
    known: KnownFile,
    author: Actor,
    label: Label,
}

impl FileAccess {
    /// The label of a content of the file.
    pub(crate) fn label_of(&self, content: Option<Digest>) -> Label {
        self.known.label_of(content, &self.author)
    }

    /// The label of the new content of a file that is replaced.
    pub(crate) fn label_replaced(&self, after: &[u8]) -> LabelledContent {
        LabelledContent::with_label(after, self.label)
    }

    /// What the file holds that held something before.
    pub(crate) fn label_changed(&self, before: &[u8], after: &[u8]) -> LabelledContent {
        LabelledContent::with_label(after, self.label.join(self.label_of(Some(content_digest(before)))))
    }
}

/// The content of a file and its label, as long as nothing else writes to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LabelledContent {
    content: Digest,
    label: Label,
}

impl LabelledContent {
    /// These bytes, with this label.
    pub(crate) fn with_label(content: &[u8], label: Label) -> Self {
        Self { content: content_digest(content), label }
    }

    /// Says whose input led to it.
    pub(crate) fn into_file_label(self, author: &Actor) -> FileLabel {
        FileLabel { content: self.content, label: self.label, author: author.clone() }
    }
}

/// What is known of the files of a workspace, for a run that works on somebody's input.
#[derive(Debug)]
pub(crate) struct WorkspaceLabels {
    files: BTreeMap<String, FileLabel>,
    rest: Label,
    /// A lower bound for the label of all together: the strictest label if the index could not be read.
    least: Label,
    author: Actor,
}

impl WorkspaceLabels {
    /// The label of what a file holds.
    pub(crate) fn label_of(&self, path: &str, content: Option<Digest>) -> Label {
        match self.files.get(path) {
            Some(file) if content == Some(file.content) => file.label_for(&self.author),
            Some(_) | None => Label::UNKNOWN_FILE.join(self.rest),
        }
    }

    /// The join of the labels of all files that are known, whatever they hold now.
    pub(crate) fn label_of_known(&self) -> Label {
        self.files.values().fold(self.least, |label, file| label.join(file.label_for(&self.author)))
    }

    /// The label of all that a program may read that is started now: of what is there, and of what was there and is known.
    pub(crate) fn label_of_all(&self, seen: &WorkspaceDigests) -> Label {
        let there = seen.files.iter().map(|(path, content)| self.label_of(path, *content));
        let unseen = seen.is_cut.then(|| self.label_of("", None));
        there.chain(unseen).fold(self.label_of_known(), Label::join)
    }

    /// Says of every file that holds something else than what is known of it that it has this label now.
    pub(crate) fn changed_labels(&self, seen: &WorkspaceDigests, label: Label) -> FileLabels {
        let mut said = FileLabels { files: BTreeMap::new(), rest: seen.is_cut.then_some(label) };
        let is_known =
            |path: &str, content: Digest| self.files.get(path).is_some_and(|file| file.content == content);
        let held = seen.files.iter().filter_map(|(path, content)| Some((path, (*content)?)));
        let held = held.filter(|(path, content)| !is_known(path.as_str(), *content));
        let held = held.map(|(path, content)| {
            (path, Some(LabelledContent { content, label }.into_file_label(&self.author)))
        });
        let gone = self.files.keys().filter(|path| !seen.is_cut && !seen.files.contains_key(*path));
        let unread = seen.files.values().any(Option::is_none);
        let mut bytes = 0;
        for (path, holds) in held.chain(gone.map(|path| (path, None))) {
            bytes += path.len();
            if said.files.len() >= SAID_MAX || bytes > SAID_BYTES_MAX || path.len() > FILE_PATH_BYTES_MAX {
                said.rest = Some(label);
                break;
            }
            said.files.insert(path.clone(), holds);
        }
        if unread {
            // Too large, or no file that a tool could name: it has no label of its own.
            said.rest = Some(label);
        }
        said
    }
}

/// Narrows what came out of a workspace by the label of what a program could read there. What the tool says itself stays.
pub(crate) fn narrow_labels(parts: &mut [ContentPart], by: Label) {
    for part in parts {
        let (ContentPart::Text { label, .. } | ContentPart::Image { label, .. }) = part;
        if label.integrity == IntegrityLevel::Untrusted {
            *label = label.join(by);
        }
    }
}

/// The join of the labels of what is returned.
pub(crate) fn label_of(parts: &[ContentPart], label: Label) -> Label {
    parts.iter().fold(label, |label, part| label.join(part.label()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> Actor {
        Actor::new("cli:ada")
    }

    fn known(files: &[(&str, &str, Label)]) -> WorkspaceLabels {
        let file = |(path, content, label): &(&str, &str, Label)| {
            (
                (*path).to_owned(),
                LabelledContent::with_label(content.as_bytes(), *label).into_file_label(&ada()),
            )
        };
        let (files, least) = (files.iter().map(file).collect(), Label::PUBLIC_FACT);
        WorkspaceLabels { files, rest: least, least, author: ada() }
    }

    fn seen(files: &[(&str, Option<&str>)], is_cut: bool) -> WorkspaceDigests {
        let file = |(path, content): &(&str, Option<&str>)| {
            ((*path).to_owned(), content.map(|content| content_digest(content.as_bytes())))
        };
        WorkspaceDigests { files: files.iter().map(file).collect(), is_cut }
    }

    #[test]
    fn one_unknown_file_taints_everything_a_program_writes() {
        let index = known(&[("a", "1", Label::ACTOR_TEXT)]);
        for (files, is_cut, label) in [
            (vec![("a", Some("1"))], false, Label::ACTOR_TEXT),
            (vec![("a", Some("2"))], false, Label::CLAIM),
            (vec![("a", Some("1")), ("b", Some("1"))], false, Label::CLAIM),
            (vec![("a", Some("1")), ("b", None)], false, Label::CLAIM),
            (vec![("a", Some("1"))], true, Label::CLAIM),
            // What is not there any more may have been read all the same.
            (vec![], false, Label::ACTOR_TEXT),
        ] {
            assert_eq!(index.label_of_all(&seen(&files, is_cut)), label, "{files:?}");
        }
        assert_eq!(known(&[]).label_of_all(&seen(&[], false)), Label::PUBLIC_FACT);
        let of_another = WorkspaceLabels { author: Actor::new("cli:eve"), ..index };
        assert_eq!(of_another.label_of_all(&seen(&[("a", Some("1"))], false)), Label::CLAIM);
    }

    #[test]
    fn only_changed_files_get_a_new_label() {
        let label = Label::UNKNOWN_FILE;
        let index = known(&[("a", "1", Label::ACTOR_TEXT), ("b", "1", Label::ACTOR_TEXT), ("c", "1", label)]);
        let holds =
            |content: &[u8]| Some(LabelledContent::with_label(content, label).into_file_label(&ada()));
        let said = index
            .changed_labels(&seen(&[("a", Some("1")), ("b", Some("2")), ("d", Some("1"))], false), label);
        let mut expected = FileLabels::for_file("b", holds(b"2"));
        expected.extend(FileLabels::for_file("c", None));
        expected.extend(FileLabels::for_file("d", holds(b"1")));
        assert_eq!(said, expected);
        let said = index.changed_labels(&seen(&[("b", Some("2"))], true), label);
        let expected = FileLabels { rest: Some(label), ..FileLabels::for_file("b", holds(b"2")) };
        assert_eq!(said, expected, "what was not seen may still be there");
        let unread = seen(&[("a", None), ("b", Some("1")), ("c", Some("1"))], false);
        assert_eq!(
            index.changed_labels(&unread, label),
            FileLabels { rest: Some(label), ..FileLabels::default() }
        );
    }

    #[test]
    fn more_than_one_call_may_say_taints_the_workspace() {
        let short = (0..=SAID_MAX).map(|number| format!("{number:04}")).collect::<Vec<_>>();
        let long = (0..20).map(|number| format!("{number:02}{}", "x".repeat(4_090))).collect::<Vec<_>>();
        for (paths, said) in [(short, SAID_MAX), (long, 4)] {
            let files = paths.into_iter().map(|path| (path, Some(content_digest(b"1")))).collect();
            let told = known(&[]).changed_labels(&WorkspaceDigests { files, is_cut: false }, Label::CLAIM);
            assert_eq!((told.files.len(), told.rest), (said, Some(Label::CLAIM)));
        }
    }
}
