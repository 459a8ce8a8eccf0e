//! What capabilities rest on: the key of a tenant, the root key that is derived from it for one signature, and the tokens. The
//! keys are in no byte that is written or printed. A token is printed to whoever makes it and lies in its row; its last bytes
//! are the secret with which whoever has it may narrow it further, and no log, export or other answer holds them.

use std::fs;

use dromia_contracts::store::{PageRequest, Store as _};
use dromia_contracts::vault::KeyBytes;
use dromia_contracts::{Actor, ScopeAuthority};
use dromia_guard::capability::{ROOT_ID, RootKey, RootKeys};
use dromia_guard::vault::{seal, tenant_context};
use dromia_store::{SqliteStore, StoreConfig};
use serde_json::{Value, json};

use super::{Search, forms, hex, serve};
use crate::egress::create;
use crate::home::{Home, append, block_on, stderr};
use crate::keys::said;

/// What a root key is derived for. That it is this one is proved by the tokens, which open with it.
const ROOT_OF: &str = "dromia 2026-11-22 root key of capability tokens, number 1";

/// What stands before the key of an instance.
const FORM: &str = "dromia-vault-key-1 ";

/// How many bytes at the end of a token are its secret.
const SECRET_BYTES: usize = 32;

/// The keys of a home whose server has ended, and what they signed.
struct Keys {
    instance: [u8; 32],
    tenant: [u8; 32],
    root: [u8; 32],
    tokens: Vec<Vec<u8>>,
}

impl Keys {
    fn of(home: &Home) -> Self {
        let file = fs::read_to_string(home.path().join("vault.key")).expect("the file is there");
        let instance = bytes_of(file.trim().strip_prefix(FORM).expect("its form"));
        let store = SqliteStore::open(StoreConfig::new(home.path().join("store"))).expect("the store opens");
        let authority = ScopeAuthority::claim();
        let operator = authority.issue_operator();
        let tenant =
            block_on(store.tenants(&operator, PageRequest::first_page(1))).expect("it is read")[0].id;
        let scope = authority.issue_scope(tenant, Actor::new("test"));
        let sealed = block_on(store.vault_key(&scope)).expect("it is read").expect("the tenant has a key");
        let opened = seal::open_sealed(&KeyBytes::new(instance), &tenant_context(tenant), &sealed);
        let tenant: [u8; 32] = opened.expect("it opens").as_slice().try_into().expect("a key");
        let rows = block_on(store.capabilities(&scope, PageRequest::first_page(16))).expect("they are read");
        let tokens = rows.iter().map(|row| row.token.to_vec()).collect();
        Self { instance, tenant, root: blake3::derive_key(ROOT_OF, &tenant), tokens }
    }
}

/// Reads 32 bytes in hex.
fn bytes_of(digits: &str) -> [u8; 32] {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex");
    pairs.map(byte).collect::<Vec<_>>().try_into().expect("32 bytes")
}

/// Writes bytes in each form that is looked for, base64 for URLs among them.
fn looked_for(kind: &str, value: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for (form, bytes) in forms(value) {
        let of_urls = |byte: &u8| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => *other,
        };
        let for_urls: Vec<u8> = bytes.iter().map(of_urls).collect();
        if form.starts_with("base64") && for_urls != bytes {
            all.push((format!("{kind} ({form} for URLs)"), for_urls));
        }
        all.push((format!("{kind} ({form})"), bytes));
    }
    all
}

/// Runs the program and returns what it printed, on both outputs.
fn printed_by(home: &Home, line: &[&str]) -> Vec<u8> {
    let output = home.run(line);
    assert!(!output.stdout.is_empty() || output.status.success(), "{line:?}: {}", stderr(&output));
    [output.stdout, output.stderr].concat()
}

#[test]
fn no_written_byte_holds_a_signing_key_or_misplaced_token() {
    let home = Home::new();
    let server = serve(&home);
    for agent in ["scribe", "helper"] {
        create(&home, agent, &[]);
    }
    let made = |line: &[&str]| {
        let output = home.run(line);
        assert!(output.status.success(), "{line:?}: {}", stderr(&output));
        let document: Value = serde_json::from_slice(&output.stdout).expect("a document");
        let text = |name: &str| document[name].as_str().expect("a text").to_owned();
        (text("id"), text("token"))
    };
    let (id, token) = made(&["capability", "grant", "scribe", "file:write:docs", "--json"]);
    let (_, handed) = made(&["capability", "delegate", &id, "--to", "helper", "file:write:docs/h", "--json"]);

    // Each is used, shown and looked at, over a kill.
    let arguments = json!({"path": "docs/h/x", "content": "x"}).to_string();
    assert_eq!(said(&server, "helper", &format!("@tool file.write {arguments}"))["status"], "completed");
    assert!(home.path().join("log.txt").exists(), "everything is logged");
    server.kill();
    let server = serve(&home);
    let export = home.path().join("audit-export.jsonl");
    let lines: [&[&str]; 9] = [
        &["capability", "list", "--json"],
        &["capability", "check", "scribe", "file.write", &arguments, "--token", &token, "--json"],
        &["capability", "explain", "helper", "file.write", &arguments],
        &["audit", "export", "--jsonl", "--file", export.to_str().expect("text")],
        &["audit", "query", "--json"],
        &["agent", "show", "scribe", "--json"],
        &["config", "show", "--json"],
        &["doctor", "--json"],
        &["status", "--all"],
    ];
    let printed = lines.map(|line| printed_by(&home, line)).concat();
    server.terminate();

    let keys = Keys::of(&home);
    let root = RootKey::new(ROOT_ID, &keys.root).expect("32 bytes are a key");
    let roots = RootKeys::new(vec![root.public_root()]).expect("one key");
    assert_eq!(keys.tokens.len(), 2);
    for token in &keys.tokens {
        roots.open_token(token).expect("this key signed it");
    }
    let mut found = Vec::new();
    let (tenant, root) = (looked_for("tenant's key", &keys.tenant), looked_for("root key", &keys.root));
    let signing = Search::of(tenant.into_iter().chain(root));
    signing.below(&home.path(), &mut found);
    signing.bytes("what was printed", &printed, &mut found);
    signing.bytes("a token", token.as_bytes(), &mut found);
    assert_eq!(found, Vec::<String>::new());
    let ends = keys.tokens.iter().flat_map(|token| looked_for("token", &token[token.len() - SECRET_BYTES..]));
    let tokens = Search::of(ends);
    for entry in fs::read_dir(home.path()).expect("a home") {
        let path = entry.expect("an entry").path();
        // Their rows are there.
        if path.is_dir() && !path.ends_with("store") {
            tokens.below(&path, &mut found);
        } else if path.is_file() {
            tokens.bytes(&path.display().to_string(), &fs::read(&path).expect("a file"), &mut found);
        }
    }
    tokens.bytes("what was printed", &printed, &mut found);
    assert_eq!(found, Vec::<String>::new());

    // The very same searches find what is somewhere: the key of the instance in its file, tokens where they were printed, a
    // root key that somebody logged.
    Search::of(looked_for("instance's key", &keys.instance)).below(&home.path(), &mut found);
    assert!(found.len() == 1 && found[0].contains("vault.key"), "{found:?}");
    for shown in [token, handed] {
        found.clear();
        tokens.bytes("what was printed", shown.as_bytes(), &mut found);
        assert_eq!(found.len(), 1, "{found:?}");
    }
    append(&home.path().join("log.txt"), &hex(&keys.root));
    found.clear();
    signing.below(&home.path(), &mut found);
    assert_eq!(found.len(), 1, "{found:?}");
}
