//! The conformance suite of logs on a log in PostgreSQL.

mod support;

use std::sync::Arc;

use anabranch_log::conformance::{Need, Subject, cases, check_lacking, run};
use anabranch_log::{Layout, Log};
use anabranch_log_postgres::{Options, PostgresLog};

use support::Server;

struct Place {
    address: String,
    layout: Layout,
}

impl Place {
    fn open(&self, read_only: bool) -> Arc<dyn Log> {
        let mut options = Options::default();
        options.layout = Some(self.layout.clone());
        options.read_only = read_only;
        let log = PostgresLog::open(&self.address, options);
        Arc::new(log.expect("the log opens"))
    }
}

impl Subject for Place {
    fn open(&self) -> Arc<dyn Log> {
        Place::open(self, false)
    }

    fn open_read_only(&self) -> Option<Arc<dyn Log>> {
        Some(Place::open(self, true))
    }

    fn reads_may_begin_late(&self) -> bool {
        true
    }
}

/// Every case in a log of its own. `ANABRANCH_CASE` names one, or the group of some.
fn check(layout: &Layout, lacking: &[Need]) {
    let Some(server) = Server::start("the conformance of logs in PostgreSQL") else {
        return;
    };
    let place = || Place {
        address: server.log(),
        layout: layout.clone(),
    };
    check_lacking(lacking, &place());
    if let Ok(wanted) = std::env::var("ANABRANCH_CASE") {
        for case in cases() {
            if format!("{case:?}").contains(&wanted) {
                case.run(&place());
            }
        }
        return;
    }
    let report = run(place);
    assert!(report.passed(), "{report}");
}

#[test]
fn a_log_of_one_partition_does_what_every_log_must() {
    check(&Layout::one(), &[]);
}

#[test]
fn a_log_of_several_partitions_does_what_every_log_must() {
    let layout = Layout::new(Vec::new(), 8).unwrap();
    check(&layout, &[Need::TotalOrder]);
}
