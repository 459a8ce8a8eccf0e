//! Claims about the erasure of a tenant: it is refused until the tenant is suspended, hides the tenant at once, leaves
//! nothing of it, and touches no other tenant.

use std::sync::Arc;

use dromia_contracts::store::{
    CommitOutcome, CommitRefusal, Mutation, PageRequest, RunFilter, Store, TenantCreate, TokenCreate,
    WriteBatch,
};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{Digest, TenantId};

use super::scene::{StoreScene, agent_create, pin_text, scene_time, session_open};
use super::{approval, budget, capability, vault};

/// Tokens of the tenant that is erased: more than a page has rows.
const TOKENS: u16 = 300;
/// The most pages that the erasure of the claim may take.
const PAGES_MAX: usize = 40;

pub(super) async fn an_erasure_takes_a_suspended_tenant_and_no_neighbour(store: Arc<dyn Store>) {
    check_tenant_erasure(store).await.unwrap_or_else(|difference| panic!("{difference}"));
}

/// Erases one of two tenants, and says what the erasure left, or what it touched that it may not.
pub async fn check_tenant_erasure(store: Arc<dyn Store>) -> Result<(), String> {
    let mine = StoreScene::open_scene(store, 1).await;
    let theirs = StoreScene::open_scene(Arc::clone(&mine.store), 2).await;
    for (scene, tokens) in [(&mine, TOKENS), (&theirs, 2)] {
        fill_tenant(scene, tokens).await;
    }
    let (operator, erase) = (StoreScene::node_operator(), Mutation::TenantErase(scene_time(90)));
    let neighbour = shown_rows(&theirs).await;
    let full = shown_rows(&mine).await;
    equal("while it is active", &mine.refuse_mutation(erase.clone()).await, &CommitRefusal::TenantActive)?;
    mine.commit_mutation(Mutation::TenantSuspensionSet(Some(scene_time(80)))).await;
    let beside = mine
        .new_batch()
        .with_mutation(erase.clone())
        .with_mutation(budget::set_budget(budget::call_budget(1)));
    let refusal = mine.commit_refused(beside).await;
    if !matches!(refusal, CommitRefusal::Malformed(_)) {
        return Err(format!("a batch that does more than erase was answered {refusal:?}"));
    }
    equal("refused erasures", &shown_rows(&mine).await, &full)?;

    mine.commit_mutation(erase.clone()).await;
    check_hidden(&mine).await?;
    equal("marked tenants", &mine.store.deleting_tenants(&operator).await, &Ok(vec![mine.tenant]))?;
    let deleting = mine.store.deleting_agents(&operator).await;
    equal("agents of a marked tenant", &deleting, &Ok(vec![(mine.tenant, mine.agent)]))?;
    for late in [agent_create(mine.agent_id(), "late"), Mutation::TenantSuspensionSet(None)] {
        let refusal = mine.refuse_mutation(late.clone()).await;
        if !matches!(refusal, CommitRefusal::NotFound(_)) {
            return Err(format!("{late:?} of a marked tenant was answered {refusal:?}"));
        }
    }
    mine.commit_mutation(erase.clone()).await;
    equal("a page before its agents are gone", &mine.store.deleting_agents(&operator).await, &deleting)?;
    let left = tokens_of(&mine).await;
    equal("tokens while an agent is there", &left, &usize::from(TOKENS).min(PageRequest::<()>::LIMIT_MAX))?;

    while !mine.store.erase_agent_page(&mine.tenant_scope(), mine.agent).await.map_err(|e| e.to_string())?.1 {
    }
    let mut pages = 0;
    loop {
        match mine.store.commit(mine.new_batch().with_mutation(erase.clone())).await {
            CommitOutcome::Done(_) if pages < PAGES_MAX => pages += 1,
            CommitOutcome::Refused(CommitRefusal::NotFound(_)) => break,
            other => return Err(format!("page {pages} was answered {other:?}")),
        }
    }
    equal("marked tenants at the end", &mine.store.deleting_tenants(&operator).await, &Ok(Vec::new()))?;
    check_hidden(&mine).await?;
    equal("rows of the erased tenant", &shown_rows(&mine).await, &no_rows())?;
    equal("rows of its neighbour", &shown_rows(&theirs).await, &neighbour)?;
    let (item, handle) = (theirs.item_id(), "t1".parse().expect("a handle"));
    theirs.commit_mutation(Mutation::InboxPut(theirs.put_input(item))).await;
    // The handle is free again.
    let create = TenantCreate { handle, at: scene_time(95), body_key: [9; 32] };
    let batch =
        WriteBatch::new(TenantId::from_bytes([0xee; 16])).with_mutation(Mutation::TenantCreate(create));
    theirs.commit_done(batch).await;
    Ok(())
}

