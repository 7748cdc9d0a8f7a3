//! Commands to a running program: this test process serves, the program asks.

use std::sync::Arc;

use anabranch::segment::{Options, SegmentLog};
use anabranch_env::Env;
use anabranch_runtime::{EntityOptions, Fleet, Time};
use anabranch_server::{Presence, Server, token_key};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::bank;
use crate::support::{Done, Scratch, done};

/// A bank that serves the default log of a scratch directory.
struct Bank {
    scratch: Scratch,
    fleet: Arc<Fleet>,
    url: String,
    // Ends last, and everything that runs with it.
    running: Option<(Presence, Runtime)>,
}

impl Bank {
    fn open(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let env = Env::os();
        let dir = scratch.path(".anabranch/log");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let fleet = Arc::new(Fleet::new());
        let url = runtime.block_on(async {
            let log = SegmentLog::open(env.clone(), &dir, Options::default()).unwrap();
            let log: Arc<dyn anabranch_log::Log> = Arc::new(log);
            let options = EntityOptions::default();
            fleet.join(bank::service(log.clone(), &env, fleet.port(), options).await);
            let listener = Server::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let server = Server::new(fleet.clone(), log, Time::of(&env))
                .seal(token_key(&env, &dir).unwrap());
            tokio::spawn(server.serve(listener, std::future::pending()));
            url
        });
        let presence = Presence::announce(&env, &dir, &url).unwrap();
        Self {
            scratch,
            fleet,
            url,
            running: Some((presence, runtime)),
        }
    }

    fn run(&self, arguments: &str) -> Done {
        self.scratch.run(arguments)
    }

    /// Runs with one more argument, which may hold spaces.
    fn run_with(&self, arguments: &str, last: &[&str]) -> Done {
        let mut command = self.scratch.command(arguments);
        command.args(last);
        done(command)
    }

    fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.run(&format!("{arguments} --output json")).ok()).unwrap()
    }

    /// Runs until what it prints is as it should be; fails after many times.
    fn until(&self, arguments: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut found = Value::Null;
        for _ in 0..500 {
            found = self.json(arguments);
            if is_so(&found) {
                return found;
            }
        }
        panic!("{arguments} did not come to it: {found}");
    }

    fn deposit(&self, key: &str, amount: u64) -> String {
        self.run(&format!(
            "send account/{key} --type Deposit --data {{\"amount\":{amount}}}"
        ))
        .ok()
    }

    /// Ends the program; its log stays.
    fn end(&mut self) {
        if let Some((presence, runtime)) = self.running.take() {
            presence.withdraw().unwrap();
            for service in self.fleet.services() {
                self.fleet.kill(service.name());
            }
            // Ends the tasks that hold the log.
            drop(runtime);
        }
    }
}

#[test]
fn send_waits_for_the_end_of_a_saga_if_it_is_told_to() {
    let bank = Bank::open("operate-send-wait");
    bank.deposit("till", 5);
    let start = "send lending/1 --type StartSaga --data {\"input\":5}";
    assert!(bank.run(start).ok().contains("lending/1 has taken command"));
    let text = bank.run(&format!("{start} --wait 30")).ok();
    assert!(
        text.starts_with("lending/1 has completed\ntoken "),
        "{text}"
    );
}

#[test]
fn send_says_what_was_recorded_and_gives_a_token() {
    let bank = Bank::open("operate-send");
    let text = bank
        .run_with(
            "send account/a --type Deposit --id till-4 --data",
            &[r#"{ "amount": 5 }"#],
        )
        .ok();
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with("account/a is at version 0 after command "),
        "{text}"
    );
    assert_eq!(lines[1], "  0  Deposited  {\"amount\":5}");
    assert!(lines[2].starts_with("token "), "{text}");
    // The same id again gives the first outcome.
    let again = bank
        .run("send account/a --type Deposit --id till-4 --data {\"amount\":5}")
        .ok();
    assert!(again.contains("(it was done before)"), "{again}");
    let sent = bank.json("send account/a --type Withdraw --data {\"amount\":2} --expect 0");
    assert_eq!(sent["version"], 1);
    assert!(sent["token"].is_string());
}

