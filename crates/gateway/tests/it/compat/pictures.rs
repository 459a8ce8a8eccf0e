//! Pictures that a request names by URL: fetched once, by the line of agents and under the agent's grants, before the
//! request is stored.

use bytes::Bytes;
use dromia_contracts::audit::AuditChange;
use dromia_contracts::content::{ContentPart, ImageMediaType};
use dromia_contracts::label::Label;
use dromia_contracts::transcript::TranscriptTurn;
use serde_json::{Value, json};

use super::{CHAT, MESSAGES, RESPONSES, ask, hello};
use crate::world::World;

const URL: &str = "https://img.example/a.png?size=2";
/// A picture, and the same in base64.
const PNG: (&[u8], &str) = (b"\x89PNG\r\n\x1a\n1234", "iVBORw0KGgoxMjM0");

/// A world whose agent may reach the host of the picture, if it may.
async fn world(granted: bool) -> World {
    let world = World::new().await;
    let pages = [(URL.to_owned(), (200, Bytes::from_static(PNG.0)))];
    world.line.pages.lock().unwrap().extend(pages);
    if granted {
        for (_, _, config) in &mut world.rooms.lock().agents {
            config.grants.push("net.read:img.example".to_owned());
        }
    }
    world
}

/// A request of each API that shows a picture at a URL, and where the picture is.
fn showing(path: &str, url: &str) -> (Value, &'static str) {
    let (block, place) = match path {
        CHAT => (json!({"type": "image_url", "image_url": {"url": url}}), "messages[0].content[0].image_url"),
        MESSAGES => {
            (json!({"type": "image", "source": {"type": "url", "url": url}}), "messages[0].content[0].source")
        }
        _ => (json!({"type": "input_image", "image_url": url}), "input[0].content[0].image_url"),
    };
    let mut body = hello(path);
    let field = if path == RESPONSES { "input" } else { "messages" };
    body[field] = json!([{"role": "user", "content": [block]}]);
    (body, place)
}

fn fetched() -> ContentPart {
    ContentPart::Image { media: ImageMediaType::Png, data: PNG.1.to_owned(), label: Label::CLAIM }
}

