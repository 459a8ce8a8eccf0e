//! Which text counts: in a running server, at a start, and after any of many mutations of a file.

use std::fs;

use super::start::StartConfig;
use super::*;

const GOOD: &str = "version: 1
listen: 127.0.0.1:7700
default_agent: assistant
providers:
  hub: { kind: openai, base_url: 'http://127.0.0.1:9/v1', key: 'env:HUB' }
models:
  default: { provider: hub, model: small, fallback: [spare] }
  spare: { kind: scripted }
engine: { active_max: 8, model_calls_max: 9 }
tenants:
  default:
    budgets:
      - { name: day, per: tenant, measure: money, period: day, limit: \"5\" }
approvals: { unattended: [webhook] }
permissions: { deny: [exec] }
";

/// A home that was served once with a good configuration.
fn served_home() -> (tempfile::TempDir, Home) {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::locate_home(Some(dir.path()));
    fs::create_dir(home.store_dir()).expect("is made");
    fs::write(home.store_dir().join("dromia.db"), "x").expect("is written");
    fs::write(home.config_path(), GOOD).expect("is written");
    StartConfig::choose(&home, &[], true).expect("it is good");
    (dir, home)
}

fn live(home: &Home) -> LiveConfig {
    let StartConfig { revision, resolved, refused } =
        StartConfig::choose(home, &[], false).expect("it starts");
    LiveConfig::begin(home, Vec::new(), revision, &resolved, refused, Timestamp::UNIX_EPOCH)
}

#[test]
fn a_start_with_a_bad_file_uses_the_last_good_configuration() {
    let (_dir, home) = served_home();
    for bad in ["models: [", "modles: {}\n", "\u{0}", "engine: { active_max: 0 }\n"] {
        fs::write(home.config_path(), bad).expect("is written");
        let start = StartConfig::choose(&home, &[], false).expect("the last good one counts");
        assert_eq!(start.revision.record.text, GOOD, "{bad:?}");
        let banner = start.banner_text().expect("it is never silent");
        assert!(banner.contains("dromia.yaml:1:") && banner.contains("dromia config revert 1"), "{banner}");
        assert!(StartConfig::choose(&home, &[], true).is_err(), "a strict start refuses {bad:?}");
        assert_eq!(fs::read_to_string(home.config_path()).expect("is there"), bad, "the file is left alone");
    }
    fs::remove_file(home.config_path()).expect("is removed");
    assert!(StartConfig::choose(&home, &[], false).expect("it counts").banner_text().is_some());
    fs::create_dir(home.config_path()).expect("is made");
    assert!(StartConfig::choose(&home, &[], false).expect("it counts").banner_text().is_some());
}

/// Returns whether a start goes on with a bad file and says so, where it is made so.
fn starts_with_a_bad_file(choose: impl Fn(&Home) -> anyhow::Result<StartConfig>) -> bool {
    let (_dir, home) = served_home();
    fs::write(home.config_path(), "modles: {}\n").expect("is written");
    choose(&home).is_ok_and(|start| start.banner_text().is_some())
}

#[test]
fn a_bad_file_never_stops_a_start_that_has_a_good_one() {
    assert!(starts_with_a_bad_file(|home| StartConfig::choose(home, &[], false)));
}

/// Planted fault: a start takes nothing but the file.
#[test]
fn a_bad_file_that_stops_the_server_is_caught() {
    assert!(!starts_with_a_bad_file(|home| StartConfig::choose(home, &[], true)), "nothing notices it");
}

/// Planted fault: the last good configuration is taken without a word.
#[test]
fn a_silent_step_back_is_caught() {
    let silent = |home: &Home| {
        let start = StartConfig::choose(home, &[], false)?;
        Ok(StartConfig { refused: None, ..start })
    };
    assert!(!starts_with_a_bad_file(silent), "nothing notices it");
}

#[test]
fn a_start_without_any_good_configuration_fails_as_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::locate_home(Some(dir.path()));
    fs::write(home.config_path(), "modles: {}\n").expect("is written");
    let problem = StartConfig::choose(&home, &[], false).err().expect("nothing is good");
    assert!(problem.to_string().contains("dromia.yaml:1:1"), "{problem}");
}

#[test]
fn a_wrong_flag_is_no_reason_to_go_back() {
    let (_dir, home) = served_home();
    let flag = ConfigFlag { name: "--set", key: "engine.active_max".to_owned(), value: "many".to_owned() };
    assert!(StartConfig::choose(&home, &[flag], false).is_err());
}

