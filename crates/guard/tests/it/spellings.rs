//! Every spelling of an address that leads inside is refused before anything is connected; every ordinary one is read
//! for what it is.

use std::net::IpAddr;
use std::sync::Arc;

use dromia_contracts::egress::EgressFault;
use dromia_guard::egress::address::{AddressClass, classify_address};
use dromia_guard::egress::target::RequestTarget;

use crate::server::{Told, egress, get, granted, limits};

/// Hosts that are inside, or no hosts at all.
const HOSTS: &[&str] = &[
    // The loopback, in every base and length that resolvers know.
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "0177.0.0.1",
    "0177.1",
    "017700000001",
    "127.0.0.1.",
    "0x7F.0x0.0x0.0x1",
    "0177.0x0.0.01",
    "127.255.255.254",
    "127.0.0.0x1",
    "00000177.0.0.1",
    "0x0000007f.0.0.1",
    "%31%32%37.0.0.1",
    "127%2e0%2e0%2e1",
    "%30x7f.1",
    "１２７.０.０.１",
    "127。0。0。1",
    "127．0．0．1",
    "127｡0｡0｡1",
    "①②⑦.⓪.⓪.①",
    "127.0.0.\u{ad}1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "LocalHost",
    "ｌｏｃａｌｈｏｓｔ",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "loc\u{ad}alhost",
    "foo.localhost",
    "localhost.localdomain",
    "127.0.0.1.nip.io",
    // No address, which systems take for this machine.
    "0.0.0.0",
    "0",
    "0x0",
    "00",
    "0.0",
    "0.1.2.3",
    "0x",
    // Networks of one's own, of carriers and of measurements.
    "10.0.0.1",
    "10.1",
    "0xa.1",
    "167772161",
    "012.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "0xac100001",
    "192.168.0.1",
    "192.168.1",
    "0xc0a80001",
    "3232235521",
    "0300.0250.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "198.18.0.1",
    "inside.example",
    "INSIDE.example.",
    // Where clouds hand out credentials.
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "169.254.169.254.",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.170.2",
    "192.0.0.192",
    "metadata.google.internal",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    // Kept for other things.
    "169.254.1.1",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.2.1",
    "198.51.100.7",
    "203.0.113.9",
    "192.88.99.1",
    // IPv6, and IPv4 hidden in it.
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::FFFF:7F00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::ffff:0:7f00:1]",
    "[::127.0.0.1]",
    "[::7f00:1]",
    "[::a9fe:a9fe]",
    "[::ffff:169.254.169.254]",
    "[::ffff:10.0.0.1]",
    "[::ffff:c0a8:101]",
    "[::ffff:100.64.0.1]",
    "[::ffff:0.0.0.0]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:a00:1::1]",
    "[2002:a9fe:a9fe::]",
    "[2002:c0a8:1::1]",
    "[2002:5db8:d822::1]",
    "[2001:0:0:0:0:0:80ff:fffe]",
    "[2001:0:7f00:1::1]",
    "[2001:470:1f0b::5efe:7f00:1]",
    "[2001:470:1f0b:0:200:5efe:a00:1]",
    "[fe80::1]",
    "[fe80::5efe:5db8:d822]",
    "[febf::1]",
    "[fc00::1]",
    "[fd00::1]",
    "[fdff:ffff::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[100::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[2001:2::1]",
    "[2001:10::1]",
    "[2001:20::1]",
    "[5f00::1]",
    "[4000::1]",
    "mapped.example",
    // Zones.
    "[fe80::1%25eth0]",
    "[::1%25lo]",
    "[fe80::1%eth0]",
    // Somebody before the host, and hosts that only look as if.
    "example.com@127.0.0.1",
    "127.0.0.1@example.com",
    "user:pass@127.0.0.1",
    "@127.0.0.1",
    ":@127.0.0.1",
    "example.com:80@127.0.0.1",
    "example.com%40127.0.0.1",
    "127.0.0.1#@example.com",
    "127.0.0.1?@example.com",
    "127.0.0.1\\@example.com",
    "example.com\\@127.0.0.1",
    "127.0.0.1 example.com",
    "127.0.0.1%09",
    "127.0.0.1\t",
    "12\t7.0.0.1",
    "127.0.0.1%00.example.com",
    "127.0.0.1%2f.example.com",
    // No hosts.
    "",
    ".",
    "..",
    "a..b",
    "256.256.256.256",
    "1.2.3.08",
    "127.0.0.1.1",
    "[::1",
    "::1",
    "[]",
    "127.0.0.1:0",
    "127.0.0.1:65536",
    "127.0.0.1:-1",
    "a b",
    "exa%6dple%20.com",
    "*",
    "a*.example.com",
    // Names that say one thing and another.
    "mixed.example",
    "here.example",
    "nothing.example",
];

