//! Labels of files: what the store's index knows of the files of a workspace, and what a call says of those that it changed.
//!
//! Invariant: a file is what it is known as only while it holds the very bytes that were labelled; every other one is
//! untrusted, for the agent at most. What a file tool writes has the label of all that its run has seen. What a program
//! changed has that of the whole workspace beside it, because it may have read all of it, and is untrusted where it may reach
//! other hosts. Where the index cannot be read, a file has the strictest label. What one actor's input led to is untrusted
//! for every other one. It writes nothing: what is said becomes durable in the commit of the call's result, so a crash before
//! leaves files that nobody knows.
//!
//! Bounds: of one call [`SAID_MAX`] files are named. What a program changed beyond that, or in a workspace that is too large
//! to be walked, keeps no label of its own: the whole workspace then counts as tainted, which is said as what counts for
//! every file of which nothing is known.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use dromia_contracts::content::Part;
use dromia_contracts::file::{FILE_PATH_BYTES_MAX, FileLabel, FileLabels, KnownFile, label_for};
use dromia_contracts::label::{Integrity, Label};
use dromia_contracts::store::{Page, Store};
use dromia_contracts::tool::ToolContext;
use dromia_contracts::{Actor, AgentId, Digest, RunId};

use crate::walk::{Seen, digest};

/// The most files of which one call says what they hold.
const SAID_MAX: usize = 128;
/// The most bytes of their paths, which share a batch with the call's result.
const SAID_BYTES_MAX: usize = 16 << 10;

/// Who knows the labels of files.
#[derive(Debug)]
pub(crate) struct Marks {
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

impl Marks {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, at_work: Mutex::default() }
    }

    /// Asks what is known of one file.
    pub(crate) async fn of(&self, context: &ToolContext, path: &str) -> Mark {
        let known = self.store.file_label(&context.scope, context.agent, path).await;
        let known = known.unwrap_or(KnownFile { file: None, rest: STRICTEST });
        Mark { known, author: context.author.clone(), label: context.label }
    }

    /// Asks what is known of all files.
    pub(crate) async fn all(&self, context: &ToolContext) -> Known {
        let (rest, author) = (self.of(context, "").await.known.rest, context.author.clone());
        let mut known = Known { files: BTreeMap::new(), rest, least: Label::PUBLIC_FACT, author };
        loop {
            let after = known.files.last_key_value().map(|(path, _)| path.clone());
            let page = Page { after: after.as_deref(), limit: Page::<()>::LIMIT_MAX };
            let Ok(files) = self.store.file_labels(&context.scope, context.agent, page).await else {
                return Known { files: BTreeMap::new(), rest: STRICTEST, least: STRICTEST, ..known };
            };
            let is_last = files.len() < Page::<()>::LIMIT_MAX;
            known.files.extend(files);
            if is_last {
                return known;
            }
        }
    }

    /// Remembers that a run may write to the workspace now, and with which label, until it comes to rest. Returns the join
    /// of what all runs of the agent may write.
    pub(crate) fn begin(&self, context: &ToolContext, label: Label) -> Label {
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

    /// Forgets a run that has come to rest: what it wrote is known, or nobody will ever say.
    pub(crate) fn let_go(&self, run: RunId) {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }
}

/// Untrusted, and for nobody but the actor.
const STRICTEST: Label = Label::CLAIM;

/// What is known of a file, and who is about to read or write it.
#[derive(Debug)]
pub(crate) struct Mark {
    known: KnownFile,
    author: Actor,
    label: Label,
}

impl Mark {
    /// The label of a content of the file.
    pub(crate) fn label_of(&self, content: Option<Digest>) -> Label {
        self.known.label_of(content, &self.author)
    }

    /// What the file holds that is written anew.
    pub(crate) fn anew(&self, after: &[u8]) -> Holds {
        Holds::of(after, self.label)
    }

    /// What the file holds that held something before.
    pub(crate) fn changed(&self, before: &[u8], after: &[u8]) -> Holds {
        Holds::of(after, self.label.join(self.label_of(Some(digest(before)))))
    }
}

/// What a file holds, as long as nobody else writes to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holds {
    content: Digest,
    label: Label,
}

impl Holds {
    /// These bytes, with this label.
    pub(crate) fn of(content: &[u8], label: Label) -> Self {
        Self { content: digest(content), label }
    }

    /// Says whose input led to it.
    pub(crate) fn by(self, author: &Actor) -> FileLabel {
        FileLabel { content: self.content, label: self.label, author: author.clone() }
    }
}

