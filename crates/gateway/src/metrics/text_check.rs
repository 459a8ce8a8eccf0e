//! Checks the text of metrics as `promtool check metrics` does, for tests: heads before samples, names, suffixes and units.

use std::collections::BTreeMap;

/// Units that are no base units, and how some shorten them.
const BAD_UNITS: [&str; 10] = [
    "milliseconds",
    "microseconds",
    "nanoseconds",
    "minutes",
    "hours",
    "ms",
    "kilobytes",
    "megabytes",
    "kb",
    "mb",
];

/// Finds what is wrong with a text of metrics.
pub(super) fn find_faults(text: &str) -> Vec<String> {
    let (mut faults, mut helped, mut kinds) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            if helped.insert(name, help).is_some() {
                faults.push(format!("{name} has two helps"));
            }
            continue;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            if kinds.insert(name, kind).is_some() {
                faults.push(format!("{name} has two types"));
            }
            check_name(name, kind, &mut faults);
            continue;
        }
        let Some((series, value)) = line.rsplit_once(' ') else {
            faults.push(format!("{line} has no value"));
            continue;
        };
        if value.parse::<f64>().is_err() {
            faults.push(format!("{series} has the value {value}"));
        }
        if !seen.insert(series) {
            faults.push(format!("{series} is there twice"));
        }
        let sample = series.split('{').next().unwrap_or(series);
        let is_part = |name: &&str| {
            let suffix = sample.strip_prefix(*name);
            matches!(kinds.get(*name), Some(&("histogram" | "summary")))
                && matches!(suffix, Some("" | "_bucket" | "_sum" | "_count"))
        };
        let owner = if kinds.contains_key(sample) {
            Some(sample)
        } else {
            kinds.keys().copied().find(|name| is_part(name))
        };
        match owner {
            None => faults.push(format!("{sample} has no type before it")),
            Some(owner) if helped.get(owner).is_none_or(|help| help.trim().is_empty()) => {
                faults.push(format!("{owner} has no help before it"));
            }
            Some(_) => {}
        }
    }
    faults
}

fn check_name(name: &str, kind: &str, faults: &mut Vec<String>) {
    let is_plain = name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
    if !is_plain || !name.starts_with("dromia_") {
        faults.push(format!("{name} is no name of ours"));
    }
    if (kind == "counter") != name.ends_with("_total") {
        faults.push(format!("{name} is a {kind}: `_total` ends counters and nothing else"));
    }
    if ["_bucket", "_sum", "_count", "_counter", "_gauge", "_histogram"].iter().any(|end| name.ends_with(end))
    {
        faults.push(format!("{name} ends as a part or a type of a metric"));
    }
    if let Some(unit) = name.split('_').find(|word| BAD_UNITS.contains(word)) {
        faults.push(format!("{name} has the unit {unit}, which is no base unit"));
    }
}

#[test]
fn faults_of_a_metrics_text_are_caught() {
    const GOOD: &str = "# HELP dromia_a_total A.\n# TYPE dromia_a_total counter\ndromia_a_total{b=\"c\"} 1\n";
    assert_eq!(find_faults(GOOD), Vec::<String>::new());
    for bad in [
        "dromia_a_total 1\n".to_owned(),
        GOOD.replace("_total", ""),
        GOOD.replace("counter", "gauge"),
        GOOD.replace("dromia_a", "dromiaA"),
        GOOD.replace("dromia_a", "dromia_a_ms"),
        GOOD.replace("# HELP dromia_a_total A.\n", ""),
        GOOD.replace(" 1", " one"),
        format!("{GOOD}dromia_a_total{{b=\"c\"}} 1\n"),
    ] {
        assert_ne!(find_faults(&bad), Vec::<String>::new(), "{bad}");
    }
}