/// Texts that are no URL of ours.
const URLS: &[&str] = &[
    "",
    "127.0.0.1",
    "//127.0.0.1/",
    "http:127.0.0.1",
    "http:/127.0.0.1",
    "http:///127.0.0.1",
    "http:////127.0.0.1",
    "http:\\\\127.0.0.1",
    " http://127.0.0.1/",
    "http://127.0.0.1/ ",
    "ht\ntp://127.0.0.1/",
    "http:\t//127.0.0.1/",
    "\u{1}http://127.0.0.1/",
    "http://127.0.0.1/\u{a0}",
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "ftp://127.0.0.1/",
    "gopher://127.0.0.1:70/_x",
    "dict://127.0.0.1:11211/",
    "ws://127.0.0.1/",
    "unix:/run/d.sock",
    "http+unix://%2frun%2fd.sock/",
    "data:text/plain,x",
    "javascript:alert(1)",
    "jar:http://127.0.0.1!/",
    "view-source:http://127.0.0.1/",
    "httpx://127.0.0.1/",
    "http",
    "http://",
    "https://?",
    "https://#",
];

/// What the names say; a name with several answers gives them in turn.
pub(crate) const NAMES: &[(&str, &[&[&str]])] = &[
    ("localhost", &[&["127.0.0.1", "::1"]]),
    ("foo.localhost", &[&["127.0.0.1"]]),
    ("localhost.localdomain", &[&["127.0.0.1"]]),
    ("127.0.0.1.nip.io", &[&["127.0.0.1"]]),
    ("inside.example", &[&["10.0.0.1"]]),
    ("metadata.google.internal", &[&["169.254.169.254"]]),
    ("mapped.example", &[&["::ffff:127.0.0.1"]]),
    ("mixed.example", &[&["93.184.216.34", "127.0.0.1"]]),
    ("here.example", &[&[HERE]]),
    ("nothing.example", &[&[]]),
];

/// A public address that is this machine's.
pub(crate) const HERE: &str = "93.184.216.99";

fn told() -> Arc<Told> {
    Arc::new(Told::new(NAMES).here(&[HERE]))
}

/// Every spelling, as a URL.
pub(crate) fn spellings() -> Vec<String> {
    let hosts = HOSTS.iter().flat_map(|host| [format!("http://{host}/latest"), format!("HTTPS://{host}")]);
    hosts.chain(URLS.iter().map(|url| (*url).to_owned())).collect()
}

/// Grants that cover a URL: once everything public, and once this very host.
pub(crate) fn covering(url: &str) -> [Vec<String>; 2] {
    let named =
        RequestTarget::parse_url(url).map(|target| format!("net:{}:{}", target.host(), target.port()));
    [vec!["net:*".to_owned()], named.into_iter().collect()]
}

#[tokio::test]
async fn no_spelling_leads_inside_whatever_is_granted() {
    let spellings = spellings();
    assert!(HOSTS.len() + URLS.len() >= 150, "{}", HOSTS.len() + URLS.len());
    let egress = egress(&[], &told());
    let line = granted(&egress, limits());
    for url in &spellings {
        for grants in covering(url) {
            let error = line.send_request(get(url, &grants)).await.expect_err(url);
            let EgressFault::Refused { rule, reason } = &error.failure else { panic!("{url:?}: {error:?}") };
            assert!(!error.is_sent, "{url:?}");
            let [decision] = error.decisions.as_slice() else { panic!("{url:?}: {error:?}") };
            assert!(!decision.allowed && decision.rule == *rule, "{url:?}: {decision:?}");
            assert!(!reason.contains("127."), "{url:?}: {reason}");
            // Only what is refused for its form has no grant that could cover it.
            let is_form = RequestTarget::parse_url(url).is_err();
            assert!(
                is_form || rule != "default deny",
                "{url:?}: the grant did not cover it, so nothing was shown"
            );
        }
    }
}

