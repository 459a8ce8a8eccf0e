//! Approvals across crashes: a call that a person must allow begins once for each approval, in whichever run it is for, or
//! not at all; an answer that was acknowledged stays; and whoever asked hears of the end of what ran without it. A call that
//! is put off begins by itself, and never before its time unless a person allowed it.

use std::collections::BTreeMap;

use dromia_contracts::approval::{ApprovalRequest, ApprovalState, PLATFORM};
use dromia_contracts::content::CallStatus;
use dromia_contracts::entry::Entry;
use dromia_contracts::run::RunKind;
use dromia_contracts::runs::{ApprovalDecision, ApprovalReach, EnginePort as _};
use dromia_contracts::session::InboxOwner;
use dromia_contracts::store::{ApprovalFilter, PageRequest, Store as _};
use dromia_contracts::{ApprovalId, RunId, TenantId};
use jiff::SignedDuration;

use super::clients::Client;
use super::world::{Options, World, at_once, scope_of};
use super::{seeds, simulate};

/// The tool whose calls a person must allow.
pub(super) const GATED: &str = "gated";

/// Reads every approval of a tenant.
pub(super) fn all(world: &World, tenant: TenantId, filter: ApprovalFilter) -> Vec<ApprovalRequest> {
    let (scope, mut page, mut all) = (scope_of(tenant), PageRequest::first_page(256), Vec::new());
    loop {
        let found = at_once(world.truth.approvals(&scope, filter, page)).expect("it reads");
        page.after = found.last().map(|approval| approval.id);
        let last = found.len() < 256;
        all.extend(found);
        if last {
            return all;
        }
    }
}

impl Client {
    /// Answers one of the calls that wait, as people do: mostly with yes, sometimes twice.
    pub(super) async fn answer_a_call(&self) {
        let (world, chance) = (&self.world, &self.world.chance);
        let tenant = world.tenants[chance.below(world.tenants.len())];
        let open_at = Some(world.runtime.clock.now());
        let open = all(world, tenant, ApprovalFilter { agent: None, open_at });
        if open.is_empty() {
            return;
        }
        let (id, run) = (open[chance.below(open.len())].id, open[chance.below(open.len())].source.run);
        let approve = !chance.one_in(4);
        // Often all that one run waits for, by one answer.
        let first =
            open.iter().find(|approval| approval.source.run == run).map_or(id, |approval| approval.id);
        let (id, also) = if chance.one_in(2) {
            let others = open.iter().filter(|other| other.source.run == run && other.id != first);
            (first, others.map(|other| other.id).collect())
        } else {
            (id, Vec::new())
        };
        self.answer_beyond(tenant, &open, first).await;
        for _ in 0..=chance.below(2) {
            let answer = if approve {
                ApprovalDecision::Approve(ApprovalReach::Once)
            } else {
                ApprovalDecision::Deny { reason: "not today".to_owned() }
            };
            if self.engine.approval_answer(scope_of(tenant), id, also.clone(), answer).await.is_ok() {
                let mut book = world.witness.book();
                book.answers.extend(std::iter::once(&id).chain(&also).map(|id| ((tenant, *id), approve)));
            }
        }
    }
}

impl Client {
    /// Tries to answer, with one call, what is of another run or of another tenant.
    async fn answer_beyond(&self, tenant: TenantId, open: &[ApprovalRequest], first: ApprovalId) {
        let world = &self.world;
        let run = open.iter().find(|approval| approval.id == first).map(|approval| approval.source.run);
        let foreign = open.iter().find(|other| Some(other.source.run) != run).map(|other| other.id);
        let strange = world.tenants.iter().filter(|other| **other != tenant);
        let strange = strange.flat_map(|other| all(world, *other, ApprovalFilter::default())).map(|it| it.id);
        for beyond in foreign.into_iter().chain(strange.take(1)).collect::<Vec<_>>() {
            let answer = ApprovalDecision::Approve(ApprovalReach::Once);
            if self.engine.approval_answer(scope_of(tenant), first, vec![beyond], answer).await.is_ok() {
                world
                    .witness
                    .blame("E6", &format!("{beyond} was answered with {first}, and is not of its run"));
            }
        }
    }
}

