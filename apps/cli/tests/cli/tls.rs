//! Servers that encrypt, as people start and use them.

use crate::support::{Running, Scratch, done};

/// Makes the files of a server, `server.pem` and `server.key`, and of whoever has certified it, `ca.pem`.
fn certify(scratch: &Scratch) {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = parameters.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(parameters, authority);
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(names).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    scratch.file("ca.pem", own.pem());
    scratch.file("server.pem", server.pem());
    scratch.file("server.key", key.serialize_pem());
}

/// Serves `./log` on a free port; the server, and its address.
fn serve(scratch: &Scratch) -> (Running, String) {
    let mut server = scratch
        .start("serve --log ./log --listen 127.0.0.1:0 --tls-cert server.pem --tls-key server.key");
    let line = server.error_line();
    let (_, url) = line.trim().split_once(": ").expect("it says where it is");
    (server, url.to_owned())
}

#[test]
fn commands_use_a_server_that_encrypts_and_believe_the_ca_that_is_named() {
    let scratch = Scratch::new("tls-commands");
    certify(&scratch);
    let (server, url) = serve(&scratch);
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let append = format!("append order/1 --type T --log {url}");
    scratch.run(&format!("{append} --tls-ca ca.pem")).ok();
    for log in [&url, "./log"] {
        let read = format!("read --log {log} --tls-ca ca.pem");
        assert_eq!(scratch.run(&read).ok(), "0:0\torder/1\t0\tT\t{}\n");
    }
    let info = format!("log info --log {url} --tls-ca ca.pem");
    assert!(scratch.run(&info).ok().contains("events"));
    // Who is not told whom to believe does not believe it.
    let refused = scratch.run(&append);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("--tls-ca"), "{}", refused.stderr);
    server.terminate();
    server.finish().ok();
}

#[test]
fn a_context_without_a_ca_sets_aside_that_of_the_environment_and_of_the_context_in_use() {
    let scratch = Scratch::new("tls-contexts");
    certify(&scratch);
    let (server, url) = serve(&scratch);
    let add = format!("--log {url}");
    scratch.run(&format!("context add bare {add}")).ok();
    let known = format!("context add known {add} --tls-ca ca.pem");
    scratch.run(&known).ok();
    scratch.run("context use known").ok();
    scratch.run("read").ok();
    let by_variable = |arguments: &str| {
        let mut command = scratch.command(arguments);
        command.env("ANABRANCH_TLS_CA", scratch.path("ca.pem"));
        done(command)
    };
    by_variable(&format!("read --log {url}")).ok();
    for refused in [
        scratch.run("read --context bare"),
        by_variable("read --context bare"),
    ] {
        let told = refused.stderr;
        assert!(told.contains("has not proved who it is"), "{told}");
    }
    server.terminate();
    server.finish().ok();
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_before_anything_is_opened() {
    let scratch = Scratch::new("tls-wrong");
    certify(&scratch);
    let with = |chain: &str, key: &str| {
        let serve = "serve --log ./log --listen 127.0.0.1:0";
        scratch.run(&format!("{serve} --tls-cert {chain} --tls-key {key}"))
    };
    for (chain, key, part) in [
        ("none.pem", "server.key", "none.pem cannot be read"),
        ("server.key", "server.key", "holds no certificate"),
        ("server.pem", "server.pem", "holds no private key"),
        ("ca.pem", "server.key", "cannot be used"),
    ] {
        let told = with(chain, key).fails(1);
        assert!(told.contains("error[bad-certificate]: "), "{told}");
        assert!(told.contains(part), "{part}: {told}");
        assert!(told.contains("nothing was opened"), "{told}");
    }
    let half = scratch.run("serve --log ./log --set tls_cert=server.pem");
    assert!(half.fails(2).contains("only one is named"));
    assert!(!scratch.path("log").exists());
}

#[test]
fn beyond_this_machine_a_server_that_encrypts_still_has_to_ask_who_calls() {
    let scratch = Scratch::new("tls-exposed");
    certify(&scratch);
    let serve = "serve --log ./log --listen 0.0.0.0:0 --tls-cert server.pem --tls-key server.key";
    let told = scratch.run(serve).fails(1);
    assert!(told.contains("it needs --auth beside TLS"), "{told}");
    let mut server = scratch.start(&format!("{serve} --auth"));
    // Without a warning.
    if rustix::process::geteuid().is_root() {
        assert!(server.error_line().contains("runs as root"));
    }
    assert!(server.error_line().contains("the first key"));
    assert!(server.error_line().contains("https://0.0.0.0:"));
    server.terminate();
    server.finish().ok();
}

#[test]
fn the_shop_in_processes_of_its_own_encrypts_and_asks_who_calls() {
    let scratch = Scratch::new("tls-split");
    certify(&scratch);
    let order = |n: usize| {
        format!(
            "{},{},A,2,2010-12-01 08:26:00,1.25,17850,France\n",
            536_365 + n,
            22_000 + n
        )
    };
    let head =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";
    scratch.file(
        "orders.csv",
        head.to_owned() + &(0..3).map(order).collect::<String>(),
    );
    let demo = scratch.run(
        "demo --split --orders orders.csv --provider reliable --listen 127.0.0.1:0 --output json \
         --auth --tls-cert server.pem --tls-key server.key --tls-ca ca.pem",
    );
    let said = std::fs::read_to_string(scratch.path(".anabranch/demo/services.log"));
    assert_eq!(demo.code, Some(0), "{}\n{said:?}", demo.stderr);
    let summary: serde_json::Value = serde_json::from_slice(&demo.stdout).unwrap();
    assert_eq!(summary["orders"]["confirmed"], 3, "{summary}");
    let audit = scratch.run("audit verify --log ./.anabranch/demo/log").ok();
    assert!(audit.contains("the audit is whole"), "{audit}");
}
