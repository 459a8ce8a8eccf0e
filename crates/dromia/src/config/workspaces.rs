//! What the file says about directories outside of the home: below which ones agents may have workspaces.
//!
//! A root is of one tenant. One without `{tenant}` is of the tenant `default`; in others `{tenant}` is one whole name of the
//! path, which is the tenant's handle. A root below another tenant's would give that tenant its files, so roots that overlap
//! are refused, and so is one that is the whole file system. What lies there is looked at when an agent gets a workspace.

use std::path::{Path, PathBuf};

use dromia_contracts::agent::HandleSlug;
/// The most roots.
const ROOTS_MAX: usize = 64;

/// What a root has in the place of a tenant's handle.
const TENANT: &str = "{tenant}";

/// The tenant of roots that name none.
const DEFAULT_TENANT: &str = "default";

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

/// Takes the roots; lists what is wrong with them, each with its place in the list.
pub(super) fn resolve_roots(roots: &[String]) -> (WorkspaceRootTable, Vec<(usize, String)>) {
    let mut problems = Vec::new();
    if roots.len() > ROOTS_MAX {
        problems.push((ROOTS_MAX, format!("at most {ROOTS_MAX} roots are allowed")));
    }
    for (number, root) in roots.iter().enumerate() {
        let overlapping =
            roots[..number].iter().find(|other| root_problem(other).is_none() && overlap(other, root));
        let problem = match (root_problem(root), overlapping) {
            (Some(problem), _) => problem.to_owned(),
            (None, Some(other)) => format!("overlaps with {other}, so one tenant could get files of another"),
            (None, None) => continue,
        };
        problems.push((number, problem));
    }
    (WorkspaceRootTable(roots.iter().map(|root| Path::new(root).components().collect()).collect()), problems)
}

/// Says what is wrong with a root by itself.
fn root_problem(root: &str) -> Option<&'static str> {
    let Some(below) = root.strip_prefix('/') else {
        return Some("must be an absolute path, such as /srv/work");
    };
    let below = below.strip_suffix('/').unwrap_or(below);
    if below.is_empty() {
        return Some("must not be the whole file system; name a directory");
    }
    if below.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Some("must be a path without `.`, `..` and double slashes");
    }
    has_partial_tenant(below)
        .then_some("may have `{tenant}` once, as a whole name between slashes, such as /srv/work/{tenant}")
}

fn has_partial_tenant(below: &str) -> bool {
    let whole = below.split('/').filter(|name| *name == TENANT).count();
    whole > 1 || whole == 0 && below.contains(TENANT) || below.matches(TENANT).count() != whole
}

/// Returns whether the roots of different tenants may lie in one another.
fn overlap(one: &str, other: &str) -> bool {
    let fixed =
        |root: &str| -> PathBuf { Path::new(root).iter().take_while(|name| *name != TENANT).collect() };
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
    fn an_unfit_root_is_refused_at_its_place() {
        let roots =
            ["/srv/work", "srv", "/", "/srv/..", "/srv/x-{tenant}", "/srv/{tenant}", "/data/{tenant}"];
        let (_, problems) = resolve_roots(&roots.map(str::to_owned));
        let places: Vec<_> = problems.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [1, 2, 3, 4, 5], "{problems:?}");
        assert!(problems[4].1.contains("overlaps with /srv/work"), "{problems:?}");
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
