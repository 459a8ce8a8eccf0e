//! What the file says about directories outside of the home: below which ones agents may have workspaces.
//!
//! A root is of one tenant. One without `{tenant}` is of the tenant `default`; in others `{tenant}` is one whole name of the
//! path, which is the tenant's handle. A root below another tenant's would give that tenant its files, so roots that overlap
//! are refused, and so is one that is the whole file system. What lies there is looked at when an agent gets a workspace.

use std::path::{Path, PathBuf};

use dromia_contracts::agent::HandleSlug;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resolve::ProblemCollector;

/// The most roots.
const ROOTS_MAX: usize = 64;

/// What a root has in the place of a tenant's handle.
const TENANT: &str = "{tenant}";

/// The tenant of roots that name none.
const DEFAULT_TENANT: &str = "default";

/// Directories outside of the home that agents may work in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenWorkspaces {
    /// Directories at or below which agents may have workspaces (`dromia agent create NAME --workspace DIR`), as absolute
    /// paths. A tenant beside `default` gets only roots that have its handle in the place of `{tenant}`, such as
    /// `/srv/work/{tenant}`; without any, no agent gets a directory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) roots: Vec<String>,
}

/// The roots of all tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct WorkspaceRootTable(Vec<PathBuf>);

impl WorkspaceRootTable {
    /// Returns whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lists the roots of a tenant.
    pub(crate) fn roots_of_tenant(&self, tenant: &HandleSlug) -> Vec<PathBuf> {
        let with_handle = |root: &PathBuf| {
            let names = root.iter().map(|name| if name == TENANT { tenant.as_str().as_ref() } else { name });
            let names: PathBuf = names.collect();
            (names != *root || tenant.as_str() == DEFAULT_TENANT).then_some(names)
        };
        self.0.iter().filter_map(with_handle).collect()
    }
}

/// Takes the roots, where they are clean paths that keep tenants apart.
pub(crate) fn resolve_roots(
    written: &WrittenWorkspaces,
    check: &mut ProblemCollector<'_>,
) -> WorkspaceRootTable {
    if written.roots.len() > ROOTS_MAX {
        check.add_problem("workspaces.roots", format!("at most {ROOTS_MAX} roots are allowed"));
    }
    for (number, root) in written.roots.iter().enumerate() {
        let key = format!("workspaces.roots.{number}");
        let below = root.strip_prefix('/').map(|below| below.strip_suffix('/').unwrap_or(below));
        let problem = match below {
            None => Some("must be an absolute path, such as /srv/work"),
            Some("") => Some("must not be the whole file system; name a directory"),
            Some(below) if below.split('/').any(|name| matches!(name, "" | "." | "..")) => {
                Some("must be a path without `.`, `..` and double slashes")
            }
            Some(below) if has_partial_tenant(below) => {
                Some("may have `{tenant}` once, as a whole name between slashes, such as /srv/work/{tenant}")
            }
            Some(_) => None,
        };
        if let Some(problem) = problem {
            check.add_problem(&key, problem);
            continue;
        }
        let overlapping = written.roots[..number].iter().find(|other| overlap(other, root));
        if let Some(other) = overlapping {
            let problem = format!("overlaps with {other}, so one tenant could get files of another");
            check.add_problem(&key, problem);
        }
    }
    WorkspaceRootTable(written.roots.iter().map(|root| Path::new(root).components().collect()).collect())
}

fn has_partial_tenant(below: &str) -> bool {
    let whole = below.split('/').filter(|name| *name == TENANT).count();
    whole > 1 || whole == 0 && below.contains(TENANT) || below.matches(TENANT).count() != whole
}

/// Returns whether the roots of different tenants may lie in one another.
fn overlap(one: &str, other: &str) -> bool {
    let fixed = |root: &str| -> PathBuf { Path::new(root).iter().take_while(|name| *name != TENANT).collect() };
    let (first, second) = (fixed(one), fixed(other));
    let is_of_default = |root: &str| !root.contains(TENANT);
    // Two of `default`, or two with the tenant at the same place, are of one tenant each.
    if is_of_default(one) == is_of_default(other) && (is_of_default(one) || first == second) {
        return false;
    }
    first.starts_with(&second) || second.starts_with(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_gets_only_roots_with_its_handle() {
        let table = WorkspaceRootTable(vec!["/srv/work".into(), "/srv/of/{tenant}/work".into()]);
        let of = |handle: &str| table.roots_of_tenant(&handle.parse().expect("a handle"));
        assert_eq!(of("acme"), [PathBuf::from("/srv/of/acme/work")]);
        assert_eq!(of("default"), [PathBuf::from("/srv/work"), PathBuf::from("/srv/of/default/work")]);
    }

    #[test]
    fn roots_of_two_tenants_do_not_overlap() {
        for (one, other, overlaps) in [
            ("/srv/a", "/srv/b", false),
            ("/srv/a", "/srv/a/b", false),
            ("/srv/a", "/srv/{tenant}", true),
            ("/srv", "/srv/of/{tenant}", true),
            ("/srv/{tenant}", "/srv/of", true),
            ("/srv/{tenant}/a", "/srv/{tenant}", false),
            ("/srv/{tenant}", "/srv/of/{tenant}", true),
            ("/srv/of/{tenant}", "/srv/work", false),
        ] {
            assert_eq!(overlap(one, other), overlaps, "{one} {other}");
            assert_eq!(overlap(other, one), overlaps, "{other} {one}");
        }
        assert!(has_partial_tenant("srv/x-{tenant}") && has_partial_tenant("{tenant}/{tenant}"));
        assert!(!has_partial_tenant("srv/{tenant}") && !has_partial_tenant("srv"));
    }
}
