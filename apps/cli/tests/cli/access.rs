//! Who is let in, and where a program may be reached.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Running, Scratch};

/// Serves `./log` to who shows a key; the server, and its address.
fn serve(scratch: &Scratch) -> (Running, String, String) {
    let mut server = scratch.start("serve --log ./log --auth --listen 127.0.0.1:0");
    let mut said = String::new();
    loop {
        let line = server.error_line();
        said += &line;
        if let Some((_, url)) = line.trim().split_once("log ./log: ") {
            return (server, url.to_owned(), said);
        }
    }
}

#[test]
fn nothing_that_others_reach_is_opened_without_what_that_needs() {
    let scratch = Scratch::new("access-matrix");
    for command in [
        "serve --log ./log",
        "demo --log ./log",
        "demo --split --log ./log",
        "demo --service orders --log http://127.0.0.1:9 --dir ./orders",
    ] {
        for auth in ["", "--auth"] {
            let run = scratch.run(&format!("{command} --listen 0.0.0.0:0 {auth}"));
            let error = run.fails(1);
            for part in [
                "0.0.0.0:0",
                "--auth",
                "TLS",
                "--insecure-i-understand",
                "nothing was opened",
            ] {
                assert!(error.contains(part), "{command} {auth}: {error}");
            }
        }
    }
    for name in ["log", "log.demo", "orders"] {
        assert!(!scratch.path(name).exists(), "{name}");
    }
}

