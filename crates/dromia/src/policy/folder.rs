//! The files of the policy in a home: `policies/*.rego` for the server, `policies/tenants/TENANT_ID/*.rego` for one tenant.
//!
//! Files whose names end with `_test.rego` are tests; a server does not ask them. A server reads the folder when it starts,
//! where a wrong policy keeps it from starting, and looks again every two seconds: what changed counts from then on, and
//! where it is wrong the last good one goes on to count and the log says so, with the place. Wrong is what cannot be read,
//! what calls a function that is not there, and what cannot answer a sample of each kind of question. Wrong is also a link that
//! leads nowhere, and a folder whose policies counted and which is gone, as after a lost mount: nobody said that nothing is
//! forbidden any more. Whoever means it leaves the folder there, empty.
//!
//! A mount that is lost may also leave a folder: the empty one that it hid. So a folder whose policies counted and which is
//! empty is believed only where it is the same directory as before (device and number), or was seen to be gone in between:
//! whoever removes it and makes it anew means it. Which directory it is, only policies say that count.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dromia_contracts::TenantId;
use dromia_contracts::runtime::Clock;
use dromia_guard::policy::{BYTES_MAX, FILES_MAX, Layer, PolicyProblem, PolicyText};
use dromia_guard::{Layers, Policies};
use jiff::Timestamp;

use super::own;
use crate::home::Home;
use crate::system::Exit;

/// How often a server looks whether the folder changed.
const LOOK: Duration = Duration::from_secs(2);
/// The most tenants that have a policy of their own.
const TENANTS_MAX: usize = 1024;
/// How the names of tests end.
pub(super) const TEST: &str = "_test.rego";
/// The most files that are named though nobody reads them.
const STRAYS_MAX: usize = 16;
/// How often a directory is read that gives way to another meanwhile.
const READS_MAX: usize = 3;

/// Which directory stands at a path: its device, and its number there.
type Place = (u64, u64);
/// Finds out which directory stands at a path; nothing where none does, or nobody can tell.
type PlaceOf = fn(&Path) -> Option<Place>;
/// The policies of one directory, and which directory it is.
type Placed = (Vec<PolicyText>, Option<Place>);
/// Folders whose policies count, from the home, and which directory each was; nothing of one that was gone since.
type Counted = BTreeMap<String, Option<Place>>;

/// Every file of the folder, by layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    /// The server's.
    pub(crate) instance: Vec<PolicyText>,
    /// The tenants'.
    pub(crate) tenants: BTreeMap<TenantId, Vec<PolicyText>>,
}

impl Texts {
    /// Reads the folder of a home; one that is not there says nothing.
    pub(crate) fn read(home: &Home) -> Result<Self, PolicyProblem> {
        Self::read_after(home, &Counted::new(), place_of).map(|(texts, _)| texts)
    }

    /// Reads the folder of a home, in which those folders must be: policies in them count. Tells with the texts which folders
    /// hold policies that a server asks.
    fn read_after(
        home: &Home,
        counted: &Counted,
        place_of: PlaceOf,
    ) -> Result<(Self, Counted), PolicyProblem> {
        let root = home.root().join("policies");
        let is_placed = |folder: &str| counted.get(folder).is_some_and(Option::is_some);
        let mut there = Counted::new();
        let mut instance = Vec::new();
        if let Some((files, place)) = placed(&root, "policies", place_of, is_placed("policies"))? {
            there.insert("policies".to_owned(), place);
            instance = files;
        }
        let mut tenants = BTreeMap::new();
        for (name, path) in entries(&root.join("tenants"), "policies/tenants")? {
            let here = format!("policies/tenants/{name}");
            let Ok(tenant) = name.parse::<TenantId>() else {
                let problem = "it is no tenant's id; `dromia tenant list --json` has them";
                return Err(wrong(&here, problem));
            };
            if tenants.len() == TENANTS_MAX {
                return Err(wrong("policies/tenants", format!("it holds at most {TENANTS_MAX} tenants")));
            }
            let folder = tenant_folder(tenant);
            if let Some((files, place)) = placed(&path, &here, place_of, is_placed(&folder))? {
                tenants.insert(tenant, files);
                there.insert(folder, place);
            }
        }
        let texts = Self { instance, tenants };
        let asked = texts.folders();
        for (folder, known) in counted {
            let Some(place) = there.get(folder) else {
                let problem = "it is gone, and its policies counted; put it back, or leave an empty folder there if they shall not \
                               count any more";
                return Err(wrong(folder, problem));
            };
            if known.is_some() && known != place && !asked.contains(folder) {
                let problem = "it is empty and not the folder that it was, as after a lost mount, and its policies counted; put \
                               them back, or remove the folder and, once the log says that it is gone, make it again if they \
                               shall not count any more";
                return Err(wrong(folder, problem));
            }
        }
        there.retain(|folder, _| asked.contains(folder));
        Ok((texts, there))
    }