/// Compares the approvals of each tenant with its journals. Returns how many calls began in their own run, how many in one
/// that was made for them, for how many there was no room, and how many were asked for with the one before them.
pub(super) fn check(world: &World) -> [usize; 4] {
    let (mut own, mut made, mut crowded_out, mut together) = (0, 0, 0, 0);
    for tenant in &world.tenants {
        let known: BTreeMap<ApprovalId, ApprovalRequest> =
            all(world, *tenant, ApprovalFilter::default()).into_iter().map(|it| (it.id, it)).collect();
        let blame = |id: ApprovalId, what: &str| world.witness.blame("E6", &format!("{id}: {what}"));
        let mut begun: BTreeMap<ApprovalId, Vec<RunId>> = BTreeMap::new();
        for run in world.runs(*tenant) {
            for stored in world.journal(*tenant, run.id) {
                let entry = stored.decode();
                if let Ok(Entry::ToolRefused(refused)) = &entry
                    && refused.rule.as_deref() == Some("approvals-full")
                {
                    crowded_out += 1;
                    if refused.approval.is_some() {
                        world
                            .witness
                            .blame("E6", &format!("{} was asked for, and there is no room", refused.call));
                    }
                }
                let Ok(Entry::ToolStarted(started)) = entry else { continue };
                match started.approval {
                    Some(id) => begun.entry(id).or_default().push(run.id),
                    None if started.tool == GATED => {
                        let what = format!("{} of {} began without an approval", started.call, run.id);
                        world.witness.blame("E6", &what);
                    }
                    None => {}
                }
                let wrong = started
                    .approval
                    .and_then(|id| known.get(&id))
                    .filter(|it| it.judged.action != started.action);
                if let Some(approval) = wrong {
                    blame(approval.id, "another action began under it");
                }
            }
            made += usize::from(run.kind == RunKind::ApprovedCall);
        }
        for approval in known.values() {
            let runs = begun.remove(&approval.id).unwrap_or_default();
            let used = approval.state == ApprovalState::Used;
            if runs.len() != usize::from(used) {
                blame(
                    approval.id,
                    &format!("it is {} and {} calls began under it", approval.state, runs.len()),
                );
            }
            if used && approval.used_by != runs.first().copied() {
                blame(approval.id, "it was used by another run than its journal says");
            }
            own += usize::from(used && !approval.released);
            if let Some(problem) = world.options.cooling.and_then(|cooling| haste(approval, cooling)) {
                blame(approval.id, &problem);
            }
            let asked_before = |other: &ApprovalRequest| {
                (other.source.run, other.source.call.step, other.deadlines.asked_at)
                    == (approval.source.run, approval.source.call.step, approval.deadlines.asked_at)
                    && other.source.call < approval.source.call
            };
            together += usize::from(known.values().any(asked_before));
            if approval.state == ApprovalState::Holding {
                blame(approval.id, "its run has ended, and it is held still");
            }
            if approval.state == ApprovalState::Approved {
                blame(approval.id, "it was approved, and nothing came of it");
            }
            if approval.released && used && !is_told(world, *tenant, approval) {
                blame(approval.id, "its call ran by itself, and the session that asked was not told");
            }
        }
        if let Some(id) = begun.keys().next() {
            blame(*id, "a call began under it, and nobody was asked");
        }
        let answers = world.witness.book().answers.clone();
        for ((of, id), approved) in &answers {
            let Some(approval) = known.get(id).filter(|_| of == tenant) else { continue };
            let denied = approval.state == ApprovalState::Denied;
            if approval.answer.is_none() || denied == *approved {
                blame(*id, &format!("its answer was acknowledged, and it is {}", approval.state));
            }
        }
        check_workers(world, *tenant);
    }
    [own, made, crowded_out, together]
}

