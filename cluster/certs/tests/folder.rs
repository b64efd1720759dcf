//! What is in the folder after a call, and after the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ratelimit_certs::{Error, Made, Options, make, paths};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    names
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(path).expect("a file")
}

#[test]
fn one_call_makes_everything_and_the_next_adds_nodes() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().join("new/certs");
    let report = make(&Options::new(&folder, &["a", "b"])).expect("certificates");
    assert_eq!((report.authority, report.secret), (Made::New, Made::New));
    assert!(report.nodes.iter().all(|node| node.made == Made::New));
    assert_eq!(
        names(&folder),
        ["a.key", "a.pem", "b.key", "b.pem", "ca.key", "ca.pem", "secret"]
    );
    let days = |n: u64| SystemTime::now() + Duration::from_secs(n * 86_400);
    assert!(report.nodes[0].not_after > days(364) && report.nodes[0].not_after <= days(365));
    assert!(report.authority_not_after > days(3649));
    let before: Vec<String> = names(&folder).iter().map(|name| read(folder.join(name))).collect();
    assert_eq!(before[6].trim().len(), 32);

    let report = make(&Options::new(&folder, &["a", "c", "c"])).expect("certificates");
    assert_eq!((report.authority, report.secret), (Made::Kept, Made::Kept));
    let made: Vec<_> = report
        .nodes
        .iter()
        .map(|node| (node.name.as_str(), node.made))
        .collect();
    assert_eq!(made, [("a", Made::Kept), ("c", Made::New)]);
    let after: Vec<String> = names(&folder).iter().map(|name| read(folder.join(name))).collect();
    assert_eq!(names(&folder).len(), 9);
    assert!(
        before.iter().all(|text| after.contains(text)),
        "nothing was overwritten"
    );
    assert_eq!(paths(&folder, "c")[1], folder.join("c.pem"));
}

#[test]
#[cfg(unix)]
fn keys_and_the_secret_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().join("certs");
    make(&Options::new(&folder, &["a"])).expect("certificates");
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for name in ["ca.key", "a.key", "secret"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    for name in ["ca.pem", "a.pem"] {
        assert_eq!(mode(&folder.join(name)) & 0o077, 0o044, "{name}");
    }
}

#[test]
fn a_node_is_renewed_when_asked_and_never_outlives_the_authority() {
    let scratch = tempfile::tempdir().expect("a folder");
    let mut options = Options::new(scratch.path(), &["a", "b"]);
    (options.days, options.authority_days) = (30, 10);
    let first = make(&options).expect("certificates");
    assert_eq!(
        first.nodes[0].not_after, first.authority_not_after,
        "cut to the authority's"
    );
    let (a, b) = (read(scratch.path().join("a.key")), read(scratch.path().join("b.key")));
    options.renew = vec!["a".to_owned()];
    options.days = 5;
    let second = make(&options).expect("certificates");
    let of = |name: &str| {
        second
            .nodes
            .iter()
            .find(|node| node.name == name)
            .expect("a node")
            .clone()
    };
    assert_eq!((of("a").made, of("b").made), (Made::Renewed, Made::Kept));
    assert!(of("a").not_after < first.nodes[0].not_after);
    assert_ne!(read(scratch.path().join("a.key")), a);
    assert_eq!(read(scratch.path().join("b.key")), b);
    assert_eq!(names(scratch.path()).len(), 7, "nothing is left behind");
}

#[test]
fn what_is_wrong_is_said_and_nothing_is_lost() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path();
    for (name, says) in [
        ("", "1 to 64 bytes"),
        ("ca", "the authority's"),
        ("10.0.0.1", "is an address"),
        ("a/b", "as in a DNS name"),
        ("..", "as in a DNS name"),
        ("*.a", "as in a DNS name"),
        ("a b", "as in a DNS name"),
    ] {
        let error = make(&Options::new(folder, &[name])).expect_err(name);
        assert!(error.is_usage() && error.to_string().contains(says), "{name}: {error}");
    }
    let mut options = Options::new(folder, &["a"]);
    options.days = 0;
    assert!(make(&options).expect_err("no days").to_string().contains("1 to 3650"));
    assert!(names(folder).is_empty(), "nothing was made");

    make(&Options::new(folder, &["a"])).expect("certificates");
    let key = read(folder.join("ca.key"));
    fs::remove_file(folder.join("ca.key")).expect("a file");
    let error = make(&Options::new(folder, &["b"])).expect_err("half an authority");
    assert!(
        matches!(error, Error::HalfAuthority { .. }) && error.to_string().contains("ca.key is not"),
        "{error}"
    );
    let other = tempfile::tempdir().expect("a folder");
    make(&Options::new(other.path(), &[])).expect("an authority");
    fs::copy(other.path().join("ca.key"), folder.join("ca.key")).expect("a file");
    let error = make(&Options::new(folder, &["b"])).expect_err("another's key");
    assert!(error.to_string().contains("is not the key of"), "{error}");
    fs::write(folder.join("ca.key"), &key).expect("a file");

    fs::remove_file(folder.join("a.key")).expect("a file");
    let error = make(&Options::new(folder, &["a"])).expect_err("half a node");
    assert!(
        error.to_string().contains("a.key is missing") && error.to_string().contains("--renew a"),
        "{error}"
    );
    options = Options::new(folder, &[]);
    options.renew = vec!["a".to_owned()];
    assert_eq!(make(&options).expect("certificates").nodes[0].made, Made::Renewed);

    fs::write(folder.join("secret"), "short").expect("a file");
    let error = make(&Options::new(folder, &["b"])).expect_err("no secret");
    assert!(error.to_string().contains("32 hexadecimal digits"), "{error}");
    assert_eq!(read(folder.join("secret")), "short");
}