#[test]
fn an_address_is_what_it_hides() {
    for (address, class) in [
        ("127.0.0.1", AddressClass::Loopback),
        ("::1", AddressClass::Loopback),
        ("::ffff:127.0.0.1", AddressClass::Loopback),
        ("::127.0.0.1", AddressClass::Loopback),
        ("::ffff:0:7f00:1", AddressClass::Loopback),
        ("64:ff9b::a00:1", AddressClass::Private),
        ("2002:a00:1::", AddressClass::Private),
        ("2001:0:0:0:0:0:80ff:fffe", AddressClass::Loopback),
        ("2001:470::5efe:a00:1", AddressClass::Private),
        ("0.0.0.0", AddressClass::Unspecified),
        ("::", AddressClass::Unspecified),
        ("10.255.255.255", AddressClass::Private),
        ("100.64.0.1", AddressClass::Private),
        ("fd12::1", AddressClass::Private),
        ("169.254.9.9", AddressClass::LinkLocal),
        ("fe80::1", AddressClass::LinkLocal),
        ("169.254.169.254", AddressClass::Metadata),
        ("::ffff:169.254.169.254", AddressClass::Metadata),
        ("168.63.129.16", AddressClass::Metadata),
        ("224.0.0.251", AddressClass::Multicast),
        ("ff02::fb", AddressClass::Multicast),
        ("2002:5db8:d822::1", AddressClass::Tunnel),
        ("192.88.99.1", AddressClass::Tunnel),
        ("203.0.113.1", AddressClass::Reserved),
        ("2001:db8::1", AddressClass::Reserved),
        ("255.255.255.255", AddressClass::Reserved),
    ] {
        assert_eq!(classify_address(address.parse().expect("an address")), class, "{address}");
    }
}

#[test]
fn ordinary_urls_are_read_as_meant() {
    for (url, shown) in [
        ("https://example.com", "https://example.com:443"),
        ("HTTP://Example.COM/a?b#c", "http://example.com:80"),
        ("https://example.com.:8443/x", "https://example.com:8443"),
        ("https://bücher.example/", "https://xn--bcher-kva.example:443"),
        ("https://a_b.example/", "https://a_b.example:443"),
        ("http://93.184.216.34/", "http://93.184.216.34:80"),
        ("http://0x5db8d822/", "http://93.184.216.34:80"),
        ("https://[2606:2800:220:1::1]:444/", "https://[2606:2800:220:1::1]:444"),
        ("https://example.com/path/@user?to=http://127.0.0.1/", "https://example.com:443"),
    ] {
        let target = RequestTarget::parse_url(url).unwrap_or_else(|refused| panic!("{url}: {refused}"));
        assert_eq!(target.to_string(), shown, "{url}");
        assert_eq!(
            RequestTarget::parse_url(target.as_str()),
            Ok(target),
            "{url}: what is canonical is read as it is"
        );
    }
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "93.184.216.34",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "169.253.1.1",
        "126.255.255.255",
        "128.0.0.1",
        "192.0.1.1",
        "198.17.255.255",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "2001:470::1",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ] {
        let address: IpAddr = address.parse().expect("an address");
        assert_eq!(classify_address(address), AddressClass::Public, "{address}");
    }
}

/// The planted fault: a guard that looks for what it knows in the text of a URL lets most of the table through.
#[test]
fn a_guard_that_compares_texts_is_caught() {
    let careless = |url: &str| {
        let url = url.to_ascii_lowercase();
        let known =
            ["localhost", "://127.", "://10.", "://192.168.", "://169.254.", "://[::1]", "://0.0.0.0"];
        url.starts_with("http") && !known.iter().any(|known| url.contains(known))
    };
    let let_through = spellings().iter().filter(|url| careless(url)).count();
    assert!(let_through >= 100, "the table shows only {let_through} spellings that it misses");
}

/// The planted fault: a table of addresses that forgets what IPv6 hides.
#[test]
fn a_table_that_forgets_what_hides_in_ipv6_is_caught() {
    let careless = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_multicast(),
    };
    let addresses =
        HOSTS.iter().filter_map(|host| RequestTarget::parse_url(&format!("http://{host}/")).ok()?.address());
    let missed = addresses
        .filter(|address| !careless(*address) && classify_address(*address) != AddressClass::Public)
        .count();
    assert!(missed >= 30, "the table shows only {missed} addresses that it misses");
}
