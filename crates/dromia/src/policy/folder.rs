//! The files of the policy in a home: `policies/*.rego` for the server, `policies/tenants/TENANT_ID/*.rego` for one tenant.
//!
//! Files whose names end with `_test.rego` are tests; a server does not ask them. Wrong is what cannot be read, what
//! calls a function that is not there, and what cannot answer a sample of each kind of question. Wrong is also a link
//! that leads nowhere, and a folder whose policies counted and which is gone, as after a lost mount: its loss does not
//! lift what the policies forbid. An operator who wants no policies leaves the folder there, empty.
//!
//! A mount that is lost may also leave a folder: the empty one that it hid. So a folder whose policies counted and
//! which is empty is believed only where it is the same directory as before (device and number), or was seen to be gone
//! in between: an operator who removes it and makes it again means it. Which directory it is, only policies say that
//! count.

mod follow;

use std::collections::{BTreeMap, BTreeSet};

use dromia_contracts::TenantId;
use dromia_guard::PolicyLayers;
use dromia_guard::policy::{PolicyEvaluator, PolicyLayer, PolicyProblem, PolicyText};

use super::directory::{Place, PlaceOf, list_or_empty, place_of, policy_problem, read_placed};
use crate::home::Home;

pub(crate) use self::follow::follow_folder;

/// The most tenants that have a policy of their own.
const TENANTS_MAX: usize = 1024;
/// How the names of tests end.
pub(super) const TEST: &str = "_test.rego";

/// Folders whose policies count, from the home, and which directory each was; nothing of one that was gone since.
type Counted = BTreeMap<String, Option<Place>>;

/// Every file of the folder, by layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PolicyTexts {
    /// The server's.
    pub(crate) instance: Vec<PolicyText>,
    /// The tenants'.
    pub(crate) tenants: BTreeMap<TenantId, Vec<PolicyText>>,
}

impl PolicyTexts {
    /// Reads the folder of a home; one that is not there says nothing.
    pub(crate) fn read_folder(home: &Home) -> Result<Self, PolicyProblem> {
        Self::read_after(home, &Counted::new(), place_of).map(|(texts, _)| texts)
    }

    /// Reads the folder of a home, in which those folders must be: policies in them count. Tells with the texts which folders
    /// hold policies that a server asks.
    fn read_after(
        home: &Home,
        counted: &Counted,
        place_of: PlaceOf,
    ) -> Result<(Self, Counted), PolicyProblem> {
        let root = home.root_dir().join("policies");
        let is_placed = |folder: &str| counted.get(folder).is_some_and(Option::is_some);
        let mut there = Counted::new();
        let mut instance = Vec::new();
        if let Some((files, place)) = read_placed(&root, "policies", place_of, is_placed("policies"))? {
            there.insert("policies".to_owned(), place);
            instance = files;
        }
        let mut tenants = BTreeMap::new();
        for (name, path) in list_or_empty(&root.join("tenants"), "policies/tenants")? {
            let here = format!("policies/tenants/{name}");
            let Ok(tenant) = name.parse::<TenantId>() else {
                let problem = "it is not the id of a tenant; `dromia tenant list --json` shows the ids";
                return Err(policy_problem(&here, problem));
            };
            if tenants.len() == TENANTS_MAX {
                return Err(policy_problem(
                    "policies/tenants",
                    format!("it has more than {TENANTS_MAX} tenants"),
                ));
            }
            let folder = tenant_folder(tenant);
            if let Some((files, place)) = read_placed(&path, &here, place_of, is_placed(&folder))? {
                tenants.insert(tenant, files);
                there.insert(folder, place);
            }
        }
        let texts = Self { instance, tenants };
        let asked = texts.policy_folders();
        for (folder, known) in counted {
            let Some(place) = there.get(folder) else {
                let problem = "the folder is missing, but its policies applied; restore it, or create an \
                               empty folder there if they should no longer apply";
                return Err(policy_problem(folder, problem));
            };
            if known.is_some() && known != place && !asked.contains(folder) {
                let problem = "the folder is empty and was replaced, as after a lost mount, but its policies \
                               applied; restore them, or remove the folder and, when the log says that it is \
                               missing, create it again if they should no longer apply";
                return Err(policy_problem(folder, problem));
            }
        }
        there.retain(|folder, _| asked.contains(folder));
        Ok((texts, there))
    }

