//! Policies of the home: that they can count, and that each file forbids something. A running server goes on with the last good
//! ones and says since when; none starts with wrong ones.

use dromia_api::status::PolicyRefused;
use dromia_cli::output::format_time;
use dromia_guard::policy::PolicyEvaluator;

use super::{CheckContext, CheckResult, DoctorCheck, ServerProbe, error_result, ok_result, warning_result};
use crate::policy::{FileRow, PolicyTexts, file_rows, worker_evaluator};

pub(super) const CHECKS: &[DoctorCheck] = &[DoctorCheck { id: "policy.valid", run: check_valid }];

/// A test of this crate is no program that can be a worker; the binary's tests ask a real one.
fn test_evaluator() -> PolicyEvaluator {
    if cfg!(test) { PolicyEvaluator::Here } else { worker_evaluator() }
}

fn check_valid(scene: &CheckContext<'_>) -> CheckResult {
    let read = PolicyTexts::read_folder(scene.home)
        .and_then(|texts| texts.compile_layers(&test_evaluator()).map(|_| texts));
    let texts = match read {
        Ok(texts) => texts,
        Err(problem) => return error_result(format!("{problem}{}", last_good(scene)), FIX),
    };
    // What a server misses is not seen in the home: a folder that is gone looks like one that never was.
    if let Some(PolicyRefused { problem, .. }) = refused_by_server(scene) {
        return error_result(format!("{problem}{}", last_good(scene)), FIX);
    }
    let files = match file_rows(scene.home, &texts) {
        Ok(files) => files,
        Err(problem) => return error_result(problem.to_string(), FIX),
    };
    if let Some(told) = files.iter().find_map(FileRow::warning_line) {
        return warning_result(
            told,
            "move the file, or correct its rules; `dromia policy test` counts the rules of each file",
        );
    }
    match files.len() {
        0 => ok_result("the home has no policies of its own; the built-in policy applies"),
        _ => ok_result("the policies of the home are valid"),
    }
}

/// What a server says that it does not let count.
fn refused_by_server<'a>(scene: &'a CheckContext<'_>) -> Option<&'a PolicyRefused> {
    let ServerProbe::Answers(answers) = scene.server_probe() else { return None };
    answers.status.policy.as_ref().and_then(|policy| policy.refused.as_ref())
}

/// What a server does while what lies in the home is wrong.
fn last_good(scene: &CheckContext<'_>) -> String {
    refused_by_server(scene).map_or_else(String::new, |refused| {
        format!(
            "; the server has ignored it since {} and uses the last valid policy",
            format_time(refused.since)
        )
    })
}

/// What to do about a wrong one.
const FIX: &str = "correct that place; `dromia policy test` reads all policies and runs their tests";

#[cfg(test)]
mod tests {
    use dromia_api::Digest;
    use dromia_api::status::{PolicyRefused, PolicyStatus};

    use super::super::Severity;
    use super::super::test_home::PlantedHome;

    #[test]
    fn an_invalid_policy_is_reported_with_its_place() {
        let planted = PlantedHome::healthy_home();
        assert_eq!(planted.severity_of("policy.valid"), Severity::Ok);
        let folder = planted.home.root_dir().join("policies");
        std::fs::create_dir_all(&folder).expect("is made");
        let write = |text: &str| std::fs::write(folder.join("own.rego"), text).expect("is written");
        write("package dromia.policy\n\nimport rego.v1\n\nnonsense {\n");
        let verdict = planted.result_of("policy.valid");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.message.contains("policies/own.rego:5:"), "{verdict:?}");
        write(
            "package dromia.policy\n\nimport rego.v1\n\nverdicts contains {\"verdict\": \"deny\", \"rule\": \"r\", \"reason\": \
             \"why\"} if {\n\tinput.action.tool == \"file.list\"\n}\n",
        );
        assert_eq!(planted.severity_of("policy.valid"), Severity::Ok);
    }

    #[test]
    fn a_refused_policy_is_reported_with_cause_and_time() {
        let mut planted = PlantedHome::healthy_home();
        let folder = planted.home.root_dir().join("policies");
        std::fs::create_dir_all(&folder).expect("is made");
        let rule = "package dromia.policy\n\nimport rego.v1\n\nverdicts contains {\"verdict\": \"deny\", \"rule\": \"r\"} if foo(1)\n";
        std::fs::write(folder.join("own.rego"), rule).expect("is written");
        let refused =
            PolicyRefused { problem: String::new(), since: "2026-05-31T07:00:00Z".parse().expect("a time") };
        let policy = PolicyStatus { digest: Digest::default(), files: Vec::new(), refused: Some(refused) };
        planted.world.status_mut().policy = Some(policy);
        let verdict = planted.result_of("policy.valid");
        assert_eq!(verdict.severity, Severity::Error);
        for part in ["policies/own.rego:5:", "no function `foo`", "has ignored it since 2026-05-31 07:00:00Z"]
        {
            assert!(verdict.message.contains(part), "{part}: {verdict:?}");
        }
    }

    #[test]
    fn a_missing_policy_folder_and_a_dead_link_are_reported() {
        let mut planted = PlantedHome::healthy_home();
        let folder = planted.home.root_dir().join("policies");
        std::os::unix::fs::symlink(planted.home.root_dir().join("lost"), &folder).expect("is linked");
        let verdict = planted.result_of("policy.valid");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.message.starts_with("policies: it cannot be read: it is a link"), "{verdict:?}");
        std::fs::remove_file(&folder).expect("is removed");
        assert_eq!(planted.severity_of("policy.valid"), Severity::Ok, "there never was one");
        let since = "2026-05-31T07:00:00Z".parse().expect("a time");
        let refused = PolicyRefused { problem: "policies: it is gone".to_owned(), since };
        let policy = PolicyStatus { digest: Digest::default(), files: Vec::new(), refused: Some(refused) };
        planted.world.status_mut().policy = Some(policy);
        let verdict = planted.result_of("policy.valid");
        assert_eq!(verdict.severity, Severity::Error);
        for part in ["policies: it is gone", "has ignored it since 2026-05-31 07:00:00Z"] {
            assert!(verdict.message.contains(part), "{part}: {verdict:?}");
        }
    }

    #[test]
    fn a_policy_file_without_verdicts_is_a_named_warning() {
        let planted = PlantedHome::healthy_home();
        let folder = planted.home.root_dir().join("policies");
        std::fs::create_dir_all(folder.join("sub")).expect("is made");
        let head = "package dromia.policy\n\nimport rego.v1\n\n";
        let rule = "verdicts contains {\"verdict\": \"deny\", \"rule\": \"r\"} if input.version == 2\n";
        let write = |name: &str, rule: &str| {
            std::fs::write(folder.join(name), format!("{head}{rule}")).expect("is written");
        };
        write("good.rego", rule);
        assert_eq!(planted.severity_of("policy.valid"), Severity::Ok);
        write("typo.rego", &rule.replace("verdicts", "verdict"));
        let verdict = planted.result_of("policy.valid");
        assert_eq!(verdict.severity, Severity::Warning);
        assert!(verdict.message.starts_with("policies/typo.rego: it has no rule `verdicts"), "{verdict:?}");
        std::fs::remove_file(folder.join("typo.rego")).expect("is removed");
        write("sub/deep.rego", rule);
        let verdict = planted.result_of("policy.valid");
        assert!(
            verdict.message.starts_with("policies/sub/deep.rego: the server does not read it"),
            "{verdict:?}"
        );
        assert_eq!(verdict.severity, Severity::Warning);
    }
}
