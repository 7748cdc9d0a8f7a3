//! The same promises on a log of eight partitions: this program runs its tests again on one.

use std::process::Command;

use crate::support::PARTITIONS;

/// What is about a log of one partition: its one order, or that it takes any streams at once.
const OF_ONE_PARTITION: [&str; 8] = [
    "on_one_partition_nothing_says_what_it_depends_on",
    "what_several_entities_record_at_once_is_one_append",
    "all_of_them_take_effect_in_one_append",
    // An id is unique in its partition.
    "an_id_of_another_entitys_command_is_refused",
    "a_command_whose_published_event_has_an_id_that_is_taken_is_refused_at_once",
    // These read positions, or the whole of what an event depends on where it is stored.
    "a_command_is_answered_with_what_it_recorded_and_a_token",
    "what_a_saga_asks_depends_on_what_its_earlier_steps_have_done",
    "entities_processes_and_sagas_keep_their_promises_on_eight_partitions",
];

#[test]
fn entities_processes_and_sagas_keep_their_promises_on_eight_partitions() {
    let program = std::env::current_exe().unwrap();
    let mut again = Command::new(program);
    again.env(PARTITIONS, "8");
    again.args([
        "entities::",
        "processes::",
        "one_host::",
        "faults::",
        "causes::",
        "together::",
        "told::",
        "versions::",
    ]);
    for name in OF_ONE_PARTITION {
        again.args(["--skip", name]);
    }
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let passed = said.lines().filter(|line| line.ends_with("... ok"));
    assert!(passed.count() > 60, "{said}");
}
