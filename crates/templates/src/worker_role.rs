//! Roles of workers: how one kind of work is done well.
//!
//! An agent's own document `roles/NAME.md` takes the place of the role of that name; the tool that
//! spawns a worker looks there first.

/// How one kind of work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerRole {
    /// Its name, spelled like a handle.
    pub name: &'static str,
    /// What it is for, in a line.
    pub summary: &'static str,
    /// What the worker reads with its task.
    pub text: &'static str,
}

/// Every role that is built in, by name.
pub const ROLES: [WorkerRole; 6] = [
    WorkerRole {
        name: "analyst",
        summary: "answers a question from data, with its numbers and how they were counted",
        text: include_str!("roles/analyst.md"),
    },
    WorkerRole {
        name: "coder",
        summary: "changes code, and checks that it works",
        text: include_str!("roles/coder.md"),
    },
    WorkerRole {
        name: "researcher",
        summary: "finds facts, each with its source",
        text: include_str!("roles/researcher.md"),
    },
    WorkerRole {
        name: "reviewer",
        summary: "looks for what is wrong in a text or a change, and says how bad it is",
        text: include_str!("roles/reviewer.md"),
    },
    WorkerRole {
        name: "tester",
        summary: "finds out whether something works, and how it fails",
        text: include_str!("roles/tester.md"),
    },
    WorkerRole {
        name: "writer",
        summary: "writes a text for its readers",
        text: include_str!("roles/writer.md"),
    },
];

/// Finds a built-in role by its name.
pub fn find_role(name: &str) -> Option<&'static WorkerRole> {
    ROLES.iter().find(|role| role.name == name)
}

#[cfg(test)]
mod tests {
    use dromia_contracts::agent::HandleSlug;
    use dromia_contracts::identity_document::check_document_text;

    use super::*;

    #[test]
    fn roles_are_sorted_named_like_handles_and_could_be_documents() {
        assert!(ROLES.is_sorted_by_key(|role| role.name));
        for role in ROLES {
            assert!(role.name.parse::<HandleSlug>().is_ok(), "{}", role.name);
            assert_eq!(check_document_text(role.text), Ok(()), "{}", role.name);
            assert_eq!(find_role(role.name), Some(&role));
            assert!(role.text.len() < 1_500, "{}: every request of a worker has it", role.name);
        }
        assert_eq!(find_role("poet"), None);
    }
}
