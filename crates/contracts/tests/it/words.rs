//! The words of closed sets: stored, sent and counted under these spellings, so a change of one is a change of a format.

use dromia_contracts::agent::AgentState;
use dromia_contracts::approval::ApprovalState;
use dromia_contracts::audit::AuditChange;
use dromia_contracts::budget::{BudgetMeasure, BudgetPeriod, BudgetScope};
use dromia_contracts::capability::{CapabilityUse, held_by, within_grant};
use dromia_contracts::content::ImageMediaType;
use dromia_contracts::delivery::{AttemptOutcome, DeadReason};
use dromia_contracts::egress::HttpMethod;
use dromia_contracts::gate::rights_word;
use dromia_contracts::id_fragment::IdKind;
use dromia_contracts::revision::AgentField;
use dromia_contracts::sandbox::{IsolationLevel, IsolationTier, NetworkAccess};
use dromia_contracts::session::ItemKind;
use dromia_contracts::tool::{CallEnd, CallRefusal};
use dromia_contracts::tool_policy::privileged_grant;
use dromia_contracts::{AgentId, CapabilityId, TenantId};

fn spell<T: Copy>(all: &[T], word: impl Fn(T) -> &'static str) -> String {
    all.iter().map(|&one| word(one)).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_state_and_reason_has_its_word() {
    use AgentState as Agent;
    use ItemKind as Item;
    let agent = [Agent::Running, Agent::Paused, Agent::Terminated, Agent::Deleting];
    assert_eq!(spell(&agent, Agent::as_str), "running paused terminated deleting");
    assert_eq!(
        spell(&ApprovalState::ALL, ApprovalState::as_str),
        "holding waiting approved denied used withdrawn expired"
    );
    assert_eq!(
        spell(&DeadReason::ALL, DeadReason::as_str),
        "attempts gone refused expired backlog damaged leak"
    );
    assert_eq!(
        spell(&AttemptOutcome::ALL, AttemptOutcome::as_str),
        "accepted refused not_sent unanswered interrupted not_accepted"
    );
    let items = [
        Item::Input,
        Item::Resume,
        Item::Cancel,
        Item::Terminate,
        Item::Release,
        Item::Approve,
        Item::Deny,
        Item::Approved,
    ];
    assert_eq!(spell(&items, Item::as_str), "input resume cancel terminate release approve deny approved");
    assert_eq!(spell(&CallEnd::ALL, CallEnd::as_str), "done failed cut");
    assert_eq!(spell(&CallRefusal::ALL, CallRefusal::as_str), "denied malformed");
    assert_eq!(AuditChange::VaultKeyReplaced.kind(), "vault_key_replaced");
}

#[test]
fn each_kind_of_thing_has_its_word() {
    use ImageMediaType as Image;

    assert_eq!(spell(&BudgetScope::ALL, BudgetScope::as_str), "tenant agent actor session run");
    assert_eq!(spell(&BudgetPeriod::ALL, BudgetPeriod::as_str), "hour day month total");
    assert_eq!(spell(&CapabilityUse::ALL, CapabilityUse::as_str), "held task");
    assert_eq!(spell(&HttpMethod::ALL, HttpMethod::as_str), "DELETE GET HEAD PATCH POST PUT");
    assert_eq!(HttpMethod::Connect.as_str(), "CONNECT");
    assert_eq!(spell(&IdKind::ALL, IdKind::as_str), "run session approval delivery capability token");
    assert_eq!(spell(&IdKind::ALL, IdKind::plural), "runs sessions approvals deliveries capabilities tokens");
    assert_eq!(
        spell(&AgentField::ALL, AgentField::as_str),
        "model instructions grants model_calls_max description workspace when_busy mind identity display_name labels"
    );
    let tiers = [IsolationTier::Process, IsolationTier::Guest, IsolationTier::Machine];
    assert_eq!(spell(&tiers, IsolationTier::as_str), "T1 T2 T3");
    assert_eq!(spell(&[IsolationLevel::Base, IsolationLevel::Strict], IsolationLevel::as_str), "base strict");
    assert_eq!(spell(&[NetworkAccess::None, NetworkAccess::Proxy], NetworkAccess::as_str), "none proxy");
    let images = [Image::Png, Image::Jpeg, Image::Gif, Image::Webp];
    assert_eq!(spell(&images, Image::as_str), "image/png image/jpeg image/gif image/webp");
    for (measure, rule) in
        [(BudgetMeasure::Calls, "whole"), (BudgetMeasure::Money, "5.00"), (BudgetMeasure::Time, "7d")]
    {
        assert!(measure.limit_rule().contains(rule), "{measure:?}");
    }
}

#[test]
fn words_among_grants_name_whom_they_concern() {
    let tenant = TenantId::from_bytes([1; 16]);
    let (agent, capability) = (AgentId::from_bytes([2; 16]), CapabilityId::from_bytes([3; 16]));
    assert_eq!(rights_word(tenant, agent), format!("rights-of:{tenant}/{agent}"));
    assert_eq!(held_by(tenant, agent), format!("holder:{tenant}/{agent}"));
    assert_eq!(within_grant(tenant, agent, capability), format!("within:{tenant}/{agent}/{capability}"));
    assert_eq!(privileged_grant("exec"), "privileged:exec");
}
