//! A log in PostgreSQL, from the command line.

use std::io::Write as _;

use anabranch_backends::{Postgres, PostgresPrograms};
use serde_json::Value;

use crate::support::{Done, Scratch, done, lines};

/// A server that ends with this value; `None` where there is no PostgreSQL, which is said.
struct Server {
    server: Postgres,
    scratch: Scratch,
}

impl Server {
    fn start(name: &str) -> Option<Self> {
        if let Err(why) = PostgresPrograms::find() {
            let text = format!("skipped: a log in PostgreSQL from the command line: {why}\n");
            // Not by a macro, whose output a passing test keeps to itself.
            std::io::stderr().write_all(text.as_bytes()).unwrap();
            return None;
        }
        let dir = format!("anabranch-cli-{name}-{}", std::process::id());
        Some(Self {
            server: Postgres::start(&std::env::temp_dir().join(dir)).unwrap(),
            scratch: Scratch::new(name),
        })
    }

    fn address(&self) -> String {
        format!("{}?durability=unchecked", self.server.address().unwrap())
    }

    fn password(&self) -> String {
        let address = self.server.address().unwrap();
        let (_, rest) = address.split_once("://anabranch:").unwrap();
        rest.split('@').next().unwrap().to_owned()
    }

    /// Runs the program with the log's address in its environment.
    fn run(&self, arguments: &str) -> Done {
        let mut command = self.scratch.command(arguments);
        command.env("ANABRANCH_LOG", self.address());
        let done = done(command);
        let password = self.password();
        let printed = String::from_utf8_lossy(&done.stdout);
        assert!(!printed.contains(&password), "{printed}");
        assert!(!done.stderr.contains(&password), "{}", done.stderr);
        done
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(why) = self.server.stop() {
            eprintln!("PostgreSQL was not stopped: {why}");
        }
    }
}

#[test]
fn a_log_in_postgres_is_made_appended_to_read_and_described() {
    let Some(server) = Server::start("database") else {
        return;
    };
    let nothing = server.run("read").fails(3);
    assert!(nothing.contains("holds no log"), "{nothing}");
    let made = server
        .run("log create --group trade=order,payment:2 --rest 2")
        .ok();
    assert!(made.contains("trade=order,payment:2, rest:2"), "{made}");
    let again = server.run("log create --rest 2").fails(4);
    assert!(again.contains("error[log-exists]"), "{again}");
    server.run("append order/7 --type OrderPlaced").ok();
    server.run("append payment/7 --type PaymentTaken").ok();
    let read = server.run("read --output jsonl").ok();
    let types: Vec<Value> = read
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone())
        .collect();
    assert_eq!(types, ["OrderPlaced", "PaymentTaken"]);
    let info: Value = serde_json::from_str(&server.run("log info --output json").ok()).unwrap();
    assert_eq!(info["engine"], "postgres");
    assert_eq!(info["durability"], "unchecked");
    assert_eq!(info["events"], 2);
    let place = server.run("log info --stream order/7").ok();
    assert!(place.contains("(trade)"), "{place}");
    let files = server.run("log verify").fails(2);
    assert!(files.contains("PostgreSQL keeps its events"), "{files}");
}

#[test]
fn a_log_goes_into_the_database_and_comes_back_with_the_same_export() {
    let Some(server) = Server::start("database-copy") else {
        return;
    };
    let scratch = &server.scratch;
    let create = "log create ./log --group trade=order,payment:5 --group stock=stock:2";
    scratch.run(create).ok();
    for (number, category) in
        (0..12).zip(["order", "payment", "stock", "price"].into_iter().cycle())
    {
        let file = lines(
            &format!("{category}/{number}"),
            number * 10..number * 10 + 10,
        );
        scratch.run_with("import - --log ./log", file).ok();
    }
    let database = format!("{}&schema=copy", server.address());
    for (from, to) in [
        ("./log", &*database),
        (&database, "./back"),
        ("./back", "./again"),
    ] {
        let said = scratch.run(&format!("log copy {from} {to}"));
        assert!(
            said.stderr.contains("both logs say the same\n"),
            "{}",
            said.stderr
        );
        said.ok();
    }
    let export = |log: &str| scratch.run(&format!("log export - --log {log}")).ok();
    let first = export("./log");
    assert_eq!(first.lines().count(), 120);
    for log in [&*database, "./back", "./again"] {
        assert_eq!(export(log), first, "{log}");
    }
    let more = scratch.run(&format!("log copy ./log {database}")).ok();
    assert!(more.ends_with("; 0 events copied now\n"), "{more}");
    let other = scratch.run("log create ./other --rest 3");
    other.ok();
    let refused = scratch
        .run(&format!("log copy ./other {database}"))
        .fails(4);
    assert!(refused.contains("copy to where no log is yet"), "{refused}");
}

#[test]
fn a_server_that_does_not_keep_what_it_acknowledges_is_refused() {
    let Some(server) = Server::start("database-weak") else {
        return;
    };
    // Those of tests do not sync.
    let mut command = server.scratch.command("append order/1 --type T");
    command.env("ANABRANCH_LOG", server.server.address().unwrap());
    let refused = done(command).fails(2);
    assert!(refused.contains("fsync = off"), "{refused}");
    assert!(refused.contains("durability=unchecked"), "{refused}");
}

#[test]
fn a_database_that_does_not_answer_is_told_without_its_password() {
    let scratch = Scratch::new("database-away");
    for arguments in ["read", "append order/1 --type T", "log info", "config show"] {
        let mut command = scratch.command(arguments);
        command.env("ANABRANCH_LOG", "postgres://ann:s3cret@127.0.0.1:1/shop");
        let done = done(command);
        let printed = String::from_utf8_lossy(&done.stdout);
        assert!(!printed.contains("s3cret"), "{printed}");
        assert!(!done.stderr.contains("s3cret"), "{}", done.stderr);
        if arguments != "config show" {
            let said = done.fails(5);
            assert!(said.contains("postgres://ann@127.0.0.1:1/shop"), "{said}");
        }
    }
}