    /// The folders that hold policies which a server asks.
    fn folders(&self) -> BTreeSet<String> {
        let tenants = self.tenants.iter().map(|(tenant, files)| (tenant_folder(*tenant), files));
        let all = tenants.chain([("policies".to_owned(), &self.instance)]);
        let is_asked = |files: &[PolicyText]| files.iter().any(|file| !file.name.ends_with(TEST));
        all.filter(|(_, files)| is_asked(files)).map(|(folder, _)| folder).collect()
    }

    /// Compiles what a server asks, and has it answer the samples, so that nothing counts which breaks on what is usual.
    pub(crate) fn compile(&self) -> Result<Layers, PolicyProblem> {
        let layer = |name: &str, files: &[PolicyText]| {
            let asked: Vec<_> = files.iter().filter(|file| !file.name.ends_with(TEST)).cloned().collect();
            if asked.is_empty() { Ok(None) } else { Layer::compile(name, &asked).map(Some) }
        };
        let instance = layer("policies", &self.instance)?;
        let mut tenants = BTreeMap::new();
        for (tenant, files) in &self.tenants {
            if let Some(layer) = layer(&tenant_folder(*tenant), files)? {
                tenants.insert(*tenant, layer);
            }
        }
        let layers = Layers { instance, tenants };
        layers.probe()?;
        Ok(layers)
    }
}

/// The folder of a tenant's policies, from the home.
fn tenant_folder(tenant: TenantId) -> String {
    format!("policies/tenants/{tenant}")
}

/// What a server knows of the folder.
struct Known {
    /// What the last look found.
    found: Result<Texts, PolicyProblem>,
    /// Whether that counts: texts that were read may still be wrong.
    is_good: bool,
    /// The folders whose policies count: those of the last good texts.
    counted: Counted,
    place_of: PlaceOf,
}

impl Known {
    /// Knows what counts.
    fn good(texts: Texts, counted: Counted) -> Self {
        Self { found: Ok(texts), is_good: true, counted, place_of }
    }

    /// Forgets which directory a folder was that is gone: what stands there next was put there by somebody. A link that leads
    /// nowhere and what cannot be looked at are not gone.
    fn forget_gone(&mut self, home: &Home) {
        for (folder, place) in &mut self.counted {
            let looked = std::fs::symlink_metadata(home.root().join(folder));
            if looked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                *place = None;
            }
        }
    }
}

/// Lets the folder's policy count, or says why it cannot; goes on to look for changes in the background.
pub(crate) fn follow(home: &Home, policies: &Policies, clock: Arc<dyn Clock>) -> anyhow::Result<()> {
    let read = Texts::read_after(home, &Counted::new(), place_of);
    let read = read.and_then(|(texts, counted)| texts.compile().map(|layers| (texts, counted, layers)));
    let (texts, counted, layers) = read.map_err(|problem| {
        tracing::error!(%problem, "a policy is wrong, so the server does not start");
        Exit::usage_of(problem)
    })?;
    policies.replace(layers);
    tracing::info!(digest = %policies.instance_digest(), files = names(&texts), "the policy that counts");
    warn(home, &texts);
    let (home, policies) = (home.clone(), policies.clone());
    tokio::spawn(async move {
        let mut known = Known::good(texts, counted);
        loop {
            tokio::time::sleep(LOOK).await;
            let (home, policies, clock) = (home.clone(), policies.clone(), Arc::clone(&clock));
            let looking = tokio::task::spawn_blocking(move || {
                look_and_tell(&home, &policies, &mut known, clock.now());
                known
            });
            let Ok(found) = looking.await else {
                tracing::error!("the policy is not looked at any more; what counts now goes on to count");
                return;
            };
            known = found;
        }
    });
    Ok(())
}