/// Returns whether a bad text leaves the good one counting, where texts are taken so.
fn keeps_the_last_good(take: impl Fn(&LiveConfig, &str)) -> bool {
    let (_dir, home) = served_home();
    let live = live(&home);
    take(&live, "modles: {}\n");
    let active = live.active_config();
    active.digest == text_digest(GOOD)
        && active.refused.is_some_and(|refused| refused.problem.contains("modles"))
}

fn offer(live: &LiveConfig, text: &str) {
    match live.read_offer(text.to_owned(), "test".to_owned()) {
        Ok(None) => live.note_agreed(),
        Ok(Some(offered)) => {
            let record = ConfigHistory::of_home(&live.home).record_or_warn(&offered.text, &offered.author);
            let revision = ConfigRevision::new(record, offered.loaded);
            live.note_applied(revision, Timestamp::UNIX_EPOCH);
        }
        Err(problem) => {
            live.note_refused(problem, Timestamp::UNIX_EPOCH);
        }
    }
}

#[test]
fn a_bad_edit_leaves_the_last_good_configuration() {
    assert!(keeps_the_last_good(offer));
}

/// Planted fault: what has no form is taken for an empty file.
#[test]
fn a_bad_file_that_counts_as_empty_is_caught() {
    let as_empty = |live: &LiveConfig, _bad: &str| offer(live, "version: 1\n");
    assert!(!keeps_the_last_good(as_empty), "nothing notices it");
}

#[test]
fn an_edit_counts_and_names_the_keys_that_wait() {
    let (_dir, home) = served_home();
    let live = live(&home);
    assert_eq!(live.active_config().revision, 1);
    offer(&live, &GOOD.replace("7700", "7701"));
    let active = live.active_config();
    assert_eq!((active.revision, active.pending), (2, vec!["listen".to_owned()]));
    offer(&live, "");
    assert!(live.active_config().refused.is_some_and(|refused| refused.problem.contains("no key")));
    offer(&live, &GOOD.replace("7700", "7701"));
    assert_eq!(live.active_config().refused, None, "the file says again what counts");
    offer(&live, GOOD);
    let active = live.active_config();
    assert_eq!((active.revision, active.pending), (3, Vec::new()), "an edit taken back waits for nothing");
}

/// A small generator, so that a failure names its seed.
struct MutationSeed(u64);

impl MutationSeed {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % below.max(1)
    }
}

/// Mutates a text: cuts, doubles or swaps lines, cuts the end off, or replaces a character.
fn mutate_text(text: &str, seed: &mut MutationSeed) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=seed.next(3) {
        let at = seed.next(lines.len());
        match seed.next(6) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let other = seed.next(lines.len());
                lines.swap(at, other);
            }
            3 => lines.truncate(at.max(1)),
            4 => {
                let strange =
                    ['{', '}', ':', '-', ' ', '\t', '"', '\'', '0', 'x', '#', '&', '*', '\u{7f}', 'é'];
                let mut chars: Vec<char> = lines[at].chars().collect();
                let place = seed.next(chars.len() + 1);
                let new = strange[seed.next(strange.len())];
                if place < chars.len() {
                    chars[place] = new;
                } else {
                    chars.push(new);
                }
                lines[at] = chars.into_iter().collect();
            }
            _ => lines[at].insert_str(0, ["  ", " ", "- "][seed.next(3)]),
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn a_thousand_mutations_are_refused_with_a_place_or_count() {
    let (_dir, home) = served_home();
    let live = live(&home);
    let (mut refused, mut counted) = (0, 0);
    for number in 0..1_000 {
        let text = mutate_text(GOOD, &mut MutationSeed(number));
        let before = live.active_config();
        let read = live.read_offer(text.clone(), "test".to_owned());
        match read {
            Ok(None) => {}
            Ok(Some(offered)) => {
                counted += 1;
                let egress =
                    crate::egress_client::guarded_egress(offered.resolved.calls.reachable.opened.clone());
                let clock: Arc<dyn dromia_contracts::runtime::Clock> = Arc::new(crate::runtime::real_clock());
                let models = dromia_models::ModelRegistry::new(offered.resolved.models, &clock, &egress);
                assert!(models.is_ok(), "seed {number}: {models:?}\n{text}");
            }
            Err(problem) => {
                refused += 1;
                let is_placed = problem.contains("dromia.yaml:") || problem.contains("no key");
                assert!(is_placed, "seed {number}: {problem}\n{text}");
            }
        }
        assert_eq!(live.active_config(), before, "nothing counts before it is built");
    }
    assert!(refused > 100 && counted > 100, "{refused} were refused and {counted} counted");
}