/// Says what is wrong with how a call that was put off for so many seconds came to its answer.
fn haste(approval: &ApprovalRequest, cooling: i64) -> Option<String> {
    let by_time = approval.answer.as_ref().filter(|answer| answer.by.as_str() == "engine");
    let waited = by_time.map(|answer| answer.at.duration_since(approval.deadlines.asked_at));
    let early = waited.filter(|waited| *waited < SignedDuration::from_secs(cooling));
    early.map(|waited| format!("it was put off for {cooling} s, and allowed by itself after {waited:?}"))
}

/// Tells whether the session that asked heard of the end.
fn is_told(world: &World, tenant: TenantId, approval: &ApprovalRequest) -> bool {
    let id = approval.id.to_string();
    let inbox = world.inbox(tenant, InboxOwner::Session(approval.source.session));
    let told = |body: &[u8]| String::from_utf8_lossy(body).contains(&id);
    inbox.iter().filter(|item| item.body.as_deref().is_some_and(told)).count() == 1
}

/// A run that was made for an approved call does that and nothing else.
fn check_workers(world: &World, tenant: TenantId) {
    let sessions = world.sessions(tenant);
    for run in world.runs(tenant).iter().filter(|run| run.kind == RunKind::ApprovedCall) {
        let session = sessions.iter().find(|session| session.id == run.session);
        let platform = session.map(|session| session.key.platform.as_str());
        let mut calls = 0;
        for stored in world.journal(tenant, run.id) {
            match stored.decode() {
                Ok(Entry::CallAsked(_)) => calls += 1,
                Ok(Entry::ModelCalled(_)) => calls += 2,
                Ok(Entry::ToolRefused(refused)) if refused.status == CallStatus::Awaiting => calls += 2,
                _ => {}
            }
        }
        if platform != Some(PLATFORM) || calls != 1 {
            world.witness.blame("E6", &format!("{} does more than its one call", run.id));
        }
    }
}

#[test]
fn no_crash_uses_an_approval_twice_or_loses_one() {
    let (mut own, mut made, mut unknown, mut together) = (0, 0, 0, 0);
    for seed in seeds().take(80) {
        let report = simulate(seed, Options { approvals: true, ..Options::default() });
        assert_eq!(report.wrong, Vec::<String>::new(), "seed {seed}");
        own += report.tally.approved_in_place;
        made += report.tally.approved_later;
        unknown += report.tally.unknown;
        together += report.tally.asked_together;
    }
    assert!(together > 0, "no calls of a step were asked for together");
    assert!(own > 0, "no approved call began in its own run");
    assert!(made > 0, "no approved call ran by itself");
    assert!(unknown > 0, "no crash came behind a start");
}

#[test]
fn a_run_continues_after_a_call_finds_no_approval_room() {
    let (mut own, mut crowded_out) = (0, 0);
    for seed in seeds().take(40) {
        let report = simulate(seed, Options { approvals: true, crowded: Some(2), ..Options::default() });
        assert_eq!(report.wrong, Vec::<String>::new(), "seed {seed}");
        own += report.tally.approved_in_place;
        crowded_out += report.tally.crowded_out;
    }
    assert!(own > 0, "no approved call began");
    assert!(crowded_out > 0, "there was room for every request");
}

#[test]
fn no_crash_hurries_or_loses_a_delayed_call() {
    // Shorter than a run waits, and longer.
    for (cooling, begins_in_place) in [(1, true), (4, false)] {
        let (mut own, mut made) = (0, 0);
        for seed in seeds().take(60) {
            let options = Options { approvals: true, cooling: Some(cooling), ..Options::default() };
            let report = simulate(seed, options);
            assert_eq!(report.wrong, Vec::<String>::new(), "seed {seed}, {cooling} s");
            own += report.tally.approved_in_place;
            made += report.tally.approved_later;
        }
        if begins_in_place {
            assert!(own > 0, "no delayed call began in its own run");
        } else {
            assert!(made > 0, "no delayed call ran by itself");
        }
    }
}
