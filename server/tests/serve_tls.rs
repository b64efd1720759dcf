//! HTTP over TLS, and what systemd hands over and is told.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::node::{Node, PATIENCE, config, serve, wait};
use rustls::pki_types::{CertificateDer, ServerName};

/// A certificate for localhost that signs itself, and its key.
fn certificate(directory: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(directory.join("node.pem"), made.cert.pem()).unwrap();
    fs::write(directory.join("node.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().to_vec()
}

const TLS: &str = "[http]\ntls_cert = \"DIR/node.pem\"\ntls_key = \"DIR/node.key\"\n";

fn with_tls(directory: &Path, more: &str) -> std::path::PathBuf {
    config(
        directory,
        &(TLS.replace("DIR", &directory.display().to_string()) + more),
    )
}

/// A request over TLS, by a client that trusts this certificate alone. The status line, or why there is none.
fn ask(node: &Node, trusted: &[u8]) -> Result<String, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(trusted.to_vec())).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // What a browser offers.
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let stream = TcpStream::connect(&node.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, stream);
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .map_err(|error| error.to_string())?;
    let mut told = Vec::new();
    // The end may come without TLS's own goodbye, behind the whole answer.
    let _ = stream.read_to_end(&mut told);
    let told = String::from_utf8(told).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    Ok(told.lines().next().unwrap_or_default().to_owned())
}

#[test]
fn http_is_encrypted_and_a_reload_takes_the_new_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let first = certificate(directory.path());
    let path = with_tls(directory.path(), "");
    let mut node = Node::start(directory.path(), &["--config", path.to_str().unwrap()]);
    assert_eq!(ask(&node, &first).unwrap(), "HTTP/1.1 200 OK");

    // Whoever speaks plainly is dropped, and nothing is answered in the clear.
    let mut plain = TcpStream::connect(&node.http).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut told = Vec::new();
    let _ = plain.read_to_end(&mut told);
    assert!(!told.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&told));

    let second = certificate(directory.path());
    node.signal("-HUP");
    wait("the new certificate", || (ask(&node, &second).is_ok()).then_some(()));
    assert!(ask(&node, &first).is_err());

    // A key of another certificate changes nothing, nor does the limit beside it.
    let (old_key, old) = (fs::read(directory.path().join("node.key")).unwrap(), second);
    certificate(directory.path());
    fs::write(directory.path().join("node.key"), &old_key).unwrap();
    with_tls(directory.path(), "[limits.other]\nlimits = \"1/s\"\n");
    node.signal("-HUP");
    wait("the refusal", || node.log().contains("reload_refused").then_some(()));
    assert!(node.log().contains("node.key"), "{}", node.log());
    assert_eq!(ask(&node, &old).unwrap(), "HTTP/1.1 200 OK");

    // A connection that never shakes hands does not keep the node from stopping.
    let _idle = TcpStream::connect(&node.http).unwrap();
    assert_eq!(node.stop().code(), Some(0), "{}", node.log());
}

#[test]
fn files_that_are_no_certificates_are_told() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path());
    let path = with_tls(directory.path(), "");
    let check = || {
        let mut command = serve(
            directory.path(),
            &["--check-config", "--config", path.to_str().unwrap()],
        );
        let output = command.output().unwrap();
        (output.status.code(), common::stderr(&output).to_owned())
    };
    assert_eq!(check().0, Some(0));
    let (cert, key) = (directory.path().join("node.pem"), directory.path().join("node.key"));
    let pem = fs::read(&cert).unwrap();
    for (file, bytes, code, part) in [
        (&cert, &b"not PEM"[..], 2, "BEGIN CERTIFICATE"),
        (
            &cert,
            b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
            2,
            "not PEM",
        ),
        (&cert, &pem, 0, ""),
        (&key, &pem, 2, "BEGIN PRIVATE KEY"),
    ] {
        fs::write(file, bytes).unwrap();
        let (got, told) = check();
        assert_eq!(got, Some(code), "{told}");
        assert!(told.contains(part), "{told}");
    }
    fs::remove_file(&key).unwrap();
    assert_eq!(check().0, Some(1));
}

#[test]
fn a_socket_is_taken_over_and_the_manager_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let told = UnixDatagram::bind(directory.path().join("notify")).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();

    let run = |name: &str, listener: TcpListener| {
        let node = serve(directory.path(), &[]);
        let mut command = Command::new("sh");
        // The socket comes as standard input, and stands where systemd puts it.
        command
            .args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\""])
            .arg(node.get_program())
            .args(node.get_args())
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", name)
            .env("NOTIFY_SOCKET", directory.path().join("notify"))
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let refused = run("web", listener.try_clone().unwrap()).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        common::stderr(&refused).contains("FileDescriptorName="),
        "{}",
        common::stderr(&refused)
    );

    let mut node = Node::run(run("http", listener).env("WATCHDOG_USEC", "2000000"));
    assert_eq!(node.http, address);
    assert_eq!(node.http("GET", "/healthz", "", "").0, 200);
    let next = |wanted: &str| {
        wait(wanted, || {
            let mut bytes = [0; 256];
            let length = told.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..length]).contains(wanted).then_some(())
        });
    };
    next("READY=1");
    node.signal("-HUP");
    next("RELOADING=1");
    next("READY=1");
    node.stop();
    next("STOPPING=1");
}

#[test]
fn events_are_json_on_request_and_name_no_client() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::start(directory.path(), &["--log", "json"]);
    let own = r#"{"override": "5/day"}"#;
    assert_eq!(node.http("PUT", "/v1/overrides/secret-client", "", own).0, 204);
    for _ in 0..5 {
        node.http(
            "PUT",
            "/v1/limits",
            "authorization: Bearer wrong\r\nx-forwarded-for: a\r\n",
            "{}",
        );
    }
    assert_eq!(node.stop().code(), Some(0));
    wait("the last event", || node.log().contains("\"stopped\"").then_some(()));
    let mut names = Vec::new();
    for line in node.log().lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let name = event["event"]
            .as_str()
            .unwrap_or_else(|| panic!("no event in {line}"))
            .to_owned();
        let known = ratelimit_server::events::EVENTS.iter().chain(ratelimit::events::EVENTS);
        assert!(known.clone().any(|known| known.name == name), "{line}");
        if name == "override_changed" {
            assert_eq!(event["client"].as_str().unwrap().len(), 8, "{line}");
        }
        names.push(name);
    }
    assert!(!node.log().contains("secret-client"), "{}", node.log());
    assert_eq!(
        names.iter().filter(|name| *name == "admin_refused").count(),
        1,
        "{names:?}"
    );
    for name in ["started", "restored", "override_changed", "stopping", "stopped"] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
}