/// What stands at a path of a server.
fn get(url: &str, path: &str) -> String {
    let authority = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(authority).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn who_insists_on_an_open_door_is_warned_and_seen() {
    let scratch = Scratch::new("access-insecure");
    let listen = "serve --log ./log --listen 0.0.0.0:0 --insecure-i-understand";
    let mut server = scratch.start(listen);
    let warning = server.error_line();
    assert!(
        warning.contains("WARNING") && warning.contains("keys and encryption"),
        "{warning}"
    );
    let line = server.error_line();
    let line = match rustix::process::geteuid().is_root() {
        true => server.error_line(),
        false => line,
    };
    let (_, url) = line.trim().split_once(": ").expect("it says where it is");
    let url = url.replace("0.0.0.0", "127.0.0.1");
    let metrics = get(&url, "/metrics");
    assert!(metrics.contains("\nanabranch_insecure{} 1\n"), "{metrics}");
    server.terminate();
    server.finish().ok();
}

#[test]
fn a_server_that_others_reach_says_if_it_runs_as_root() {
    let scratch = Scratch::new("access-root");
    let listen = "serve --log ./log --listen 0.0.0.0:0 --insecure-i-understand";
    let mut server = scratch.start(listen);
    let said = [server.error_line(), server.error_line()];
    let is_said = said.iter().any(|line| line.contains("runs as root"));
    assert_eq!(is_said, rustix::process::geteuid().is_root(), "{said:?}");
    server.terminate();
    server.finish().ok();
}

#[test]
fn the_first_key_is_told_once_and_lets_its_owner_in() {
    let scratch = Scratch::new("access-first-key");
    let (server, url, said) = serve(&scratch);
    assert!(
        said.contains("./log/admin.key; this is said once"),
        "{said}"
    );
    let file = scratch.path("log/admin.key");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = fs::read_to_string(&file).unwrap();
    assert!(!said.contains(key.trim()), "{said}");
    // Whoever has the directory has its key.
    scratch.run("append order/1 --type T --log ./log").ok();
    // By the address alone nobody is let in.
    let refused = scratch.run(&format!("append order/2 --type T --log {url}"));
    assert_ne!(refused.code, Some(5), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("ANABRANCH_TOKEN_FILE"),
        "{}",
        refused.stderr
    );
    let refused = scratch.run(&format!("service ls --server {url} --log ./other"));
    assert!(
        refused.stderr.contains("unauthenticated"),
        "{}",
        refused.stderr
    );
    let mut append = scratch.command(&format!("append order/2 --type T --log {url}"));
    append.env("ANABRANCH_TOKEN_FILE", &file);
    crate::support::done(append).ok();
    let mut append = scratch.command(&format!("append order/3 --type T --log {url}"));
    append.env("ANABRANCH_KEY", key.trim());
    let appended = crate::support::done(append);
    assert!(
        !appended.stderr.contains("sets nothing"),
        "{}",
        appended.stderr
    );
    appended.ok();
    let read = scratch.run("read --log ./log").ok();
    assert_eq!(
        read.lines().filter(|line| line.contains("order/")).count(),
        3,
        "{read}"
    );
    server.terminate();
    server.finish().ok();
    let (server, _, said) = serve(&scratch);
    assert!(!said.contains("admin.key"), "{said}");
    server.terminate();
    server.finish().ok();
    // What the server keeps there is no part of the log.
    scratch.run("log verify --log ./log").ok();
}

#[test]
fn a_key_that_was_made_does_what_its_scopes_say_until_it_is_revoked() {
    let scratch = Scratch::new("access-keys");
    let (server, url, _) = serve(&scratch);
    scratch.run("append order/1 --type T --log ./log").ok();
    scratch.run("append payment/1 --type T --log ./log").ok();
    let add = "key add reports --scope read:order --file ./reports.key --log ./log";
    let made = scratch.run(add);
    let key = fs::read_to_string(scratch.path("reports.key")).unwrap();
    assert!(!made.stderr.contains(key.trim()), "{}", made.stderr);
    made.ok();
    let mode = fs::metadata(scratch.path("reports.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let with_key = |arguments: &str| {
        let mut command = scratch.command(&format!("{arguments} --log {url}"));
        command.env("ANABRANCH_TOKEN_FILE", scratch.path("reports.key"));
        crate::support::done(command)
    };
    let read = with_key("read").ok();
    let (_, read) = read.split_once('\t').unwrap();
    assert_eq!(read, "order/1\t0\tT\t{}\n", "only what it may read");
    let refused = with_key("append order/2 --type T");
    assert!(
        refused.stderr.contains("append:order"),
        "{}",
        refused.stderr
    );
    let listed = scratch.run("key ls --log ./log").ok();
    assert!(
        listed.contains("reports") && listed.contains("read:order"),
        "{listed}"
    );
    let id = key.split('_').nth(1).unwrap();
    assert!(
        !listed.contains(key.trim()) && listed.contains(id),
        "{listed}"
    );
    scratch.run(&format!("key revoke {id} --log ./log")).ok();
    // It is refused within a second; what came before that was let in.
    let revoked = (0..200)
        .map(|_| with_key("read"))
        .find(|read| read.code != Some(0));
    let revoked = revoked.expect("it is refused");
    assert!(
        revoked.stderr.contains("no key that is good was shown"),
        "{}",
        revoked.stderr
    );
    scratch.run("key revoke 000000000000 --log ./log").fails(3);
    server.terminate();
    server.finish().ok();
    let listed = scratch.run("key ls --log ./log").ok();
    assert!(listed.contains("revoked"), "{listed}");
}

#[test]
fn the_audit_of_a_server_is_listed_and_checked() {
    let scratch = Scratch::new("access-audit");
    let (server, url, _) = serve(&scratch);
    scratch
        .run("key add reports --scope read:order --log ./log --file reports.key")
        .ok();
    let refused = scratch
        .command(&format!("append order/1 --type T --log {url}"))
        .env("ANABRANCH_TOKEN_FILE", "reports.key")
        .output()
        .unwrap();
    assert!(!refused.status.success());
    server.terminate();
    server.finish().ok();
    let listed = scratch.run("audit ls --log ./log").ok();
    for part in [
        "start",
        "append $KeyAdded",
        "$access/",
        "refused",
        "reports",
    ] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    let told = scratch.run("audit verify --log ./log").ok();
    let (_, last) = told.trim().rsplit_once(' ').unwrap();
    assert!(told.starts_with("the audit is whole"), "{told}");
    scratch
        .run(&format!("audit verify --log ./log --holds {last}"))
        .ok();
    let other = scratch.run(&format!("audit verify --log ./log --holds {last}0"));
    assert!(other.fails(1).contains("does not hold record"));
    // Whoever has the files can write what they like, and it shows.
    let forged = r#"{"number":9,"at":1,"who":"x","did":"y","about":"z","result":"allowed","times":1,"before":"","hash":""}"#;
    let mut append = scratch.command("append $audit/log --type $Acted --log ./log --data");
    append.arg(forged);
    if crate::support::done(append).code == Some(0) {
        let broken = scratch.run("audit verify --log ./log").fails(1);
        assert!(
            broken.contains("error[audit-broken]: the audit is broken at record"),
            "{broken}"
        );
    }
}