/// What is known of the files of a workspace, for a run that works on somebody's input.
#[derive(Debug)]
pub(crate) struct Known {
    files: BTreeMap<String, FileLabel>,
    rest: Label,
    /// The label of all together, at least: the strictest, where nobody could tell.
    least: Label,
    author: Actor,
}

impl Known {
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
    pub(crate) fn label_of_all(&self, seen: &Seen) -> Label {
        let there = seen.files.iter().map(|(path, content)| self.label_of(path, *content));
        let unseen = seen.is_cut.then(|| self.label_of("", None));
        there.chain(unseen).fold(self.label_of_known(), Label::join)
    }

    /// Says of every file that holds something else than what is known of it that it has this label now.
    pub(crate) fn changed(&self, seen: &Seen, label: Label) -> FileLabels {
        let mut said = FileLabels { files: BTreeMap::new(), rest: seen.is_cut.then_some(label) };
        let is_known =
            |path: &str, content: Digest| self.files.get(path).is_some_and(|file| file.content == content);
        let held = seen.files.iter().filter_map(|(path, content)| Some((path, (*content)?)));
        let held = held.filter(|(path, content)| !is_known(path.as_str(), *content));
        let held = held.map(|(path, content)| (path, Some(Holds { content, label }.by(&self.author))));
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
pub(crate) fn narrow(parts: &mut [Part], by: Label) {
    for part in parts {
        let (Part::Text { label, .. } | Part::Image { label, .. }) = part;
        if label.integrity == Integrity::Untrusted {
            *label = label.join(by);
        }
    }
}

/// The join of the labels of what is told.
pub(crate) fn label_of(parts: &[Part], label: Label) -> Label {
    parts.iter().fold(label, |label, part| label.join(part.label()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> Actor {
        Actor::new("cli:ada")
    }

    fn known(files: &[(&str, &str, Label)]) -> Known {
        let file = |(path, content, label): &(&str, &str, Label)| {
            ((*path).to_owned(), Holds::of(content.as_bytes(), *label).by(&ada()))
        };
        let (files, least) = (files.iter().map(file).collect(), Label::PUBLIC_FACT);
        Known { files, rest: least, least, author: ada() }
    }

    fn seen(files: &[(&str, Option<&str>)], is_cut: bool) -> Seen {
        let file = |(path, content): &(&str, Option<&str>)| {
            ((*path).to_owned(), content.map(|content| digest(content.as_bytes())))
        };
        Seen { files: files.iter().map(file).collect(), is_cut }
    }

    #[test]
    fn one_file_that_nobody_knows_taints_all_that_a_program_writes() {
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
        let of_another = Known { author: Actor::new("cli:eve"), ..index };
        assert_eq!(of_another.label_of_all(&seen(&[("a", Some("1"))], false)), Label::CLAIM);
    }

    #[test]
    fn what_changed_is_said_and_what_did_not_is_left_as_it_is() {
        let label = Label::UNKNOWN_FILE;
        let index = known(&[("a", "1", Label::ACTOR_TEXT), ("b", "1", Label::ACTOR_TEXT), ("c", "1", label)]);
        let holds = |content: &[u8]| Some(Holds::of(content, label).by(&ada()));
        let said =
            index.changed(&seen(&[("a", Some("1")), ("b", Some("2")), ("d", Some("1"))], false), label);
        let mut expected = FileLabels::of("b", holds(b"2"));
        expected.extend(FileLabels::of("c", None));
        expected.extend(FileLabels::of("d", holds(b"1")));
        assert_eq!(said, expected);
        let said = index.changed(&seen(&[("b", Some("2"))], true), label);
        let expected = FileLabels { rest: Some(label), ..FileLabels::of("b", holds(b"2")) };
        assert_eq!(said, expected, "what was not seen may still be there");
        let unread = seen(&[("a", None), ("b", Some("1")), ("c", Some("1"))], false);
        assert_eq!(index.changed(&unread, label), FileLabels { rest: Some(label), ..FileLabels::default() });
    }

    #[test]
    fn more_than_one_call_may_say_taints_the_workspace() {
        let short = (0..=SAID_MAX).map(|number| format!("{number:04}")).collect::<Vec<_>>();
        let long = (0..20).map(|number| format!("{number:02}{}", "x".repeat(4_090))).collect::<Vec<_>>();
        for (paths, said) in [(short, SAID_MAX), (long, 4)] {
            let files = paths.into_iter().map(|path| (path, Some(digest(b"1")))).collect();
            let told = known(&[]).changed(&Seen { files, is_cut: false }, Label::CLAIM);
            assert_eq!((told.files.len(), told.rest), (said, Some(Label::CLAIM)));
        }
    }
}
