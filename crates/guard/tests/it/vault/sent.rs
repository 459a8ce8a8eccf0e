//! What of a secret leaves: it stands at its place of a request to its own server, for whoever is granted it, and nowhere else.

use std::sync::Arc;

use dromia_contracts::ErrorCode;
use dromia_contracts::egress::{Egress as _, EgressClientConfig, EgressPurpose, EgressRequest};
use dromia_contracts::store::Mutation;
use dromia_contracts::vault::{NewSecret, SealedSecret, SecretSlot, SecretSummary, Vault as _};

use super::{LOOPBACK, VALUE, VaultFixture, header, refused, value};
use crate::server::{Server, egress, granted, hello, http, limits, rule};

#[tokio::test]
async fn a_secret_is_placed_only_where_its_placement_says() {
    for (placement, slot, stands) in [
        ("header:X-Key", header("x-key"), format!("x-key: {VALUE}\r\n")),
        ("bearer", header("authorization"), format!("authorization: Bearer {VALUE}\r\n")),
        ("query:key", SecretSlot::Query("key".to_owned()), format!("GET /x?key={VALUE} ")),
    ] {
        let (fixture, server) = (VaultFixture::new().await, Server::at(LOOPBACK, 0, hello()).await);
        let secret = fixture.set(format!("http://127.0.0.1:{}", server.port()), placement).await;
        assert_eq!(secret.host, format!("http://127.0.0.1:{}", server.port()));
        let request = fixture.asking(server.port(), &slot, &["secret:github"]);
        let response = fixture.line().send_request(request).await.expect("it answers");
        assert!(server.heard()[0].contains(&stands), "{:?}", server.heard());
        let decided = response.decisions[0].rule.as_str();
        assert!(decided.ends_with(" and secret:github"), "{decided}");
        assert!(!format!("{response:?}").contains(VALUE) && !response.url.contains(VALUE));
        // A parameter of the same name would be there twice.
        let twice = fixture.asking(server.port(), &slot, &["secret:github"]);
        let twice = EgressRequest { url: format!("{}?key=1", twice.url), ..twice };
        let is_sent = fixture.line().send_request(twice).await.is_ok();
        assert_eq!(is_sent, !placement.starts_with("query"), "{placement}");
    }
}

#[tokio::test]
async fn a_secret_leaves_only_for_its_server_slot_and_grant() {
    let fixture = VaultFixture::new().await;
    let (own, other) = (Server::at(LOOPBACK, 0, hello()).await, Server::at(LOOPBACK, 0, hello()).await);
    fixture.set(format!("http://127.0.0.1:{}", own.port()), "header:x-key").await;
    let line = fixture.line();
    for (port, slot, grants) in [
        (other.port(), header("x-key"), &["secret:github"][..]),
        (own.port(), header("x-other"), &["secret:github"][..]),
        (own.port(), SecretSlot::Query("x-key".to_owned()), &["secret:github"][..]),
        (own.port(), header("x-key"), &["secret:other"][..]),
        (own.port(), header("x-key"), &[][..]),
    ] {
        assert_eq!(
            refused(line.send_request(fixture.asking(port, &slot, grants)).await),
            "secret",
            "{port} {slot:?}"
        );
    }
    let blind = granted(&egress(&["127.0.0.1"], &Arc::default()), limits());
    let request = fixture.asking(own.port(), &header("x-key"), &["secret:github"]);
    assert_eq!(refused(blind.send_request(request).await), "secret", "a line without a vault");
    assert_eq!((own.connections(), other.connections()), (0, 0));
}

