use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Subject;
use super::need::Need;
use super::outcome::Outcome;
use super::stage::Stage;

/// One thing that every engine must do.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it is about.
    pub group: &'static str,
    /// What it says, as a name; unique in its group.
    pub name: &'static str,
    /// What an engine must offer for it to apply.
    pub needs: &'static [Need],
    run: fn(&mut Stage<'_>),
}

impl Case {
    /// What it says, as a sentence without its full stop.
    pub fn title(&self) -> String {
        self.name.replace('_', " ")
    }

    /// Runs it on a fresh subject. Panics when the engine breaks it.
    ///
    /// The seed of its random choices is printed, and can be given in the environment
    /// variable `ANABRANCH_SEED`.
    pub fn run(&self, subject: &dyn Subject) -> Outcome {
        let seed = self.seed();
        println!("{}::{}: ANABRANCH_SEED={seed}", self.group, self.name);
        let mut stage = Stage::new(subject, seed);
        let lacking = self.needs.iter().find(|need| !need.is_met(&stage));
        if let Some(&need) = lacking {
            need.check_refusal(&stage);
            println!("not offered, and refused where it can be asked for: {need}");
            return Outcome::Lacking(need);
        }
        (self.run)(&mut stage);
        stage.audit();
        Outcome::Kept
    }

    fn seed(&self) -> u64 {
        let given = std::env::var("ANABRANCH_SEED");
        let given = given.ok().and_then(|text| text.parse().ok());
        given.unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            (self.group, self.name).hash(&mut hasher);
            hasher.finish()
        })
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.group, self.name)
    }
}

/// Every case, in the order of the list below.
pub fn cases() -> &'static [Case] {
    CASES
}

/// Every case as a list in Markdown, for docs: by group, each with what it needs.
pub fn cases_as_markdown() -> String {
    let mut text = String::new();
    let mut group = "";
    for case in CASES {
        if case.group != group {
            group = case.group;
            text += &format!("\n### {}\n\n", group.replace('_', " "));
        }
        text += &format!("- {}", case.title());
        let needs: Vec<_> = case.needs.iter().map(|need| need.text()).collect();
        if !needs.is_empty() {
            text += &format!(" *(needs {})*", needs.join(", "));
        }
        text += "\n";
    }
    text
}

/// Runs the case of this name on a fresh subject; what each test of
/// [`conformance_tests!`](crate::conformance_tests) calls. Panics when the engine breaks it.
pub fn check(group: &str, name: &str, subject: &dyn Subject) -> Outcome {
    let case = CASES
        .iter()
        .find(|case| (case.group, case.name) == (group, name));
    match case {
        Some(case) => case.run(subject),
        None => panic!("there is no case {group}::{name}"),
    }
}

/// Checks that the engine lacks just these of the things that cases need, so that a case
/// does not pass because the engine forgot to say what it can.
pub fn check_lacking(lacking: &[Need], subject: &dyn Subject) {
    let stage = Stage::new(subject, 0);
    let found: Vec<_> = Need::ALL
        .into_iter()
        .filter(|need| !need.is_met(&stage))
        .collect();
    let mut lacking = lacking.to_vec();
    lacking.sort_unstable();
    assert_eq!(
        found, lacking,
        "what the engine lacks (left), and what its tests say that it lacks (right)"
    );
}

