//! Policies of the home: that they can count. A running server goes on with the last good ones and says so in its log only, and
//! none starts with wrong ones.

use super::{Check, Scene, Verdict, error, ok};
use crate::policy::Texts;

pub(super) const CHECKS: &[Check] = &[Check { id: "policy.valid", run: valid }];

fn valid(scene: &Scene<'_>) -> Verdict {
    let texts = match Texts::read(scene.home) {
        Ok(texts) => texts,
        Err(problem) => return error(problem.to_string(), FIX),
    };
    let files = texts.instance.len() + texts.tenants.values().map(Vec::len).sum::<usize>();
    match texts.compile() {
        Ok(_) if files == 0 => ok("the built-in policy is the only one"),
        Ok(_) => ok("the policies of the home can count"),
        Err(problem) => error(problem.to_string(), FIX),
    }
}

/// What to do about a wrong one.
const FIX: &str = "mend that place; `dromia policy test` reads them all and runs their tests";

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::plant::Planted;

    #[test]
    fn a_policy_that_cannot_count_is_told_with_its_place() {
        let planted = Planted::sound();
        assert_eq!(planted.found("policy.valid"), Severity::Ok);
        let folder = planted.home.root().join("policies");
        std::fs::create_dir_all(&folder).expect("is made");
        let write = |text: &str| std::fs::write(folder.join("own.rego"), text).expect("is written");
        write("package dromia.policy\n\nimport rego.v1\n\nnonsense {\n");
        let verdict = planted.verdict("policy.valid");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.message.contains("policies/own.rego:5:"), "{verdict:?}");
        write(
            "package dromia.policy\n\nimport rego.v1\n\nverdicts contains {\"verdict\": \"deny\", \"rule\": \"r\", \"reason\": \
             \"why\"} if {\n\tinput.action.tool == \"file.list\"\n}\n",
        );
        assert_eq!(planted.found("policy.valid"), Severity::Ok);
    }
}