    /// The folders that hold policies which a server asks.
    fn policy_folders(&self) -> BTreeSet<String> {
        let tenants = self.tenants.iter().map(|(tenant, files)| (tenant_folder(*tenant), files));
        let all = tenants.chain([("policies".to_owned(), &self.instance)]);
        let is_asked = |files: &[PolicyText]| files.iter().any(|file| !file.name.ends_with(TEST));
        all.filter(|(_, files)| is_asked(files)).map(|(folder, _)| folder).collect()
    }

    /// Compiles what a server asks, and has it answer the samples, so that nothing counts which breaks on what is usual.
    pub(crate) fn compile_layers(&self, evaluator: &PolicyEvaluator) -> Result<PolicyLayers, PolicyProblem> {
        let layer = |name: &str, files: &[PolicyText]| {
            let asked: Vec<_> = files.iter().filter(|file| !file.name.ends_with(TEST)).cloned().collect();
            if asked.is_empty() { Ok(None) } else { PolicyLayer::compile_layer(name, &asked).map(Some) }
        };
        let instance = layer("policies", &self.instance)?;
        let mut tenants = BTreeMap::new();
        for (tenant, files) in &self.tenants {
            if let Some(layer) = layer(&tenant_folder(*tenant), files)? {
                tenants.insert(*tenant, layer);
            }
        }
        let layers = PolicyLayers { instance, tenants };
        evaluator.probe_samples(&layers)?;
        Ok(layers)
    }
}

/// The folder of a tenant's policies, from the home.
pub(super) fn tenant_folder(tenant: TenantId) -> String {
    format!("policies/tenants/{tenant}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    pub(super) const RULE: &str = "package dromia.policy\nimport rego.v1\nverdicts contains {\"verdict\": \"deny\", \"rule\": \"r\", \"reason\": \"\"} if input.version == 2\n";

    pub(super) fn home(files: &[(&str, &str)]) -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = dir.path().join("policies").join(name);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("it is made");
            std::fs::write(path, text).expect("it is written");
        }
        let home = Home::locate_home(Some(dir.path()));
        (dir, home)
    }

    #[test]
    fn each_tenant_has_its_own_layer_without_policy_tests() {
        let (tenant, other) = (TenantId::from_bytes([7; 16]), TenantId::from_bytes([8; 16]));
        let own = format!("tenants/{tenant}/own.rego");
        let tested = format!("tenants/{other}/own_test.rego");
        let (_dir, home) =
            home(&[("a.rego", RULE), ("notes.txt", "no policy"), (&own, RULE), (&tested, RULE)]);
        let layers = PolicyTexts::read_folder(&home)
            .and_then(|texts| texts.compile_layers(&PolicyEvaluator::Here))
            .expect("it is right");
        assert!(layers.instance.is_some());
        assert_eq!(layers.tenants.keys().collect::<Vec<_>>(), [&tenant]);
    }

    #[test]
    fn a_policy_folder_replaced_while_read_is_read_again() {
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
        let texts = PolicyTexts::read_folder(&home).expect("it is read");
        let known = counted(Some((device, number)));
        let read = PolicyTexts::read_after(&home, &known, settling).expect("the third time it stays");
        assert_eq!(read, (texts.clone(), counted(Some((device + 2, number)))));
        for unplaced in [Counted::new(), counted(None)] {
            let read =
                PolicyTexts::read_after(&home, &unplaced, restless).expect("nothing to compare it with");
            assert_eq!(read, (texts.clone(), counted(None)));
        }
        let moved = PolicyTexts::read_after(&home, &known, restless).expect_err("it is another each time");
        assert!(moved.to_string().contains("the folder was replaced"), "{moved}");
    }

    #[test]
    fn a_home_without_policies_has_no_policy_texts() {
        let (_dir, home) = home(&[]);
        assert_eq!(PolicyTexts::read_folder(&home), Ok(PolicyTexts::default()));
    }

    #[test]
    fn a_wrong_policy_file_is_named_with_its_place() {
        for (name, text, said) in [
            (
                "a.rego",
                "package elsewhere\nimport rego.v1\nallow := true\n",
                "policies/a.rego:1:1: it must begin",
            ),
            ("a.rego", "package dromia.policy\nimport rego.v1\nverdicts contains if\n", "policies/a.rego:3:"),
            ("tenants/acme/a.rego", RULE, "policies/tenants/acme: it is not the id of a tenant"),
        ] {
            let (_dir, home) = home(&[(name, text)]);
            let problem = PolicyTexts::read_folder(&home)
                .and_then(|texts| texts.compile_layers(&PolicyEvaluator::Here))
                .expect_err(said);
            assert!(problem.to_string().starts_with(said), "{problem}");
        }
    }
}