/// Writes a row of many kinds.
async fn fill_tenant(scene: &StoreScene, tokens: u16) {
    let run = scene.begin_turn(0).await;
    scene.commit_reply(run, "webhook:t0").await;
    for first in (0..tokens).step_by(100) {
        let mut batch = scene.new_batch();
        for number in first..tokens.min(first + 100) {
            let token = scene.token_id();
            let hash = Digest::from_bytes(*blake3::hash(token.as_bytes()).as_bytes());
            let name = format!("n{number}");
            let (scopes, at) = (TokenScopes::ADMIN, scene_time(1));
            let create = TokenCreate { token, hash, name, scopes, expires_at: None, at };
            batch = batch.with_mutation(Mutation::TokenCreate(create));
        }
        scene.commit_done(batch).await;
    }
    for mutation in [
        session_open(scene.session_id(), scene.agent, "second"),
        budget::set_budget(budget::call_budget(5)),
        vault::key_mutation("sealed", None),
        Mutation::SecretPut(vault::sealed_secret("key", 1)),
        Mutation::CapabilityPut(capability::new_capability(scene.agent, 1)),
        approval::rule_of(scene.agent, 5),
        Mutation::PinPut(pin_text("of nobody")),
    ] {
        scene.commit_mutation(mutation).await;
    }
}

/// Nothing finds a marked tenant: no list, no handle, no scope and no token of it.
async fn check_hidden(scene: &StoreScene) -> Result<(), String> {
    let (store, operator) = (&scene.store, StoreScene::node_operator());
    let listed = store.tenants(&operator, PageRequest::first_page(9)).await.map_err(|e| e.to_string())?;
    equal("listed tenants", &listed.iter().filter(|tenant| tenant.id == scene.tenant).count(), &0)?;
    let handle = "t1".parse().expect("a handle");
    equal("its handle", &store.tenant_by_handle(&operator, &handle).await, &Ok(None))?;
    equal("its record", &store.tenant_record(&scene.tenant_scope()).await, &Ok(None))?;
    for token in
        store.tokens(&scene.tenant_scope(), None, PageRequest::first_page(9)).await.unwrap_or_default()
    {
        let hash = Digest::from_bytes(*blake3::hash(token.id.as_bytes()).as_bytes());
        equal("the owner of a token", &store.find_token_owner(&operator, hash).await, &Ok(None))?;
    }
    Ok(())
}

async fn tokens_of(scene: &StoreScene) -> usize {
    let page = PageRequest::first_page(PageRequest::<()>::LIMIT_MAX);
    scene.store.tokens(&scene.tenant_scope(), None, page).await.map_or(usize::MAX, |tokens| tokens.len())
}

/// What the scope of a tenant reads: how many rows of each kind.
async fn shown_rows(scene: &StoreScene) -> Vec<(&'static str, usize)> {
    let (store, scope) = (&scene.store, &scene.tenant_scope());
    let page = PageRequest::first_page(99);
    vec![
        ("tokens", tokens_of(scene).await),
        ("agents", store.agents(scope, None, PageRequest::first_page(99)).await.expect("a read").len()),
        ("sessions", store.sessions(scope, None, PageRequest::first_page(99)).await.expect("a read").len()),
        ("runs", store.runs(scope, RunFilter::default(), page).await.expect("a read").len()),
        ("budgets", store.budgets(scope, scene_time(99)).await.expect("a read").len()),
        ("rules", store.approval_rules(scope).await.expect("a read").len()),
        ("secrets", store.secrets(scope, PageRequest::first_page(99)).await.expect("a read").len()),
        ("keys", usize::from(store.vault_key(scope).await.expect("a read").is_some())),
        ("capabilities", store.capabilities(scope, PageRequest::first_page(9)).await.expect("a read").len()),
        (
            "pins",
            usize::from(
                store.pinned_text(scope, pin_text("of nobody").digest).await.expect("a read").is_some(),
            ),
        ),
        ("feed", usize::try_from(store.feed_state(scope).await.expect("a read").last).unwrap_or(usize::MAX)),
    ]
}

/// What [`shown_rows`] gives of a tenant that is gone.
fn no_rows() -> Vec<(&'static str, usize)> {
    let kinds = [
        "tokens",
        "agents",
        "sessions",
        "runs",
        "budgets",
        "rules",
        "secrets",
        "keys",
        "capabilities",
        "pins",
        "feed",
    ];
    kinds.map(|kind| (kind, 0)).to_vec()
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}
