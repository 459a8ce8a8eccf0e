//! What the configurations of agents grant now, for runs that began with another one.
//!
//! A run keeps the grants that it began with. Of these, only what the agent's current configuration covers counts, from the
//! moment in which a change is noted here: the gate asks at each action, and the egress at each request and redirect. Nothing
//! is ever added to what a run began with. Rights that are not known cover nothing.
//!
//! Memory holds one list for each agent that a run or the engine holds; it goes with the last hold.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use dromia_contracts::capability::WITHIN;
use dromia_contracts::gate::{RIGHTS_OF, RightsHold};
use dromia_contracts::{AgentId, TenantId};
use tokio::sync::watch;

use crate::capability::LiveCapabilities;
use crate::grant::Grant;
use crate::permission::parse_row;
use crate::policy::PolicyVerdict;

/// After how many new lists those that no run holds are looked for.
const SWEEP_AFTER: usize = 1_024;

/// The current grants of agents.
#[derive(Debug, Default)]
pub struct CurrentRights {
    lists: Mutex<HashMap<(TenantId, AgentId), Weak<RightsList>>>,
    changes: watch::Sender<()>,
}

/// The current grants of one agent.
#[derive(Debug)]
struct RightsList(RwLock<(u64, Arc<[String]>)>);

impl CurrentRights {
    /// Notes the grants of a revision; an older one than is known changes nothing.
    pub(crate) fn note_rights(
        &self,
        tenant: TenantId,
        agent: AgentId,
        number: u64,
        grants: &[String],
    ) -> RightsHold {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.get(&(tenant, agent)).and_then(Weak::upgrade) {
            let mut current = list.0.write().unwrap_or_else(PoisonError::into_inner);
            if number > current.0 {
                *current = (number, grants.into());
                self.changes.send_replace(());
            }
            drop(current);
            return RightsHold::new(list);
        }
        if lists.len() % SWEEP_AFTER == SWEEP_AFTER - 1 {
            lists.retain(|_, list| list.strong_count() > 0);
        }
        let list = Arc::new(RightsList(RwLock::new((number, grants.into()))));
        lists.insert((tenant, agent), Arc::downgrade(&list));
        RightsHold::new(list)
    }

    /// Returns what counts of a run's grants: of those before the word that names the agent, what its configuration covers
    /// now; and all that come after it, which are the operator's.
    pub(crate) fn narrow_grants<'g>(&self, grants: &'g [String]) -> Cow<'g, [String]> {
        let Some(place) = grants.iter().position(|text| text.starts_with(RIGHTS_OF)) else {
            return Cow::Borrowed(grants);
        };
        let (began, added) = grants.split_at(place);
        let current = self.current_list(&added[0]);
        if current.as_deref().is_some_and(|current| *current == *began) {
            return Cow::Borrowed(grants);
        }
        let mut counting = narrow_list(began, current.as_deref().unwrap_or_default());
        counting.extend_from_slice(added);
        Cow::Owned(counting)
    }

    fn current_list(&self, word: &str) -> Option<Arc<[String]>> {
        let (tenant, agent) = word.strip_prefix(RIGHTS_OF)?.split_once('/')?;
        let key = (tenant.parse().ok()?, agent.parse().ok()?);
        let list = self.lists.lock().unwrap_or_else(PoisonError::into_inner).get(&key)?.upgrade()?;
        let current = list.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current.1))
    }
}