/// Looks once, and says in the log and to whoever asks the server what came of it.
fn look_and_tell(home: &Home, policies: &Policies, known: &mut Known, now: Timestamp) {
    match look(home, policies, known) {
        Ok(false) => {}
        Ok(true) => {
            let files = known.found.as_ref().map(names).unwrap_or_default();
            tracing::warn!(digest = %policies.instance_digest(), files, "another policy counts from now on");
            if let Ok(texts) = &known.found {
                warn(home, texts);
            }
        }
        Err(problem) => {
            policies.refuse(&problem, now);
            tracing::error!(%problem, "the policy is wrong, so the last good one goes on to count");
        }
    }
}

/// The files that count, for the log.
fn names(texts: &Texts) -> String {
    let all = texts.instance.iter().chain(texts.tenants.values().flatten());
    let names: Vec<_> = all.map(|file| file.name.as_str()).filter(|name| !name.ends_with(TEST)).collect();
    names.join(" ")
}

/// Says in the log which files say nothing to anybody.
fn warn(home: &Home, texts: &Texts) {
    for row in own::files(home, texts).unwrap_or_default() {
        if let Some(warning) = row.warning {
            tracing::warn!(file = row.file, warning, "a policy of the home forbids nothing");
        }
    }
}

/// Names the policies that lie where nobody reads them: one folder deeper than those that are read.
pub(super) fn strays(home: &Home) -> Vec<String> {
    let root = home.root().join("policies");
    let mut read = vec![(root.clone(), "policies".to_owned())];
    for (name, path) in entries(&root.join("tenants"), "policies/tenants").unwrap_or_default() {
        read.push((path, format!("policies/tenants/{name}")));
    }
    let mut found = Vec::new();
    for (dir, shown) in read {
        for (name, path) in entries(&dir, &shown).unwrap_or_default() {
            // The tenants' folder is read as such.
            if !path.is_dir() || (dir == root && name == "tenants") {
                continue;
            }
            let shown = format!("{shown}/{name}");
            let inside = entries(&path, &shown).unwrap_or_default().into_iter();
            let is_policy = |(_, path): &(String, PathBuf)| path.extension().is_some_and(|is| is == "rego");
            found.extend(inside.filter(is_policy).map(|(name, _)| format!("{shown}/{name}")));
            if found.len() >= STRAYS_MAX {
                found.truncate(STRAYS_MAX);
                return found;
            }
        }
    }
    found
}

/// Lets count what changed since the last look, if anything did and all of it is right.
fn look(home: &Home, policies: &Policies, known: &mut Known) -> Result<bool, PolicyProblem> {
    let (found, there) = match Texts::read_after(home, &known.counted, known.place_of) {
        Ok((texts, there)) => (Ok(texts), there),
        Err(problem) => {
            known.forget_gone(home);
            (Err(problem), Counted::new())
        }
    };
    if found == known.found {
        // The same policies may stand in another directory from now on. Wrong ones say nothing of where they stand: they may
        // be what somebody wrote to the bare folder that a lost mount left.
        if known.is_good {
            known.counted = there;
        }
        return Ok(false);
    }
    let good = found.as_ref().map_err(Clone::clone).and_then(Texts::compile);
    known.found = found;
    known.is_good = good.is_ok();
    policies.replace(good?);
    known.counted = there;
    Ok(true)
}

/// Tells which directory stands at a path, behind links.
fn place_of(dir: &Path) -> Option<Place> {
    std::fs::metadata(dir).ok().map(|about| (about.dev(), about.ino()))
}

/// Reads the policies of one directory, and which directory it is. One that gives way to another meanwhile is read again; one
/// that goes on to do so is refused where it is known which directory it was, and is none in particular elsewhere: a start
/// has nothing to compare it with.
fn placed(
    dir: &Path,
    shown: &str,
    place_of: PlaceOf,
    is_placed: bool,
) -> Result<Option<Placed>, PolicyProblem> {
    let mut place = place_of(dir);
    let mut reads = 0;
    loop {
        let files = files(dir, shown)?;
        let now = place_of(dir);
        reads += 1;
        if now == place {
            return Ok(files.map(|files| (files, place)));
        }
        if reads == READS_MAX {
            let problem =
                format!("another folder took its place each of the {READS_MAX} times that it was read");
            return if is_placed { Err(wrong(shown, problem)) } else { Ok(files.map(|files| (files, None))) };
        }
        place = now;
    }
}