#[tokio::test]
async fn a_tools_client_carries_its_secrets_and_a_models_none() {
    let fixture = VaultFixture::new().await;
    let (own, other) = (Server::at(LOOPBACK, 0, hello()).await, Server::at(LOOPBACK, 0, hello()).await);
    fixture.set(format!("http://127.0.0.1:{}", own.port()), "header:x-key").await;
    let egress = egress(&[], &Arc::default()).with_vault(Arc::clone(&fixture.vault));
    let url = format!("http://127.0.0.1:{}/x", own.port());
    let line = |route| egress.open_client(EgressClientConfig { route, limits: limits() }).expect("a line");
    let asking = |port| fixture.asking(port, &header("x-key"), &["secret:github"]);
    let tool = line(EgressPurpose::Tool(url.clone()));
    let response = tool.send_request(asking(own.port())).await.expect("it answers");
    assert_eq!(response.decisions[0].rule, "named by the configuration and secret:github");
    assert!(own.heard()[0].contains(VALUE));
    assert_eq!(refused(tool.send_request(asking(other.port())).await), "not the named server");
    let without = fixture.asking(own.port(), &header("x-key"), &[]);
    assert_eq!(refused(tool.send_request(without).await), "secret");
    let keyed = line(EgressPurpose::Keyed(url.clone()));
    keyed.send_request(asking(own.port())).await.expect("it answers");
    assert!(own.heard()[1].contains(VALUE));
    assert_eq!(refused(keyed.send_request(asking(other.port())).await), "not the named server");
    assert_eq!(refused(line(EgressPurpose::Named(url)).send_request(asking(own.port())).await), "secret");
    assert_eq!(own.heard().len(), 2);
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn only_a_signing_secret_signs_and_it_is_never_sent() {
    const KEY: &str = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5";
    let (fixture, server) = (VaultFixture::new().await, Server::at(LOOPBACK, 0, hello()).await);
    let host = format!("http://127.0.0.1:{}", server.port());
    let set = async |placement: &str, text: &str| {
        let placement = placement.parse().expect("a placement");
        let new = NewSecret { name: "github".to_owned(), value: value(text), host: host.clone(), placement };
        fixture.vault.set_secret(fixture.scope(), new).await.map_err(|fault| fault.code)
    };
    let signing =
        async |url: &str| fixture.vault.signing_key::<String>(&fixture.scope(), "github", url).await;
    let hook = format!("{host}/hook?a=b");
    assert!(signing(&hook).await.is_err_and(|told| told.contains("no secret of that name")));
    for bad in [VALUE, "whsec_Y2FuYXJ5", "whsec_%%%%%%%%"] {
        assert_eq!(set("signature", bad).await.map(drop), Err(ErrorCode::InvalidRequest), "{bad}");
    }
    assert!(set("bearer", KEY).await.is_ok());
    assert!(signing(&hook).await.is_err_and(|told| told.contains("not for signing")));
    assert!(set("signature", KEY).await.is_ok());
    assert_eq!(signing(&hook).await, Ok(KEY.to_owned()));
    assert!(signing("http://127.0.0.1:1/hook").await.is_err_and(|told| told.contains("another host")));
    for slot in [header("authorization"), header("signature"), SecretSlot::Query("signature".to_owned())] {
        let request = fixture.asking(server.port(), &slot, &["secret:github"]);
        assert_eq!(refused(fixture.line().send_request(request).await), "secret", "{slot:?}");
    }
    assert_eq!(server.connections(), 0);
    // What it is renewed with signs too, and counts at once.
    let name = || "github".to_owned();
    let refused =
        fixture.vault.rotate_secret(fixture.scope(), name(), value(VALUE)).await.map_err(|fault| fault.code);
    assert_eq!(refused.map(drop), Err(ErrorCode::InvalidRequest));
    let new = format!("{KEY}{KEY}").replace("5whsec_", "5");
    assert!(fixture.vault.rotate_secret(fixture.scope(), name(), value(&new)).await.is_ok());
    assert_eq!(signing(&hook).await, Ok(new));
}

#[tokio::test]
async fn a_redirect_to_another_host_gets_nothing_of_it() {
    let (fixture, other) = (VaultFixture::new().await, Server::at(LOOPBACK, 0, hello()).await);
    let to = format!("location: http://127.0.0.1:{}/y\r\n", other.port());
    let own = Server::at(LOOPBACK, 0, Arc::new(move |_| http("302 Found", &to, ""))).await;
    fixture.set(format!("http://127.0.0.1:{}", own.port()), "header:x-key").await;
    let both = format!("net:127.0.0.1:{}", other.port());
    let request = fixture.asking(own.port(), &header("x-key"), &["secret:github", &both]);
    fixture.line().send_request(request).await.expect("it answers");
    assert!(own.heard()[0].contains(VALUE));
    assert_eq!(other.heard().len(), 1);
    assert!(!other.heard()[0].contains(VALUE), "{:?}", other.heard());
}

#[tokio::test]
async fn a_secret_that_is_redirected_in_a_url_is_caught() {
    let (fixture, other) = (VaultFixture::new().await, Server::at(LOOPBACK, 0, hello()).await);
    let port = other.port();
    // It tells what it was told, to whoever it chooses.
    let own = Server::at(
        LOOPBACK,
        0,
        Arc::new(move |heard: &str| {
            let path = heard.split(' ').nth(1).unwrap_or_default();
            http("302 Found", &format!("location: http://127.0.0.1:{port}{path}\r\n"), "")
        }),
    );
    let own = own.await;
    fixture.set(format!("http://127.0.0.1:{}", own.port()), "query:key").await;
    let both = format!("net:127.0.0.1:{port}");
    let slot = SecretSlot::Query("key".to_owned());
    let request = fixture.asking(own.port(), &slot, &["secret:github", &both]);
    let error = fixture.line().send_request(request).await.expect_err("it is not followed");
    assert_eq!(rule(&error), "secret");
    assert_eq!((own.connections(), other.connections()), (1, 0));
}

#[tokio::test]
async fn a_secret_rebound_to_another_server_is_caught() {
    let (fixture, server) = (VaultFixture::new().await, Server::at(LOOPBACK, 0, hello()).await);
    fixture.set("api.example.com".to_owned(), "bearer").await;
    let stored =
        fixture.store.secret(&fixture.scope(), "github").await.expect("a read").expect("it is there");
    let host = format!("http://127.0.0.1:{}", server.port());
    // The version is the old one, so only the server is another.
    fixture.vault.delete_secret(fixture.scope(), "github".to_owned()).await.expect("it is deleted");
    let moved = SealedSecret { secret: SecretSummary { host, ..stored.secret }, ..stored };
    fixture.scene.commit_mutation(Mutation::SecretPut(moved)).await;
    let request = fixture.asking(server.port(), &header("authorization"), &["secret:github"]);
    assert_eq!(refused(fixture.line().send_request(request).await), "secret");
    assert_eq!(server.connections(), 0);
}