/// Judges now, after each change of grants or capabilities, and when the next capability of these grants expires, until the
/// judgement is a refusal.
pub(crate) async fn await_denial<P, D>(
    judge: impl Fn() -> Result<P, D>,
    grants: &[String],
    rights: &CurrentRights,
    capabilities: Option<&LiveCapabilities>,
) -> D {
    // Before the first judgement, so that no change falls between.
    let mut narrowed = rights.changes.subscribe();
    let mut revoked = capabilities.map(LiveCapabilities::watch_changes);
    loop {
        // Before the judgement: a capability that expires between the two is judged once more.
        let judged_at = capabilities.map(LiveCapabilities::now);
        if let Err(denied) = judge() {
            return denied;
        }
        let revocation = async {
            match &mut revoked {
                // The sender is borrowed, so it is there.
                Some(changes) => drop(changes.changed().await),
                None => pending().await,
            }
        };
        let expiry = async {
            match (capabilities, judged_at) {
                (Some(capabilities), Some(judged_at)) => capabilities.await_expiry(grants, judged_at).await,
                _ => pending().await,
            }
        };
        tokio::select! {
            _ = narrowed.changed() => {}
            () = revocation => {}
            () = expiry => {}
        }
    }
}

/// What two lists of grants both cover, as far as their spelling shows it. The rest is left out.
fn narrow_list(began: &[String], current: &[String]) -> Vec<String> {
    let covers = |outer: &str, inner: &str| match (Grant::parse(outer), Grant::parse(inner)) {
        (Ok(outer), Ok(inner)) => outer.covers_grant(inner),
        _ => outer == inner,
    };
    let mut counting: Vec<String> = Vec::new();
    for grant in began {
        if current.iter().any(|now| covers(now, grant)) {
            counting.push(grant.clone());
        } else {
            counting.extend(current.iter().filter(|now| covers(grant, now)).cloned());
        }
    }
    counting
}

/// What two lists of grants both cover. The words of either that take something away stay: of the first also the one that
/// says whose grants these are.
pub(crate) fn share_lists(grants: &[String], bound: &[String]) -> Vec<String> {
    let takes_away = |word: &str| {
        word.starts_with(WITHIN)
            || parse_row(word).is_some_and(|(verdict, _)| verdict != PolicyVerdict::Allow)
    };
    let mut shared = Vec::new();
    for word in grants {
        if takes_away(word) || word.starts_with(RIGHTS_OF) {
            shared.push(word.clone());
        } else {
            shared.extend(narrow_list(std::slice::from_ref(word), bound));
        }
    }
    let further: Vec<_> =
        bound.iter().filter(|word| takes_away(word) && !shared.contains(word)).cloned().collect();
    shared.extend(further);
    shared
}

#[cfg(test)]
mod tests {
    use dromia_contracts::gate::rights_word;

    use super::*;

    const TENANT: TenantId = TenantId::from_bytes([1; 16]);
    const AGENT: AgentId = AgentId::from_bytes([2; 16]);

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn a_run_keeps_what_both_its_beginning_and_now_cover() {
        for (began, current, counting) in [
            (&["exec", "reply"][..], &["reply"][..], &["reply"][..]),
            (&["reply"], &["exec", "reply"], &["reply"]),
            (&["file.*"], &["file.read", "exec"], &["file.read"]),
            (&["file.read"], &["file.*"], &["file.read"]),
            (&["model"], &["model:fast"], &["model:fast"]),
            (&["model:fast"], &["model"], &["model:fast"]),
            (&["net:h"], &["net.read:h"], &["net.read:h"]),
            (&["net:a.h"], &["net:*.h"], &["net:a.h"]),
            (&["net:*.h"], &["net:a.h"], &["net:a.h"]),
            (&["net:127.0.0.1"], &["net:*"], &[]),
            (&["net:h"], &["net:h:8080"], &[]),
            (&["secret:a"], &["secret:b"], &[]),
        ] {
            assert_eq!(narrow_list(&words(began), &words(current)), words(counting), "{began:?} {current:?}");
        }
    }