/// Makes one `#[test]` of each conformance case.
///
/// The argument is the name of a function that makes a fresh
/// [`Subject`](crate::conformance::Subject); after `lacking` stands what the engine does not
/// offer, by the names of [`Need`](crate::conformance::Need). The tests stand in one module
/// for each group, so a file of its own under `tests/` is a good place.
#[macro_export]
macro_rules! conformance_tests {
    ($subject:ident) => {
        $crate::conformance_tests!($subject, lacking: []);
    };
    ($subject:ident, lacking: [$($need:ident),* $(,)?]) => {
        #[test]
        fn the_engine_offers_what_it_says() {
            let lacking = [$($crate::conformance::Need::$need),*];
            $crate::conformance::check_lacking(&lacking, &$subject());
        }
        $crate::__conformance_cases! { __conformance_tests $subject }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($subject:ident $($group:ident { $($name:ident $([$($need:ident),*])?;)* })*) => {
        $(mod $group {
            $(#[test]
            fn $name() {
                let subject = super::$subject();
                $crate::conformance::check(stringify!($group), stringify!($name), &subject);
            })*
        })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_list {
    ($($group:ident { $($name:ident $([$($need:ident),*])?;)* })*) => {
        const CASES: &[Case] = &[$($(Case {
            group: stringify!($group),
            name: stringify!($name),
            needs: &[$($(Need::$need),*)?],
            run: super::cases::$group::$name,
        },)*)*];
    };
}

crate::__conformance_cases! { __conformance_list }

/// The list of all cases, each with what it needs in brackets, given to the macro named
/// first.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($callback:ident $($argument:ident)?) => {
        $crate::$callback! {
            $($argument)?
            appending {
                capabilities_are_consistent_and_constant;
                a_new_log_is_empty;
                an_append_without_conditions_succeeds;
                the_first_event_of_a_stream_has_version_zero;
                versions_of_a_stream_count_up_by_one;
                versions_of_streams_are_independent;
                positions_count_up_without_gaps;
                positions_of_a_batch_follow_each_other;
                a_batch_keeps_its_order;
                a_batch_over_several_streams_is_written_whole [AtomicBatches];
                a_batch_over_many_streams_is_written_whole [AtomicBatches];
                a_batch_of_many_events_is_written_whole;
                of_appends_handed_over_together_each_is_taken_or_refused_as_alone;
                a_refused_batch_writes_nothing;
                a_refused_batch_over_several_streams_writes_nothing [AtomicBatches];
                an_acknowledged_event_is_visible_to_every_read;
                the_head_counts_every_acknowledged_event;
                the_cut_of_an_append_includes_just_its_past;
                the_recorded_time_stays_the_same;
                appends_of_many_threads_are_all_written_once;
                appends_of_one_thread_keep_their_order;
                a_batch_is_seen_whole_or_not_at_all;
                a_batch_over_several_streams_is_seen_whole_or_not_at_all [AtomicBatches];
            }
            conditions {
                any_holds_on_an_empty_stream;
                any_holds_on_an_existing_stream;
                empty_holds_on_an_empty_stream;
                empty_fails_on_an_existing_stream;
                exists_holds_on_an_existing_stream;
                exists_fails_on_an_empty_stream;
                at_holds_at_the_last_version;
                at_zero_holds_on_a_stream_of_one_event;
                at_fails_below_the_last_version;
                at_fails_beyond_the_last_version;
                at_zero_fails_on_an_empty_stream;
                at_the_largest_version_fails;
                a_stream_can_be_written_after_a_conflict;
                the_batch_does_not_count_for_its_own_conditions;
                several_conditions_on_one_stream_must_all_hold;
                a_condition_sees_only_its_own_stream;
                a_condition_sees_what_was_written_just_before;
                a_condition_on_a_stream_not_written_is_checked [MultiStreamConditions];
                a_condition_on_a_missing_stream_not_written_is_checked [MultiStreamConditions];
                conditions_on_several_streams_must_all_hold [MultiStreamConditions];
                each_stream_of_a_batch_may_have_its_condition [AtomicBatches];
                a_conflict_is_told_to_a_person;
            }
            repeating {
                an_event_is_found_by_its_id;
                an_event_that_was_not_written_is_not_found;
                an_event_is_found_after_a_restart [SurvivesRestart];
                a_repeat_answers_the_original_places;
                a_repeat_answers_the_same_after_the_stream_moved_on;
                a_repeat_does_not_check_its_stream_conditions_again;
                a_repeat_does_not_check_its_queries_again [NoMatchConditions];
                a_repeat_over_several_streams_answers_the_original_places [AtomicBatches];
                a_repeat_in_another_order_answers_in_that_order;
                a_repeat_of_a_part_answers_the_places_of_that_part;
                a_repeat_of_two_appends_in_one_answers_their_places;
                every_event_of_a_large_batch_can_be_repeated;
                a_repeat_with_other_metadata_keeps_the_first;
                a_batch_that_was_partly_written_is_refused;
                an_id_taken_by_another_stream_is_refused;
                an_id_taken_by_another_type_is_refused;
                an_id_taken_by_other_data_is_refused;
                a_taken_id_late_in_a_batch_refuses_all_of_it;
                a_taken_id_is_refused_before_the_conditions_are_checked;
                one_id_twice_in_a_batch_is_refused;
                one_id_twice_in_a_batch_is_refused_although_it_was_written;
                a_refused_append_does_not_use_up_its_ids;
                any_id_is_accepted;
                the_same_append_at_the_same_time_is_written_once;
                the_same_conditional_append_at_the_same_time_succeeds_everywhere;
                overlapping_appends_at_the_same_time_are_never_both_written;
                two_events_with_one_id_at_the_same_time_are_never_both_written;
            }
            limits {
                a_batch_without_events_is_refused;
                data_of_the_largest_size_is_accepted;
                data_one_byte_too_large_is_refused;
                headers_of_the_largest_size_are_accepted;
                headers_one_byte_too_large_are_refused;
                every_text_of_the_metadata_counts;
                every_partition_of_the_causes_counts;
                as_many_tags_as_allowed_are_accepted;
                one_tag_too_many_is_refused;
                one_condition_too_many_is_refused;
                as_many_events_as_allowed_are_accepted;
                one_event_too_many_is_refused;
                a_batch_of_the_largest_size_is_accepted;
                a_batch_one_byte_too_large_is_refused;
                a_tag_with_a_control_character_is_refused;
                a_tag_longer_than_255_bytes_is_refused;
                a_header_name_with_a_control_character_is_refused;
                data_that_is_called_json_and_is_none_is_refused;
                limits_are_checked_before_ids;
                the_log_goes_on_after_a_limit_was_broken;
            }
            names {
                unicode_names_are_kept;
                names_are_not_normalised;
                names_that_look_like_paths_are_names;
                names_with_punctuation_are_kept;
                a_stream_id_of_512_bytes_is_kept;
                an_event_type_of_255_bytes_is_kept;
                any_event_type_is_kept;
                a_stream_of_the_platform_is_a_stream;
                streams_of_equal_keys_in_different_categories_are_separate;
                names_that_share_a_prefix_are_separate;
                ten_thousand_streams_are_separate [AtomicBatches];
                a_conflict_names_its_stream_exactly;
                an_id_is_taken_only_by_just_the_same_names;
            }
            payloads {
                empty_data_is_kept;
                every_byte_is_kept;
                data_of_zeros_is_kept;
                data_around_powers_of_two_is_kept;
                data_of_a_mebibyte_is_kept;
                data_that_is_no_json_and_no_text_is_kept;
                small_and_large_events_in_one_batch_are_kept;
                an_event_without_data_is_kept_without;
                json_is_kept_byte_for_byte;
                no_metadata_reads_as_none;
                the_content_type_is_kept;
                the_source_is_kept;
                the_causation_id_is_kept;
                the_correlation_id_is_kept;
                the_trace_context_is_kept;
                tags_keep_their_order_and_their_repeats;
                headers_keep_any_text;
                causes_are_kept;
                all_metadata_together_is_kept;
                the_schema_version_is_kept;
                metadata_does_not_leak_to_the_next_event;
            }
            reading {
                reading_from_the_start_gives_everything;
                reading_from_the_head_gives_nothing;
                reading_from_each_cut_gives_the_rest;
                a_read_ends_at_the_head_of_its_call;
                a_read_of_an_empty_log_stays_empty;
                a_read_that_has_ended_stays_ended;
                single_events_and_batches_mix;
                a_read_may_be_given_up_midway;
                reads_at_the_same_time_agree;
                a_long_log_is_read_whole;
                a_read_gives_whole_appends [AtomicBatches];
                the_batches_of_a_read_follow_each_other;
                a_read_from_a_cut_has_no_gap_while_others_write;
                reading_from_beyond_the_head_is_refused;
                reading_backward_from_beyond_the_head_is_refused [BackwardReads];
                reading_a_partition_that_does_not_exist_is_refused;
            }
            streams {
                a_missing_stream_reads_as_empty;
                a_stream_reads_forward;
                a_stream_reads_backward;
                a_range_has_its_first_version_and_not_its_last;
                an_open_range_goes_to_the_end;
                a_range_before_a_version_begins_at_the_start;
                an_empty_range_gives_nothing;
                a_range_that_ends_before_it_begins_gives_nothing;
                a_range_beyond_the_end_gives_what_there_is;
                every_range_of_a_short_stream_is_right_in_both_orders;
                a_stream_read_ends_where_the_stream_ended_at_its_call;
                a_stream_read_may_be_given_up_midway;
                a_long_stream_reads_in_both_orders;
                a_stream_has_no_gap_while_it_is_written;
            }
            filtering {
                a_filter_of_nothing_gives_everything;
                one_category;
                several_categories;
                a_category_is_compared_whole;
                one_category_in_a_hundred;
                one_type;
                several_types;
                one_stream;
                several_streams;
                a_header_with_its_value;
                all_of_several_headers;
                an_empty_header_value_is_a_value;
                one_tag;
                all_of_several_tags;
                all_fields_of_a_filter_must_fit;
                a_stream_and_another_category_exclude_each_other;
                a_name_given_twice_gives_an_event_once;
                a_filter_that_fits_nothing_gives_nothing;
                a_filtered_read_from_each_cut_gives_the_rest;
                a_filtered_read_keeps_batches_apart;
                rare_events_in_a_long_log_are_found;
                a_filtered_backward_read_gives_the_newest_first [TotalOrder, BackwardReads];
                a_filtered_follower_gives_what_fits;
            }
            backward {
                backward_from_the_head_gives_everything_newest_first [BackwardReads];
                backward_in_one_order_is_forward_turned_round [TotalOrder, BackwardReads];
                backward_from_each_cut_gives_what_it_includes [BackwardReads];
                backward_from_the_start_gives_nothing [BackwardReads];
                backward_in_an_empty_log_gives_nothing [BackwardReads];
                backward_gives_nothing_that_came_later [BackwardReads];
                a_backward_read_in_batches_keeps_its_order [BackwardReads];
                a_long_log_is_read_backward [BackwardReads];
                the_newest_event_is_found_without_the_rest [BackwardReads];
            }
            following {
                a_follower_from_the_start_gives_history_then_what_is_written;
                a_follower_from_the_middle_gives_the_rest_then_what_is_written;
                a_follower_from_the_head_gives_what_is_written;
                a_follower_of_an_empty_log_gives_its_first_event;
                a_follower_waits_at_the_head;
                a_waiting_follower_is_woken;
                a_follower_wakes_whoever_polled_it_last;
                every_waiting_follower_is_woken;
                a_refused_append_shows_nothing_to_followers;
                a_repeat_shows_nothing_to_followers;
                a_filtered_follower_passes_over_the_rest;
                a_filtered_follower_sleeps_through_the_rest;
                a_follower_gives_batches_and_single_events;
                a_follower_may_move_between_threads;
                followers_miss_nothing_while_many_write;
                a_follower_never_runs_ahead_of_the_head;
                a_stalled_follower_does_not_hold_up_the_writers;
                a_follower_that_never_polls_does_not_hold_up_the_writers;
                a_slow_follower_does_not_hold_up_a_fast_one;
                a_dropped_follower_leaves_nothing_behind;
                a_dropped_follower_does_not_disturb_the_others;
                a_follower_ends_when_its_log_is_closed;
                two_followers_with_different_filters_each_get_their_own;
            }
            boundary {
                an_append_is_accepted_when_nothing_matches [NoMatchConditions];
                an_append_is_refused_when_an_event_matches [NoMatchConditions];
                a_match_names_an_event_that_matches [NoMatchConditions];
                a_match_that_the_cut_includes_does_not_count [NoMatchConditions];
                a_match_just_after_the_cut_counts [NoMatchConditions];
                the_cut_may_lie_beyond_the_last_match [NoMatchConditions];
                a_cut_beyond_the_head_is_refused [NoMatchConditions];
                the_batch_does_not_match_its_own_query [NoMatchConditions];
                an_item_needs_all_of_its_tags [NoMatchConditions];
                an_item_needs_one_of_its_types [NoMatchConditions];
                an_item_needs_type_and_tags [NoMatchConditions];
                one_item_of_several_is_enough [NoMatchConditions];
                a_query_without_items_matches_nothing [NoMatchConditions];
                an_item_that_asks_for_nothing_matches_everything [NoMatchConditions];
                tags_are_compared_whole [NoMatchConditions];
                a_query_looks_at_every_stream [NoMatchConditions];
                several_queries_must_all_find_nothing [NoMatchConditions];
                each_query_has_its_own_cut [NoMatchConditions];
                queries_and_expectations_must_both_hold [NoMatchConditions];
                a_match_deep_in_a_long_log_is_found [NoMatchConditions];
                every_event_of_a_batch_can_match [NoMatchConditions];
                a_user_name_is_taken_once_by_many_at_once [NoMatchConditions];
                a_course_is_never_overbooked [NoMatchConditions];
                disjoint_tags_never_get_in_each_others_way [NoMatchConditions];
            }
            racing {
                one_writer_wins_each_version_and_the_others_learn_the_actual_one;
                a_stream_is_created_once;
                writers_that_retry_with_the_actual_version_all_get_through;
                writers_of_different_streams_never_conflict;
                writers_of_overlapping_streams_never_deadlock [AtomicBatches];
                conditions_on_each_others_streams_exclude_write_skew [MultiStreamConditions];
                a_transfer_over_two_streams_is_all_or_nothing_under_contention [AtomicBatches];
            }
            cancelling {
                an_append_dropped_before_its_first_poll_is_done_or_not_done;
                an_append_dropped_after_its_first_poll_is_done_or_not_done;
                a_dropped_append_does_not_block_the_next;
                appends_dropped_under_load_are_whole_or_absent;
                a_read_dropped_while_it_waits_loses_no_event;
                a_head_dropped_before_it_answers_harms_nothing;
            }
            restarting {
                events_outlive_a_restart [SurvivesRestart];
                an_empty_log_outlives_a_restart [SurvivesRestart];
                the_head_is_the_same_after_a_restart [SurvivesRestart];
                places_go_on_after_a_restart [SurvivesRestart];
                many_restarts_lose_nothing [SurvivesRestart];
                a_restart_without_a_write_changes_nothing [SurvivesRestart];
                the_recorded_time_outlives_a_restart [SurvivesRestart];
                a_repeat_after_a_restart_answers_the_original_places [SurvivesRestart];
                a_conditional_append_can_be_repeated_after_a_restart [SurvivesRestart];
                ids_are_still_taken_after_a_restart [SurvivesRestart];
                a_partly_written_batch_is_refused_after_a_restart [SurvivesRestart];
                stream_conditions_hold_after_a_restart [SurvivesRestart];
                queries_match_after_a_restart [NoMatchConditions, SurvivesRestart];
                filters_work_after_a_restart [SurvivesRestart];
                a_cut_of_before_a_restart_can_be_followed_after_it [SurvivesRestart];
                large_batches_outlive_a_restart [SurvivesRestart];
                an_append_cut_short_by_a_restart_is_whole_or_absent [SurvivesRestart];
            }
            read_only {
                a_reader_sees_what_was_written_before [ReadOnly];
                a_reader_sees_what_is_written_later [ReadOnly];
                a_reader_follows_the_writer [ReadOnly];
                a_reader_refuses_to_write [ReadOnly];
                a_reader_does_not_disturb_the_writer [ReadOnly];
                a_reader_beside_busy_writers_sees_no_gap [ReadOnly];
                two_readers_agree [ReadOnly];
            }
            partitions {
                a_closure_includes_the_events_and_what_they_depend_on;
                a_closure_includes_what_the_partition_depended_on_before;
                a_repeat_answers_a_closure_too;
                of_appends_handed_over_together_each_has_its_closure;
                what_a_partition_depended_on_is_known_after_a_restart [SurvivesRestart];
                a_cause_that_is_not_in_the_log_is_refused;
                the_events_of_an_append_share_their_causes;
                the_stored_causes_before_an_event_are_all_that_it_depends_on;
                a_batch_over_partitions_is_refused_or_written_whole;
                what_a_condition_looks_at_is_a_cause [MultiStreamConditions];
                nobody_writes_behind_a_fence_that_has_moved [MultiStreamConditions];
                a_repeat_does_not_look_again [MultiStreamConditions];
                of_appends_handed_over_together_some_may_look_at_what_others_write [MultiStreamConditions];
                nothing_is_read_before_its_cause;
                nothing_is_read_before_its_cause_though_the_filter_hides_what_is_between;
                a_read_from_a_closed_cut_goes_on_from_it;
                the_head_includes_what_its_events_depend_on;
                random_causes_come_before_their_effects_for_every_follower;
                writers_with_tokens_of_their_own_never_hide_a_cause;
                backward_the_partitions_come_newest_first [BackwardReads];
            }
            random {
                random_operations_agree_with_the_model;
                random_operations_with_restarts_agree_with_the_model [SurvivesRestart];
                random_appends_of_many_threads_fit_one_order [TotalOrder];
            }
        }
    };
}
