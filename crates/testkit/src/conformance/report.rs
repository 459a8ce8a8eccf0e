//! What a conformance suite found out, as rows of a table that `make conformance` prints.

use std::fmt::Write as _;

/// A claim of a port, and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimReport {
    /// The claim.
    pub claim: &'static str,
    /// The test that plants a fault which the claim notices, where there is one.
    pub fault: Option<&'static str>,
    /// Why it does not hold.
    pub problem: Option<String>,
}

/// Writes a line for each claim of a port on a backend: port, backend, claim, result, planted fault.
pub fn conformance_table(port: &str, backend: &str, reports: &[ClaimReport]) -> String {
    let mut table = String::new();
    for ClaimReport { claim, fault, problem } in reports {
        let result = problem.as_ref().map_or("holds", |_| "FAILS");
        let fault = fault.unwrap_or("-");
        // A text takes any line.
        let _ = writeln!(table, "| {port} | {backend} | {claim} | {result} | {fault} |");
        if let Some(problem) = problem {
            let _ = writeln!(table, "{claim}: {problem}");
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_fails_is_printed_with_its_problem() {
        let holds = ClaimReport { claim: "a", fault: Some("b_is_caught"), problem: None };
        let fails = ClaimReport { claim: "c", fault: None, problem: Some("lost".to_owned()) };
        assert_eq!(
            conformance_table("store", "x", &[holds, fails]),
            "| store | x | a | holds | b_is_caught |\n| store | x | c | FAILS | - |\nc: lost\n"
        );
    }
}
