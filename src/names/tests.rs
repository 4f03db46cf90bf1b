use super::*;
use crate::place::Manager;

#[test]
fn an_instance_has_one_spelling() {
    for text in ["1.1.1", "1024.18446744073709551615.9999", "2.7-4.1"] {
        let instance: Instance = text.parse().unwrap();
        assert_eq!(instance.to_string(), text);
    }
    for text in [
        "",
        "1",
        "1.1",
        "1.1.1.1",
        "0.1.1",
        "1025.1.1",
        "1.0.1",
        "1.1.0",
        "1.1.10000",
        "01.1.1",
        "+1.1.1",
        "1.4-4.1",
        "1.4-0.1",
        "1.1-.1",
        "1. 1.1",
        "1.1.1\n",
    ] {
        assert!(text.parse::<Instance>().is_err(), "{text:?}");
    }
}

#[test]
fn names_that_would_break_out_are_refused() {
    for text in ["", "..", "../x", "a/b", "a b", "a@b", "-a", ".a", "_a", "a\n", "a:b", "a%i", "all", "first", &"x".repeat(65)] {
        assert!(text.parse::<AppName>().is_err(), "{text:?}");
    }
    for text in ["", "-a", "a-", "A", "1a", "a_b", "a.b", &"x".repeat(32)] {
        assert!(text.parse::<ClusterName>().is_err(), "{text:?}");
    }
}

#[test]
fn addresses_in_all_their_spellings() {
    let parse = |text: &str| text.parse::<Address>().map(|address| address.to_string());
    assert_eq!(parse("3000").unwrap(), "[::]:3000");
    assert_eq!(parse("*:3000").unwrap(), "[::]:3000");
    assert_eq!(parse("tcp://127.0.0.1:80").unwrap(), "127.0.0.1:80");
    assert_eq!(parse("localhost:80").unwrap(), "127.0.0.1:80");
    assert_eq!(parse("unix:/run/a.sock").unwrap(), "/run/a.sock");
    for text in ["", "0", "65536", "127.0.0.1:0", "host:80", "/a//b", "/a/../b", "/a/", "run/x", "udp://0.0.0.0:53", "[fe80::1%2]:80"] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn overlap_is_what_bind_would_refuse() {
    let overlap = |a: &str, b: &str| a.parse::<Address>().unwrap().overlaps(&b.parse().unwrap());
    assert!(overlap("3000", "127.0.0.1:3000"));
    assert!(overlap("0.0.0.0:3000", "127.0.0.1:3000"));
    assert!(overlap("3000", "[::1]:3000"));
    assert!(!overlap("0.0.0.0:3000", "[::1]:3000"));
    assert!(!overlap("127.0.0.2:3000", "127.0.0.1:3000"));
    assert!(!overlap("3000", "3001"));
}

#[test]
fn unit_names() {
    let (cluster, app) = (ClusterName::default(), "api-v2".parse().unwrap());
    let units = AppUnits::new(&cluster, &app);
    assert_eq!(units.handle(), "project-cluster@api-v2.service");
    assert_eq!(units.slice(Manager::System), "system-project\\x2dcluster\\x2dapi\\x2dv2.slice");
    assert_eq!(units.socket(&"[::1]:80".parse().unwrap()), "project-cluster-api-v2-::1:80.socket");
    assert_eq!(units.socket(&"/run/a-b/c.sock".parse().unwrap()), "project-cluster-api-v2-unix:run:a-b:c.sock.socket");
    assert_eq!(units.socket(&"/run/a b:é".parse().unwrap()), "project-cluster-api-v2-unix:run:a::20b::3a::c3::a9.socket");
    let long = units.socket(&format!("/run/{}", "é".repeat(51)).parse().unwrap());
    assert_eq!(long, "project-cluster-api-v2-unix:1010021a2119d068.socket");
    let instance = units.instance("project-cluster-api-v2@1.2.3.service").unwrap();
    assert_eq!(units.worker(&instance), "project-cluster-api-v2@1.2.3.service");
    // `api` and `api-v2` share a prefix, not their workers.
    assert_eq!(AppUnits::new(&cluster, &"api".parse().unwrap()).instance("project-cluster-api-v2@1.2.3.service"), None);
}