/// Reads the policies of one directory, in the order of their names; nothing where there is no directory.
fn files(dir: &Path, shown: &str) -> Result<Option<Vec<PolicyText>>, PolicyProblem> {
    let Some(entries) = listed(dir, shown)? else { return Ok(None) };
    let mut texts = Vec::new();
    for (name, path) in entries {
        if path.extension().is_none_or(|extension| extension != "rego") {
            continue;
        }
        let name = format!("{shown}/{name}");
        if texts.len() == 2 * FILES_MAX {
            return Err(wrong(shown, format!("it holds at most {FILES_MAX} policies and as many tests")));
        }
        let unreadable = |error: io::Error| wrong(&name, format!("it cannot be read: {error}"));
        let about = std::fs::metadata(&path).map_err(unreadable)?;
        if !about.is_file() || about.len() > BYTES_MAX as u64 {
            return Err(wrong(&name, format!("it is no file of at most {BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        texts.push(PolicyText { name, text });
    }
    Ok(Some(texts))
}

/// Names and paths of what a directory holds.
type Entries = Vec<(String, PathBuf)>;

/// Lists a directory, sorted; one that is not there is empty.
fn entries(dir: &Path, shown: &str) -> Result<Entries, PolicyProblem> {
    listed(dir, shown).map(Option::unwrap_or_default)
}

/// Lists a directory, sorted, if it is there. A link that leads nowhere is not taken for one that is not.
fn listed(dir: &Path, shown: &str) -> Result<Option<Entries>, PolicyProblem> {
    let unreadable = |error: io::Error| wrong(shown, format!("it cannot be read: {error}"));
    let listed = match std::fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match std::fs::symlink_metadata(dir) {
                Ok(about) if about.is_symlink() => {
                    Err(wrong(shown, "it cannot be read: it is a link to what is not there"))
                }
                Err(absent) if absent.kind() == io::ErrorKind::NotFound => Ok(None),
                Ok(_) | Err(_) => Err(unreadable(error)),
            };
        }
        Err(error) => return Err(unreadable(error)),
    };
    let mut found = Vec::new();
    for entry in listed {
        let entry = entry.map_err(unreadable)?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(Some(found))
}

fn wrong(file: &str, problem: impl Into<String>) -> PolicyProblem {
    PolicyProblem { file: file.to_owned(), place: None, problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use dromia_contracts::gate::{Action, Principal};
    use dromia_contracts::label::Label;
    use dromia_contracts::plan::Planning;
    use dromia_contracts::{Actor, Authority};
    use dromia_guard::policy::Call;

    use super::*;

    const RULE: &str = "package dromia.policy\nimport rego.v1\nverdicts contains {\"verdict\": \"deny\", \"rule\": \"r\", \"reason\": \"\"} if input.version == 2\n";

    fn home(files: &[(&str, &str)]) -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = dir.path().join("policies").join(name);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("it is made");
            std::fs::write(path, text).expect("it is written");
        }
        let home = Home::find(Some(dir.path()));
        (dir, home)
    }

    #[test]
    fn each_tenant_has_its_own_layer_and_tests_are_not_asked() {
        let (tenant, other) = (TenantId::from_bytes([7; 16]), TenantId::from_bytes([8; 16]));
        let own = format!("tenants/{tenant}/own.rego");
        let tested = format!("tenants/{other}/own_test.rego");
        let (_dir, home) =
            home(&[("a.rego", RULE), ("notes.txt", "no policy"), (&own, RULE), (&tested, RULE)]);
        let layers = Texts::read(&home).and_then(|texts| texts.compile()).expect("it is right");
        assert!(layers.instance.is_some());
        assert_eq!(layers.tenants.keys().collect::<Vec<_>>(), [&tenant]);
    }

    #[test]
    fn a_policy_that_becomes_wrong_leaves_the_last_good_one() {
        let deny = RULE.replace("== 2", "== 1");
        let (dir, home) = home(&[("a.rego", RULE)]);
        let path = dir.path().join("policies/a.rego");
        let policies = Policies::built_in().expect("the shipped policy compiles");
        let scope = Authority::claim().scope(TenantId::from_bytes([1; 16]), Actor::new("cli:ada"));
        let is_denied = || {
            let (author, context) = (scope.actor(), Label::PUBLIC_FACT);
            let principal = Principal {
                scope: &scope,
                author,
                grants: &[],
                context,
                endorsed: &[],
                plan: Planning::OPEN,
            };
            let judged = policies.judge(principal, Action::Model { model: "m" }, "grant model");
            judged.said.call == Call::Deny
        };
        let mut known = Known::good(Texts::default(), Counted::new());
        assert_eq!((look(&home, &policies, &mut known), is_denied()), (Ok(true), false));
        assert_eq!(look(&home, &policies, &mut known), Ok(false), "nothing changed");
        std::fs::write(&path, &deny).expect("it is written");
        assert_eq!((look(&home, &policies, &mut known), is_denied()), (Ok(true), true));
        std::fs::write(&path, "package dromia.policy\nimport rego.v1\nverdicts contains if\n")
            .expect("written");
        let wrong = look(&home, &policies, &mut known).expect_err("it is wrong");
        assert!(wrong.to_string().starts_with("policies/a.rego:3:"), "{wrong}");
        assert!(is_denied(), "the last good one counts");
        assert_eq!(look(&home, &policies, &mut known), Ok(false), "it is told once");
        std::fs::write(&path, RULE).expect("it is written");
        assert_eq!((look(&home, &policies, &mut known), is_denied()), (Ok(true), false));
    }

    #[test]
    fn a_policy_that_is_asked_nothing_before_it_counts_is_caught() {
        let breaks = RULE.replace("input.version == 2", "to_number(input.action.model) == 1");
        let text = PolicyText { name: "a.rego".to_owned(), text: breaks.clone() };
        assert!(Layer::compile("policies", &[text]).is_ok(), "nothing but a question finds it");
        let (dir, home) = home(&[("a.rego", RULE)]);
        let path = dir.path().join("policies/a.rego");
        let policies = Policies::built_in().expect("the shipped policy compiles");
        let mut known = Known::good(Texts::default(), Counted::new());
        let at = |second| Timestamp::from_second(second).expect("a time");
        let mut look = |second| {
            look_and_tell(&home, &policies, &mut known, at(second));
            policies.standing(TenantId::from_bytes([1; 16]))
        };
        let good = look(1);
        assert_eq!((&good.files[..], &good.refused), (&["policies/a.rego".to_owned()][..], &None));
        std::fs::write(&path, &breaks).expect("it is written");
        let broken = look(2);
        std::fs::write(&path, breaks.replace("\"r\"", "\"s\"")).expect("it is written");
        let still = look(3);
        for standing in [&broken, &still] {
            let refused = standing.refused.as_ref().expect("what lies there does not count");
            assert_eq!((standing.digest, refused.since), (good.digest, at(2)), "{refused:?}");
            assert!(refused.problem.starts_with("policies/a.rego:3:"), "{refused:?}");
            assert!(refused.problem.contains("a request to a model"), "{refused:?}");
        }
        std::fs::write(&path, RULE).expect("it is written");
        assert_eq!(look(4), good);
    }

    #[test]
    fn a_lost_folder_that_is_taken_for_an_empty_one_is_caught() {
        let tenant = TenantId::from_bytes([7; 16]);
        let own = format!("tenants/{tenant}/own.rego");
        let policies = Policies::built_in().expect("the shipped policy compiles");
        for (file, folder) in [("a.rego", "policies".to_owned()), (own.as_str(), tenant_folder(tenant))] {
            let (dir, home) = home(&[(file, RULE)]);
            let (there, aside) = (dir.path().join(&folder), dir.path().join("aside"));
            let mut known = Known::good(Texts::default(), Counted::new());
            assert_eq!(look(&home, &policies, &mut known), Ok(true));
            let counts = policies.standing(tenant).digest;
            let said = |problem: PolicyProblem, part: &str| {
                let told = problem.to_string();
                assert!(told.starts_with(&folder) && told.contains(part), "{told}");
                assert_eq!(policies.standing(tenant).digest, counts, "the last good one counts");
            };
            std::fs::rename(&there, &aside).expect("it is moved");
            said(look(&home, &policies, &mut known).expect_err("it is gone"), "it is gone");
            assert_eq!(look(&home, &policies, &mut known), Ok(false), "it is told once");
            // A link to it counts as the folder does, and one that leads nowhere is no folder without policies.
            std::os::unix::fs::symlink(&aside, &there).expect("it is linked");
            assert_eq!(look(&home, &policies, &mut known), Ok(true));
            std::fs::rename(&aside, dir.path().join("lost")).expect("it is moved");
            said(look(&home, &policies, &mut known).expect_err("it leads nowhere"), "it is a link");
            assert!(Texts::read(&home).is_err(), "no server starts with it");
            std::fs::remove_file(&there).expect("it is removed");
            said(look(&home, &policies, &mut known).expect_err("it is gone"), "it is gone");
            assert_eq!(Texts::read(&home).map(|texts| texts.folders().len()), Ok(0), "a start has nothing");
            // Whoever means it says so.
            std::fs::create_dir(&there).expect("it is made");
            assert_eq!(look(&home, &policies, &mut known), Ok(true));
            std::fs::remove_dir(&there).expect("it is removed");
            assert!(look(&home, &policies, &mut known).is_ok(), "nothing in it counted");
        }
    }

    #[test]
    fn an_unmounted_folder_that_is_taken_for_an_empty_one_is_caught() {
        // A mount looks like another device at the same path.
        static MOUNTED: AtomicU64 = AtomicU64::new(0);
        let on_device = |path: &Path| {
            let (device, number) = place_of(path)?;
            Some((device + MOUNTED.load(Ordering::SeqCst), number))
        };
        let tenant = TenantId::from_bytes([7; 16]);
        let own = format!("tenants/{tenant}/own.rego");
        let policies = Policies::built_in().expect("the shipped policy compiles");
        for (file, folder) in [("a.rego", "policies".to_owned()), (own.as_str(), tenant_folder(tenant))] {
            let (dir, home) = home(&[(file, RULE)]);
            let (there, path) = (dir.path().join(&folder), dir.path().join("policies").join(file));
            let mut known = Known { place_of: on_device, ..Known::good(Texts::default(), Counted::new()) };
            let unmounted = || MOUNTED.fetch_add(1, Ordering::SeqCst);
            assert_eq!(look(&home, &policies, &mut known), Ok(true));
            let counts = policies.standing(tenant).digest;
            unmounted();
            assert_eq!(look(&home, &policies, &mut known), Ok(false), "elsewhere, with the same policies");
            unmounted();
            std::fs::remove_file(&path).expect("it is removed");
            let lost = look(&home, &policies, &mut known).expect_err("it is empty, elsewhere").to_string();
            assert!(lost.starts_with(&folder) && lost.contains("lost mount"), "{lost}");
            assert_eq!(policies.standing(tenant).digest, counts, "the last good one counts");
            assert_eq!(look(&home, &policies, &mut known), Ok(false), "it is told once");
            // It comes back, and whoever removes the file from the folder as it is means it.
            std::fs::write(&path, RULE).expect("it is written");
            assert_eq!(look(&home, &policies, &mut known), Ok(true));
            std::fs::remove_file(&path).expect("it is removed");
            assert_eq!(look(&home, &policies, &mut known), Ok(true), "nothing of it counts any more");
            assert_ne!(policies.standing(tenant).digest, counts);
            // So does whoever removes the folder, is told so, and makes it anew.
            std::fs::write(&path, RULE).expect("it is written");
            assert_eq!(look(&home, &policies, &mut known), Ok(true));
            std::fs::remove_dir_all(&there).expect("it is removed");
            unmounted();
            assert!(look(&home, &policies, &mut known).is_err(), "it is gone");
            assert_eq!(policies.standing(tenant).digest, counts);
            std::fs::create_dir(&there).expect("it is made");
            assert_eq!(look(&home, &policies, &mut known), Ok(true));
            assert_ne!(policies.standing(tenant).digest, counts);
        }
    }

    #[test]
    fn a_wrong_policy_that_teaches_the_bare_mount_is_caught() {
        static MOUNTED: AtomicU64 = AtomicU64::new(0);
        let on_device = |path: &Path| {
            let (device, number) = place_of(path)?;
            Some((device + MOUNTED.load(Ordering::SeqCst), number))
        };
        let tenant = TenantId::from_bytes([7; 16]);
        let policies = Policies::built_in().expect("the shipped policy compiles");
        let (dir, home) = home(&[("a.rego", RULE)]);
        let path = dir.path().join("policies/a.rego");
        let mut known = Known { place_of: on_device, ..Known::good(Texts::default(), Counted::new()) };
        assert_eq!(look(&home, &policies, &mut known), Ok(true));
        let counts = policies.standing(tenant).digest;
        // The mount is gone, and somebody writes to the bare folder what is wrong, sees it, and takes it out again.
        MOUNTED.fetch_add(1, Ordering::SeqCst);
        std::fs::write(&path, "package dromia.policy\nimport rego.v1\nverdicts contains if\n")
            .expect("written");
        let wrong = look(&home, &policies, &mut known).expect_err("it is wrong").to_string();
        assert!(wrong.starts_with("policies/a.rego:3:"), "{wrong}");
        assert_eq!(look(&home, &policies, &mut known), Ok(false), "it is told once");
        std::fs::remove_file(&path).expect("it is removed");
        let lost = look(&home, &policies, &mut known).expect_err("it is empty, elsewhere").to_string();
        assert!(lost.contains("lost mount"), "{lost}");
        assert_eq!(policies.standing(tenant).digest, counts, "the last good one counts");
        // What is right there counts, and from then on that is the folder.
        std::fs::write(&path, RULE).expect("it is written");
        assert_eq!(look(&home, &policies, &mut known), Ok(true));
        std::fs::remove_file(&path).expect("it is removed");
        assert_eq!(look(&home, &policies, &mut known), Ok(true), "nothing of it counts any more");
    }

    #[test]
    fn a_folder_that_gives_way_to_another_is_read_again_and_never_keeps_a_server_from_starting() {
        static LOOKS: AtomicU64 = AtomicU64::new(0);
        let settling = |path: &Path| {
            let (device, number) = place_of(path)?;
            Some((device + LOOKS.fetch_add(1, Ordering::SeqCst).min(2), number))
        };
        let restless = |path: &Path| {
            let (device, number) = place_of(path)?;
            Some((device + LOOKS.fetch_add(1, Ordering::SeqCst), number))
        };
        let (dir, home) = home(&[("a.rego", RULE)]);
        let (device, number) = place_of(&dir.path().join("policies")).expect("it is there");
        let counted = |place| Counted::from([("policies".to_owned(), place)]);
        let texts = Texts::read(&home).expect("it is read");
        let known = counted(Some((device, number)));
        let read = Texts::read_after(&home, &known, settling).expect("the third time it stays");
        assert_eq!(read, (texts.clone(), counted(Some((device + 2, number)))));
        for unplaced in [Counted::new(), counted(None)] {
            let read = Texts::read_after(&home, &unplaced, restless).expect("nothing to compare it with");
            assert_eq!(read, (texts.clone(), counted(None)));
        }
        let moved = Texts::read_after(&home, &known, restless).expect_err("it is another each time");
        assert!(moved.to_string().contains("another folder took its place"), "{moved}");
    }

    #[test]
    fn a_home_without_policies_says_nothing() {
        let (_dir, home) = home(&[]);
        assert_eq!(Texts::read(&home), Ok(Texts::default()));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (name, text, said) in [
            (
                "a.rego",
                "package elsewhere\nimport rego.v1\nallow := true\n",
                "policies/a.rego:1:1: it must begin",
            ),
            ("a.rego", "package dromia.policy\nimport rego.v1\nverdicts contains if\n", "policies/a.rego:3:"),
            ("tenants/acme/a.rego", RULE, "policies/tenants/acme: it is no tenant's id"),
        ] {
            let (_dir, home) = home(&[(name, text)]);
            let problem = Texts::read(&home).and_then(|texts| texts.compile()).expect_err(said);
            assert!(problem.to_string().starts_with(said), "{problem}");
        }
    }
}