    #[test]
    fn only_the_agents_own_words_are_narrowed_and_unknown_rights_cover_nothing() {
        let rights = CurrentRights::default();
        let mut grants = words(&["exec", "reply"]);
        grants.push(rights_word(TENANT, AGENT));
        grants.push("net:operator.example".to_owned());
        assert_eq!(*rights.narrow_grants(&grants), grants[2..], "no hold says what counts");
        let hold = rights.note_rights(TENANT, AGENT, 1, &words(&["exec", "reply"]));
        assert_eq!(*rights.narrow_grants(&grants), grants[..]);
        let newer = rights.note_rights(TENANT, AGENT, 3, &words(&["reply"]));
        let late = rights.note_rights(TENANT, AGENT, 2, &words(&["exec", "reply"]));
        let same = rights.note_rights(TENANT, AGENT, 3, &words(&["exec", "reply"]));
        assert_eq!(*rights.narrow_grants(&grants), grants[1..], "an older revision does not count again");
        drop((hold, newer, late, same));
        assert_eq!(*rights.narrow_grants(&grants), grants[2..]);
        assert_eq!(
            *rights.narrow_grants(&grants[..2]),
            grants[..2],
            "a list that names no agent counts as it is"
        );
    }

    #[test]
    fn lists_that_no_run_holds_are_dropped_and_held_ones_stay() {
        let rights = CurrentRights::default();
        let agent = |number: usize| AgentId::from_bytes((number as u128).to_be_bytes());
        let held = rights.note_rights(TENANT, agent(0), 1, &words(&["exec"]));
        for number in 1..4 * SWEEP_AFTER {
            drop(rights.note_rights(TENANT, agent(number), 1, &[]));
            let known = rights.lists.lock().expect("no panic").len();
            assert!((2..=SWEEP_AFTER).contains(&known), "{number}: {known}");
            // Swept seldom: each look is at every list.
            assert!(number != SWEEP_AFTER - 2 || known == SWEEP_AFTER - 1, "{known}");
        }
        let mut grants = words(&["exec"]);
        grants.push(rights_word(TENANT, agent(0)));
        assert_eq!(*rights.narrow_grants(&grants), grants[..]);
        drop(held);
    }

    /// Finds what a child with these grants may do that its parent may not, by a way to share them.
    fn find_excess(share: fn(&[String], &[String]) -> Vec<String>) -> Vec<String> {
        let parent = words(&[
            "file.read",
            "net:api.example.com",
            "secret:a",
            "model:fast",
            "reply",
            "rights-of:t/parent",
            "ask:exec",
            "within:t/parent/cap_1",
        ]);
        let child = words(&[
            "file.*",
            "exec",
            "net:*",
            "secret:a",
            "secret:b",
            "model",
            "reply",
            "rights-of:t/child",
            "allow:exec",
            "privileged:exec",
            "holder:t/child",
            "deny:file.write",
        ]);
        let shared = share(&child, &parent);
        let kept = words(&["rights-of:t/child", "deny:file.write", "ask:exec", "within:t/parent/cap_1"]);
        let mut excess: Vec<_> =
            shared.iter().filter(|word| !parent.contains(word) && !kept.contains(word)).cloned().collect();
        // What takes away from either must be there.
        excess.extend(kept.into_iter().filter(|word| !shared.contains(word)));
        excess
    }

    #[test]
    fn a_task_shares_the_rights_of_its_parent_and_no_more() {
        assert_eq!(find_excess(share_lists), [""; 0]);
        let own = words(&["exec", "allow:exec", "holder:t/a", "rights-of:t/a", "ask:exec"]);
        assert_eq!(share_lists(&own, &own), own, "an agent shares all with itself");
        let shared =
            share_lists(&words(&["file.*", "net:*", "reply"]), &words(&["file.read", "reply", "exec"]));
        assert_eq!(shared, words(&["file.read", "reply"]));
    }

    /// Planted fault: a child that keeps its own grants.
    #[test]
    fn a_child_with_more_rights_than_its_parent_is_caught() {
        assert!(!find_excess(|child, _| child.to_vec()).is_empty(), "nothing notices it");
        assert!(!find_excess(narrow_list).is_empty(), "a lost bound is not noticed");
    }

    #[test]
    fn a_word_that_no_grant_is_spelled_as_covers_itself_alone() {
        assert_eq!(narrow_list(&words(&["a b", "c d"]), &words(&["c d", "reply"])), words(&["c d"]));
    }
}
