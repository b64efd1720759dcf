//! Certificates change while nodes run.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::ca::Said;
use common::{Ca, Making, Node, quick, wait_linked, wait_until};
use ratelimit_quic::{Event, HandshakeRefusal, Identity, Pem};

fn text(pem: &Pem) -> &str {
    match pem {
        Pem::Text(text) => text,
        Pem::File(_) => panic!("tests have texts"),
    }
}

/// Puts an identity into files.
fn write(folder: &Path, identity: &Identity) -> Identity {
    let file = |name: &str, pem: &Pem| {
        let path = folder.join(name);
        fs::write(&path, text(pem)).expect("a file");
        Pem::File(path)
    };
    Identity {
        ca: file("ca.pem", &identity.ca),
        cert: file("node.pem", &identity.cert),
        key: file("node.key", &identity.key),
    }
}

fn start(name: &str, ca: &Ca, identity: Identity, seeds: &[&Node]) -> Node {
    let mut making = Making::new(name, ca, seeds);
    making.identity = identity;
    making.change = Box::new(|config| quick(&mut config.tuning));
    making.start()
}

fn reloaded(node: &Node) -> u64 {
    node.driver().stats().certificates_reloaded
}

#[test]
fn an_authority_is_replaced_while_nodes_stay_linked() {
    let (old, new) = (Ca::new(), Ca::new());
    let folder = tempfile::tempdir().expect("a folder");
    let a = start("a", &old, write(folder.path(), &old.identity("a")), &[]);
    let b = start("b", &old, old.identity("b"), &[&a]);
    wait_linked(&[&a, &b]);
    let refused = start("c", &new, new.identity("c"), &[&a]);
    // Whoever calls sees the other's certificate first.
    let believes = HandshakeRefusal::UnknownAuthority;
    wait_until("they are strangers", || refused.driver().stats().refused(believes) > 0);
    drop(refused);

    // First both are believed, then the node shows the new certificate.
    let both = format!("{}{}", old.pem, new.pem);
    fs::write(folder.path().join("ca.pem"), &both).expect("a file");
    wait_until("a believes both", || reloaded(&a) == 1);
    let mut identity = new.identity("c");
    identity.ca = Pem::Text(both);
    let c = start("c", &new, identity, &[&a]);
    wait_linked(&[&a, &c]);
    write(
        folder.path(),
        &Identity {
            ca: Pem::Text(format!("{}{}", old.pem, new.pem)),
            ..new.identity("a")
        },
    );
    wait_until("a shows the new certificate", || reloaded(&a) == 2);
    // One that believes only the new authority can link now.
    let d = start("d", &new, new.identity("d"), &[&a]);
    wait_linked(&[&a, &d]);
    assert!(a.saw(|event| matches!(event, Event::CertificatesReloaded { .. })));
    assert_eq!(a.peer("b").expect("a peer").links_up, 1, "links that are up stay");
    assert_eq!(a.driver().stats().certificates_failed, 0);
}

#[test]
fn certificates_that_do_not_fit_are_told_once_and_change_nothing() {
    let ca = Ca::new();
    let folder = tempfile::tempdir().expect("a folder");
    let a = start("a", &ca, write(folder.path(), &ca.identity("a")), &[]);
    // Half of a new pair: the key is still the old one.
    fs::write(folder.path().join("node.pem"), text(&ca.identity("a").cert)).expect("a file");
    wait_until("it is told", || {
        a.saw(|event| matches!(event, Event::CertificatesFailed { .. }))
    });
    let failed = |node: &Node| {
        let events = node.events();
        events
            .iter()
            .filter(|event| matches!(event, Event::CertificatesFailed { .. }))
            .count()
    };
    // Several looks later it is still told once; whoever asks is told again.
    let wakes = a.driver().stats().wakes;
    wait_until("more looks", || a.driver().stats().wakes > wakes + 30);
    assert_eq!(failed(&a), 1);
    a.driver().reload_certificates();
    wait_until("it is told again", || failed(&a) == 2);
    assert!(a.saw(|event| matches!(event, Event::CertificatesFailed { reason }
        if reason.contains("node.key") && reason.contains("is the key of another certificate"))));
    let b = start("b", &ca, ca.identity("b"), &[&a]);
    wait_linked(&[&a, &b]);
    write(folder.path(), &ca.identity("a"));
    wait_until("the whole pair is taken", || reloaded(&a) == 1);
}

#[test]
fn an_identity_is_set_by_a_call() {
    let ca = Ca::new();
    let a = start("a", &ca, ca.identity("a"), &[]);
    let wrong = a.driver().set_identity(ca.identity("b")).expect_err("another's");
    assert!(wrong.to_string().contains("is for the node \"b\""), "{wrong}");
    assert_eq!(reloaded(&a), 0);
    let day = Duration::from_secs(86_400);
    let soon = Said {
        not_after: SystemTime::now() + day,
        ..Said::of(&["a"])
    };
    a.driver().set_identity(ca.identity_of(&soon)).expect("a good one");
    wait_until("it is in use", || reloaded(&a) == 1);
    let not_after = a.driver().stats().certificate_not_after.expect("a time");
    assert!(not_after < SystemTime::now() + day);
    wait_until("it is said to expire", || {
        a.saw(|event| matches!(event, Event::CertificateExpires { left } if *left <= day && *left > day / 2))
    });
    let told = |node: &Node| {
        let events = node.events();
        events
            .iter()
            .filter(|event| matches!(event, Event::CertificateExpires { .. }))
            .count()
    };
    let wakes = a.driver().stats().wakes;
    wait_until("more looks", || a.driver().stats().wakes > wakes + 30);
    assert_eq!(told(&a), 1, "once a day");
}

#[test]
fn what_the_command_makes_is_what_nodes_need() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = ratelimit_certs::Options::new(folder.path(), &["a", "b"]);
    ratelimit_certs::make(&options).expect("certificates");
    let identity = |name: &str| {
        let [ca, cert, key, _] = ratelimit_certs::paths(folder.path(), name).map(Pem::File);
        Identity { ca, cert, key }
    };
    let unused = Ca::new();
    let a = start("a", &unused, identity("a"), &[]);
    let b = start("b", &unused, identity("b"), &[&a]);
    wait_linked(&[&a, &b]);
    options.renew = vec!["b".to_owned()];
    ratelimit_certs::make(&options).expect("certificates");
    wait_until("b uses the new one", || reloaded(&b) == 1);
    options.nodes = vec!["c".to_owned()];
    options.renew.clear();
    ratelimit_certs::make(&options).expect("certificates");
    let c = start("c", &unused, identity("c"), &[&b]);
    wait_linked(&[&b, &c]);
}