#[test]
fn a_token_makes_a_view_answer_with_what_was_written() {
    let bank = Bank::open("operate-token");
    let sent = bank.json("send account/a --type Deposit --data {\"amount\":5}");
    let token = sent["token"].as_str().unwrap();
    let get = "view get balances of account=account/a";
    assert_eq!(bank.run(&format!("{get} --token {token}")).ok(), "5\n");
    let answer = bank.json(&format!("{get} --token {token}"));
    assert_eq!(answer["value"], 5);
    assert!(answer["token"].is_string());
    let by_json = bank.run_with("view get balances above --data", &[r#"{"least": 5}"#]);
    assert_eq!(by_json.ok(), "1\n");
}

#[test]
fn refusals_have_the_exit_codes_that_are_written_down() {
    let bank = Bank::open("operate-exits");
    let stderr = bank
        .run("send account/a --type Withdraw --data {\"amount\":5}")
        .fails(4);
    assert!(
        stderr.starts_with("error[rejected]: only 0 left (out-of-funds)\n"),
        "{stderr}"
    );
    assert!(stderr.contains("safe: nothing was changed"), "{stderr}");
    bank.run("send account/a --type Close --expect 7").fails(4);
    bank.run("send account/a --type Rob").fails(1);
    bank.run("send account/a --type Close --data {").fails(1);
    bank.run("send nobody/a --type Close").fails(3);
    bank.run("send account --type Close").fails(2);
    bank.run("entity show account/z").fails(3);
    bank.run("view get balances below").fails(3);
    bank.run("view skip balances").fails(4);
    bank.run("process show archiver/z").fails(3);
    bank.run("dead-letter show 1").fails(3);
    bank.run("view get balances above least=1 --server http://127.0.0.1:1")
        .fails(5);
    bank.run("view ls --server nowhere").fails(2);
    // A refusal is JSON where everything is.
    let stderr = bank.run("entity show account/z --output json").fails(3);
    let error: Value = serde_json::from_str(&stderr).unwrap();
    assert_eq!(error["error"]["code"], "not-found");
}

#[test]
fn entity_show_gives_state_and_history_now_and_as_it_was() {
    let bank = Bank::open("operate-entity");
    for amount in [5, 6, 7] {
        bank.deposit("a", amount);
    }
    let text = bank.run("entity show account/a").ok();
    assert!(
        text.starts_with("entity   account/a\nversion  2\nstatus   live\n\nstate\n  {\"balance\":18}\n\nhistory\nVERSION  RECORDED"),
        "{text}"
    );
    assert!(text.ends_with("Deposited  {\"amount\":7}\n"), "{text}");
    let then = bank.json("entity show account/a --at 1");
    assert_eq!(then["entity"]["state"], json!({"balance": 11}));
    assert_eq!(then["events"].as_array().unwrap().len(), 2);
    let newest = bank.json("entity show account/a --limit 1");
    assert_eq!(newest["events"][0]["data"], json!({"amount": 7}));
}

#[test]
fn without_a_program_entity_show_reads_the_log_and_others_say_what_to_start() {
    let mut bank = Bank::open("operate-nobody");
    for amount in [5, 6] {
        bank.deposit("a", amount);
    }
    bank.end();
    let shown = bank.run("entity show account/a");
    assert!(
        shown.stderr.contains("the state needs the running program"),
        "{}",
        shown.stderr
    );
    let text = shown.ok();
    assert!(text.contains("Deposited  {\"amount\":6}"), "{text}");
    let shown = bank.json("entity show account/a --at 0");
    assert_eq!(shown["entity"], Value::Null);
    assert_eq!(shown["events"].as_array().unwrap().len(), 1);
    bank.run("entity show account/z").fails(3);
    bank.run("entity show account/a --at 9").fails(3);
    let stderr = bank.run("view ls").fails(5);
    assert!(
        stderr.starts_with("error[nothing-runs]: nothing is running at ./.anabranch/log\n"),
        "{stderr}"
    );
    assert!(
        stderr.contains("start the program that has the services"),
        "{stderr}"
    );
    // Nobody is told to run the shop on a log of their own.
    assert!(!stderr.contains("demo"), "{stderr}");
    // One that was killed leaves its file.
    let left = json!({"url": "http://127.0.0.1:1", "pid": 1}).to_string();
    bank.scratch.file(".anabranch/log/server.json", left);
    let stderr = bank.run("send account/a --type Close").fails(5);
    assert!(stderr.contains("process 1 served it"), "{stderr}");
    assert!(bank.run("entity show account/a").ok().contains("Deposited"));
}

#[test]
fn the_program_is_named_by_a_flag_or_by_the_environment() {
    let bank = Bank::open("operate-server");
    // The demo's own place is pointed out.
    let left = json!({"url": "http://127.0.0.1:1", "pid": 1}).to_string();
    std::fs::create_dir_all(bank.scratch.path(".anabranch/demo/log")).unwrap();
    bank.scratch.file(".anabranch/demo/log/server.json", left);
    let stderr = bank.run("view ls --log ./elsewhere").fails(5);
    assert!(
        stderr.contains("do: a demo is running: add --log ./.anabranch/demo/log"),
        "{stderr}"
    );
    let elsewhere = format!("view ls --log ./elsewhere --server {}", bank.url);
    assert!(bank.run(&elsewhere).ok().contains("balances"));
    let mut command = bank.scratch.command("view ls --log ./elsewhere");
    command.env("ANABRANCH_SERVER", &bank.url);
    assert!(done(command).ok().contains("balances"));
    bank.run("view ls --log ./elsewhere").fails(5);
    bank.run("view ls --log memory:").fails(2);
}

#[test]
fn a_command_for_one_log_does_not_reach_the_services_of_another() {
    let bank = Bank::open("operate-other-log");
    // A killed program of another log has left its address, and this bank has its port now.
    let left = json!({"url": bank.url, "pid": 1, "log": "0123456789abcdef"}).to_string();
    std::fs::create_dir_all(bank.scratch.path("other")).unwrap();
    bank.scratch.file("other/server.json", left);
    let stderr = bank
        .run("send account/a --type Close --log ./other")
        .fails(5);
    assert!(stderr.contains("another log answers now"), "{stderr}");
    assert!(stderr.contains("safe: nothing was changed"), "{stderr}");
    bank.run("entity show account/a").fails(3);
}

#[test]
fn the_demo_of_a_directory_is_meant_when_nobody_names_a_log() {
    let bank = Bank::open("operate-demo");
    bank.deposit("a", 5);
    let at_demo = json!({"url": bank.url, "pid": 1}).to_string();
    std::fs::remove_file(bank.scratch.path(".anabranch/log/server.json")).unwrap();
    std::fs::create_dir_all(bank.scratch.path(".anabranch/demo/log")).unwrap();
    bank.scratch
        .file(".anabranch/demo/log/server.json", at_demo);
    assert!(bank.run("view ls").ok().contains("balances"));
    bank.run("view ls --log ./.anabranch/log").fails(5);
}

#[test]
fn the_types_of_a_running_program_fit_its_log() {
    let bank = Bank::open("operate-types");
    bank.deposit("a", 5);
    bank.scratch
        .file("types.json", bank.run("schema types").ok());
    // What the server keeps beside the log is no surprise to those who look after it.
    let verified = bank.run("log verify").ok();
    assert!(!verified.contains("server.json"), "{verified}");
    assert!(!verified.contains("token.key"), "{verified}");
    let text = bank.run("schema check --types types.json").ok();
    assert_eq!(
        text,
        "the program fits the log: 1 kind of 1 event in the log\n"
    );
}

#[test]
fn a_view_that_has_stopped_is_listed_with_what_to_do() {
    let bank = Bank::open("operate-view");
    bank.deposit("a", 666);
    bank.deposit("a", 5);
    bank.until("view ls", |all| {
        all[0]["view"]["serving"]["state"] == "stopped"
    });
    let text = bank.run("view ls").ok();
    assert!(
        text.contains("has stopped before Deposited at 0:3, event 0 of account/a"),
        "{text}"
    );
    assert!(text.contains("the beast"), "{text}");
    assert!(text.contains("`anabranch view skip balances`"), "{text}");
    let skipped = bank.run("view skip balances").ok();
    assert_eq!(skipped, "balances passes over the event and goes on\n");
    let get = "view get balances of account=account/a --policy stale";
    bank.until(get, |answer| answer["value"] == 5);
}

#[test]
fn a_view_is_rebuilt_beside_and_the_swap_is_taken_back() {
    let bank = Bank::open("operate-rebuild");
    bank.deposit("a", 5);
    let get = "view get balances of account=account/a --policy stale";
    bank.until(get, |answer| answer["value"] == 5);
    let begun = bank.run("view rebuild balances").ok();
    assert!(
        begun.starts_with("balances is being built again"),
        "{begun}"
    );
    bank.until("view ls", |all| {
        all[0]["view"]["serving"]["id"]["generation"] == 2
    });
    bank.run("view back-out balances").ok();
    bank.until("view ls", |all| {
        all[0]["view"]["serving"]["id"]["generation"] == 1
    });
}

#[test]
fn a_parked_entity_is_listed_and_takes_commands_again() {
    let bank = Bank::open("operate-parked");
    assert_eq!(bank.run("entity parked").ok(), "no entity is parked\n");
    bank.run("send account/a --type Deposit --data {\"amount\":13}")
        .fails(1);
    bank.run("send account/a --type Close").fails(5);
    let text = bank.run("entity parked").ok();
    assert!(text.contains("account/a  bank"), "{text}");
    assert!(text.contains("thirteen"), "{text}");
    bank.run("entity unpark account/a").ok();
    bank.run("send account/a --type Close").ok();
}

#[test]
fn dead_letters_are_listed_edited_retried_and_given_up() {
    let bank = Bank::open("operate-letters");
    assert_eq!(
        bank.run("dead-letter ls").ok(),
        "everything was delivered\n"
    );
    bank.run("send account/a --type Close").ok();
    bank.run("send account/b --type Close").ok();
    let two = |all: &Value| all.as_array().unwrap().len() == 2;
    let letters = bank.until("dead-letter ls", two);
    let id = |at: usize| letters[at]["letter"]["id"].as_str().unwrap().to_owned();
    let text = bank.run("dead-letter ls").ok();
    assert!(text.contains("DepositAll  account/archive"), "{text}");
    // One value a line.
    let lines = bank.run("dead-letter ls --output jsonl").ok();
    for line in lines.lines() {
        let letter: Value = serde_json::from_str(line).unwrap();
        assert_eq!(letter["service"], "bank");
    }
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let shown = bank.run(&format!("dead-letter show {}", id(0))).ok();
    assert!(shown.contains("of service bank"), "{shown}");
    // What would be tried is listed, and nothing is tried.
    let would = bank.run("dead-letter retry --from archiver --dry-run").ok();
    assert_eq!(would.matches("would be tried again").count(), 2, "{would}");
    assert_eq!(
        bank.run("dead-letter retry --reason nonsense").ok(),
        "no dead letter fits\n"
    );
    // Which ones has to be said.
    bank.run("dead-letter retry").fails(2);
    let again = bank.run("dead-letter retry --all");
    assert_eq!(again.code, Some(1), "{again:?}");
    let text = String::from_utf8(again.stdout).unwrap();
    assert_eq!(text.matches("failed again:").count(), 2, "{text}");
    let process = bank.json("process ls archiver");
    assert_eq!(process["need_a_person"], 2);
    let text = bank
        .run_with(
            &format!("dead-letter retry {} --data", id(0)),
            &[r#"{"amounts": [1, 2]}"#],
        )
        .ok();
    assert_eq!(text, format!("{} was delivered\n", id(0)));
    bank.run_with(
        &format!("dead-letter discard {} --why", id(1)),
        &["not wanted"],
    )
    .ok();
    bank.until("dead-letter ls", |all| *all == json!([]));
    let archive = bank.json("entity show account/archive");
    assert_eq!(archive["entity"]["state"], json!({"balance": 3}));
}

/// The row of a process without its name and without how far it is behind.
fn without_lag(table: &str, name: &str) -> Vec<String> {
    let row = table.lines().find(|line| line.starts_with(name)).unwrap();
    let cells = row
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty());
    let mut cells: Vec<_> = cells.skip(1).map(str::to_owned).collect();
    cells.remove(2);
    cells
}

#[test]
fn processes_and_sagas_are_listed_shown_and_aborted() {
    let bank = Bank::open("operate-process");
    bank.run("send account/a --type Close").ok();
    let sent = bank
        .run("send transfer/1 --type StartSaga --data {\"input\":5}")
        .ok();
    assert!(sent.starts_with("transfer/1 has taken command "), "{sent}");
    bank.until("process ls archiver", |one| one["open"] == 1);
    bank.until("process ls transfer", |one| one["retrying"] == 1);
    let text = bank.run("process ls").ok();
    assert_eq!(
        without_lag(&text, "transfer"),
        ["bank", "1", "1", "0", "running"]
    );
    assert!(text.contains("BEHIND"), "{text}");
    let text = bank.run("process ls transfer").ok();
    assert!(text.contains("transfer/1  running"), "{text}");
    assert!(text.contains("retrying by itself"), "{text}");
    let text = bank.run("process show transfer/1").ok();
    assert!(
        text.contains("take   started  Withdraw to nowhere/x; attempt "),
        "{text}"
    );
    assert!(text.contains("take is retrying by itself: "), "{text}");
    assert!(text.contains("wait: it goes on by itself"), "{text}");
    bank.run("process abort transfer/1").fails(2);
    bank.run_with("process abort transfer/1 --why", &["by mistake"])
        .ok();
    let back = |saga: &Value| saga["state"]["aborted"] == "by mistake";
    bank.until("process show transfer/1", back);
    bank.run("process retry archiver/a").fails(4);
    bank.run("process retry archiver").fails(4);
    bank.run("process skip archiver").fails(4);
}

#[test]
fn a_saga_that_needs_a_person_says_what_to_do_and_is_settled() {
    let bank = Bank::open("operate-settle");
    bank.run("send upkeep/1 --type StartSaga --data {\"input\":5}")
        .ok();
    bank.until("process ls upkeep", |one| one["need_a_person"] == 1);
    let text = bank.run("process ls").ok();
    assert_eq!(
        without_lag(&text, "upkeep"),
        ["bank", "1", "0", "1", "running"]
    );
    let text = bank.run("process show upkeep/1").ok();
    assert!(text.contains("waits for a person"), "{text}");
    assert!(text.contains("fee needs a person: "), "{text}");
    assert!(
        text.contains("`anabranch process settle upkeep/1 fee"),
        "{text}"
    );
    let settle = "process settle upkeep/1 fee";
    bank.run(settle).fails(2);
    bank.run(&format!("{settle} --done")).fails(2);
    bank.run(&format!("{settle} --done --undone --why x"))
        .fails(2);
    let stderr = bank.run(&format!("{settle} --done {{ --why x")).fails(2);
    assert!(stderr.contains("nothing was changed"), "{stderr}");
    bank.run(&format!("{settle} --refused --why x --who ada"))
        .fails(4);
    bank.run("process settle upkeep/1 fie --done --why x --who ada")
        .fails(4);
    let done = bank
        .run_with(
            &format!("{settle} --done --who ada --why"),
            &["paid in cash"],
        )
        .ok();
    assert_eq!(done, "upkeep/1 goes on: step fee is settled\n");
    bank.until("process show upkeep/1", |saga| saga["phase"] == "completed");
    // It is no longer among those that are open; those that have ended are listed when asked.
    let ended = bank.json("process ls upkeep --ended");
    let ended = &ended["instances"][0];
    assert_eq!(
        (&ended["stream"], &ended["phase"]),
        (&"upkeep/1".into(), &"completed".into())
    );
    let text = bank.run("process ls upkeep --ended").ok();
    assert!(text.contains("upkeep/1"), "{text}");
    bank.run("process ls --ended").fails(2);
    // Who said so, and why, is kept.
    let journal = bank.run("read --stream upkeep/1").ok();
    assert!(journal.contains("ada"), "{journal}");
    assert!(journal.contains("paid in cash"), "{journal}");
}

#[test]
fn a_step_that_has_asked_for_its_fallback_says_so_and_why() {
    let bank = Bank::open("operate-fallback");
    bank.run("send lending/1 --type StartSaga --data {\"input\":5}")
        .ok();
    bank.until("process show lending/1", |saga| {
        saga["phase"] == "completed"
    });
    let text = bank.run("process show lending/1").ok();
    let said = "take has asked for its fallback: only 0 left (out-of-funds)";
    assert!(text.contains(said), "{text}");
    let story = bank.run("story lending/1").ok();
    for line in [
        "take ─▶ Withdraw to account/till",
        "take is refused: only 0 left (out-of-funds)",
        "take, its fallback ─▶ Deposit to account/debts",
        "account/debts",
    ] {
        assert!(story.contains(line), "{line}: {story}");
    }
}

#[test]
fn a_story_says_which_entries_of_journals_it_cannot_read() {
    let mut bank = Bank::open("operate-story");
    bank.run("send lending/1 --type StartSaga --data {\"input\":5}")
        .ok();
    bank.until("process show lending/1", |saga| {
        saga["phase"] == "completed"
    });
    bank.end();
    let told = bank.run("story lending/1");
    assert!(!told.stderr.contains("cannot be read"), "{}", told.stderr);
    // As a newer program may write them.
    bank.run("append lending/1 --type StepOk --data {\"stride\":1}")
        .ok();
    let told = bank.run("story lending/1");
    let note = "1 of it cannot be read by this program: what followed from that may be missing";
    assert!(told.stderr.contains(note), "{}", told.stderr);
    let text = told.ok();
    assert!(
        text.contains("StepOk cannot be read here: StepOk v1: missing field `step`"),
        "{text}"
    );
    let begun = r#"{"definition":1,"steps":[]}"#;
    bank.run(&format!(
        "append lending/2 --type SagaStarted --data {begun}"
    ))
    .ok();
    let text = bank.run("story lending/2").ok();
    assert!(text.contains("SagaStarted cannot be read here"), "{text}");
    // An event of somebody else that has such a name is shown as any other.
    bank.run("append parcel/1 --type Received --data {\"units\":5}")
        .ok();
    let text = bank.run("story parcel/1").ok();
    assert!(text.contains("Received  {\"units\":5}"), "{text}");
}

#[test]
fn a_decision_is_kept_with_who_made_it_and_that_is_the_user_if_nobody_is_named() {
    let bank = Bank::open("operate-who");
    bank.run("send upkeep/1 --type StartSaga --data {\"input\":5}")
        .ok();
    bank.until("process ls upkeep", |one| one["need_a_person"] == 1);
    let settle = || {
        bank.scratch
            .command("process settle upkeep/1 fee --done --why x")
    };
    let mut nobody = settle();
    nobody.env_remove("USER").env_remove("LOGNAME");
    let stderr = done(nobody).fails(2);
    assert!(stderr.contains("say it with --who"), "{stderr}");
    let mut grace = settle();
    grace.env("USER", "grace");
    done(grace).ok();
    let journal = bank.run("read --stream upkeep/1").ok();
    assert!(journal.contains("grace"), "{journal}");
}

#[test]
fn the_services_of_a_program_their_diagnostics_and_circuits_are_shown() {
    let bank = Bank::open("operate-service");
    let text = bank.run("service ls").ok();
    assert!(
        text.contains(
            "bank     account   balances  archiver, lending, transfer, upkeep  0          0"
        ),
        "{text}"
    );
    assert_eq!(
        bank.run("service diagnostics").ok(),
        "nothing went wrong since the program was started\n"
    );
    bank.run("send account/a --type Deposit --data {\"amount\":13}")
        .fails(1);
    bank.until("service diagnostics bank", |notes| notes != &json!([]));
    let text = bank.run("service diagnostics bank").ok();
    assert!(text.contains("Z  bank: account/a"), "{text}");
    bank.run("service diagnostics nobody").fails(3);
    assert_eq!(
        bank.run("service circuits").ok(),
        "no service calls a third party\n"
    );
}

#[test]
fn a_command_to_a_parked_entity_says_how_it_is_let_go_on() {
    let bank = Bank::open("operate-parked-remedy");
    bank.run("send account/a --type Deposit --data {\"amount\":13}")
        .fails(1);
    let stderr = bank.run("send account/a --type Close").fails(5);
    assert!(
        stderr.contains("do: see `anabranch entity parked`"),
        "{stderr}"
    );
}