/// Asks for a picture of a host that the agent is not granted; says what came of it if that was not a refusal.
async fn refuse_without_grant(world: &World) -> Result<(), String> {
    for path in [CHAT, MESSAGES, RESPONSES] {
        let (body, place) = showing(path, URL);
        let answer = ask(world, path, &[], &body).await;
        if answer.status != 400 || !world.rooms.lock().inputs.is_empty() {
            return Err(format!("{path}: the picture came: {}", answer.status));
        }
        let text = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        for told in [
            "agent ops is not granted to reach img.example",
            "dromia agent set ops grants+=net.read:img.example",
        ] {
            assert!(text.contains(told), "{path}: {text}");
        }
        assert!(text.contains(place), "{path}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn a_picture_at_a_url_is_stored_as_one_in_base64() {
    let world = world(true).await;
    for path in [CHAT, MESSAGES, RESPONSES] {
        let answer = ask(&world, path, &[], &showing(path, URL).0).await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        assert_eq!(world.rooms.lock().inputs.pop().unwrap().parts, [fetched()], "{path}");
        let asked = world.line.asked.lock().unwrap().pop().unwrap();
        assert_eq!(asked.share, world.ours.tenant.to_string(), "it counts against its tenant's share");
        assert!(asked.secrets.is_empty() && asked.body.is_empty());
        let Some(AuditChange::PictureFetched { agent, host, rule, content }) = world.rooms.lock().acts.pop()
        else {
            panic!("{path}: the audit does not know of it")
        };
        assert_eq!((agent, host.as_str(), content.is_some()), (world.ours.agent, "img.example", true));
        assert_eq!(rule.as_deref(), Some("grant net.read:img.example"));
    }
}

#[tokio::test]
async fn a_host_without_a_grant_sends_no_picture() {
    let world = world(false).await;
    assert_eq!(refuse_without_grant(&world).await, Ok(()));
    assert_eq!(world.rooms.lock().acts.len(), 3, "what was refused is in the audit, too");
}

#[tokio::test]
async fn a_picture_fetched_beside_the_guard_is_caught() {
    let world = world(false).await;
    *world.line.is_beside_the_guard.lock().unwrap() = true;
    assert!(refuse_without_grant(&world).await.is_err(), "the check must see a line that asks no grant");
}

#[tokio::test]
async fn what_is_no_picture_is_refused_by_its_place() {
    let world = world(true).await;
    let page = |name: &str, status, body: Bytes| {
        let url = format!("https://img.example/{name}");
        world.line.pages.lock().unwrap().insert(url.clone(), (status, body));
        url
    };
    let long = Bytes::from([PNG.0, &vec![0; 400 << 10]].concat());
    let cases = [
        ("https://img.example/gone.png".to_owned(), "the host answered 404"),
        (page("error.png", 500, Bytes::from_static(PNG.0)), "the host answered 500"),
        (page("moved.png", 302, Bytes::from_static(PNG.0)), "the host answered 302"),
        (page("page.png", 200, Bytes::from_static(b"<!doctype html><html>")), "no PNG, JPEG"),
        (page("short.png", 200, Bytes::from_static(b"\x89P")), "no PNG, JPEG"),
        (page("empty.png", 200, Bytes::new()), "no PNG, JPEG"),
        (page("long.png", 200, long), "at most 389120 bytes together"),
        ("file:///etc/passwd".to_owned(), "begins with https://"),
        ("ftp://img.example/a.png".to_owned(), "begins with https://"),
    ];
    for (url, says) in cases {
        for path in [CHAT, MESSAGES, RESPONSES] {
            let (body, place) = showing(path, &url);
            let answer = ask(&world, path, &[], &body).await;
            let text = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert_eq!(answer.status, 400, "{url}: {text}");
            assert!(text.contains(says) && text.contains(place), "{url}: {text}");
        }
    }
    assert!(world.rooms.lock().inputs.is_empty(), "nothing of them is stored");
}

#[tokio::test]
async fn a_repeat_under_a_key_fetches_nothing_again() {
    let world = world(true).await;
    let (body, _) = showing(CHAT, URL);
    let key = [("idempotency-key", "k")];
    for _ in 0..2 {
        let answer = ask(&world, CHAT, &key, &body).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }
    assert_eq!(world.line.asked.lock().unwrap().len(), 1);
    let other = ask(&world, CHAT, &key, &showing(CHAT, "https://img.example/b.png").0).await;
    assert_ne!(other.status, 200, "another picture is another request");
}

#[tokio::test]
async fn a_picture_is_fetched_once_wherever_it_is() {
    let world = world(true).await;
    let block = json!({"type": "image_url", "image_url": {"url": URL}});
    let body = json!({"model": "ops", "messages": [
        {"role": "user", "content": [block]},
        {"role": "assistant", "content": null, "tool_calls":
            [{"id": "c", "type": "function", "function": {"name": "sky__look", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "rain"}, block]},
        {"role": "user", "content": [block, {"type": "text", "text": "and now?"}]},
    ]});
    let answer = ask(&world, CHAT, &[], &body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let input = world.rooms.lock().inputs.pop().unwrap();
    assert_eq!(input.parts[0], fetched());
    let [TranscriptTurn::Input(said), TranscriptTurn::Unit(unit)] = &input.history[..] else {
        panic!("{input:?}")
    };
    assert_eq!((&said.parts[0], &unit.results()[0].parts[1]), (&fetched(), &fetched()));
    assert_eq!(unit.results()[0].parts[0].as_text(), "rain");
    assert_eq!(world.line.asked.lock().unwrap().len(), 1);
}
