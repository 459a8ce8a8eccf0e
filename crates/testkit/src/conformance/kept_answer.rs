//! Claims about answers to changes that clients sent under a key: one claim has a key, its answer is kept once, and nothing
//! crosses tenants.

use std::sync::Arc;

use bytes::Bytes;
use dromia_contracts::Digest;
use dromia_contracts::store::{AnswerPut, CommitRefusal, Mutation, Store, WriteBatch};

use super::scene::{StoreScene, scene_time};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn put_at(ms: i64, claim: u8, answer: Option<&'static str>) -> AnswerPut {
    let answer = answer.map(|answer| Bytes::from_static(answer.as_bytes()));
    let (key, request) = (Digest::from_bytes([7; 32]), Digest::from_bytes([claim; 32]));
    AnswerPut { key, request, claim: claim.into(), at: scene_time(ms), answer }
}

async fn commit_put(scene: &StoreScene, put: &AnswerPut) {
    scene.commit_done(scene.new_batch().with_mutation(Mutation::AnswerPut(put.clone()))).await;
}

async fn kept(scene: &StoreScene, key: Digest) -> Option<AnswerPut> {
    scene.store.kept_answer(&scene.tenant_scope(), key).await.expect("a read")
}

pub(super) async fn one_claim_has_a_key_and_keeps_one_answer(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let (claim, settled) = (put_at(1, 1, None), put_at(1, 1, Some("200")));
    commit_put(&scene, &claim).await;
    let other = |ms| scene.new_batch().with_mutation(Mutation::AnswerPut(put_at(ms, 2, None)));
    assert_eq!(scene.commit_refused(other(2)).await, CommitRefusal::AnswerClaimed, "it is not settled");
    // What comes again, or late, changes nothing.
    for put in [&settled, &claim, &put_at(1, 1, Some("")), &settled] {
        commit_put(&scene, put).await;
        assert_eq!(kept(&scene, claim.key).await.as_ref(), Some(&settled));
    }
    assert_eq!(scene.commit_refused(other(DAY_MS)).await, CommitRefusal::AnswerClaimed, "a day is not over");
    scene.commit_done(other(DAY_MS + 1)).await;
    assert_eq!(kept(&scene, claim.key).await, Some(put_at(DAY_MS + 1, 2, None)));
}

pub(super) async fn a_key_that_was_given_back_is_claimed_again(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    for put in [put_at(1, 1, None), put_at(1, 1, Some("")), put_at(2, 2, None), put_at(2, 2, Some("201"))] {
        commit_put(&scene, &put).await;
        assert_eq!(kept(&scene, put.key).await, Some(put));
    }
}

pub(super) async fn a_tenant_keeps_a_bounded_number_of_answers(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(store, 1).await;
    let puts: Vec<_> = (0..)
        .take(AnswerPut::KEPT_MAX + 1)
        .map(|number: i64| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            AnswerPut { key: Digest::from_bytes(key), ..put_at(number, 1, None) }
        })
        .collect();
    for page in puts.chunks(256) {
        let puts = page.iter().cloned().map(Mutation::AnswerPut);
        scene.commit_done(puts.fold(scene.new_batch(), WriteBatch::with_mutation)).await;
    }
    assert_eq!(kept(&scene, puts[0].key).await, None, "the oldest went with the newest");
    for put in [&puts[1], &puts[AnswerPut::KEPT_MAX]] {
        assert_eq!(kept(&scene, put.key).await.as_ref(), Some(put));
    }
}

pub(super) async fn a_key_belongs_to_its_tenant(store: Arc<dyn Store>) {
    let scene = StoreScene::open_scene(Arc::clone(&store), 1).await;
    let theirs = StoreScene::open_scene(store, 2).await;
    commit_put(&scene, &put_at(1, 1, Some("200"))).await;
    assert_eq!(kept(&theirs, put_at(1, 1, None).key).await, None);
    commit_put(&theirs, &put_at(1, 2, None)).await;
    assert_eq!(kept(&scene, put_at(1, 1, None).key).await, Some(put_at(1, 1, Some("200"))));
}
