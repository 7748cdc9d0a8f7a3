//! Without any one protection a scenario fails.

use crate::minimal::{Minimal, Protections};
use crate::scenarios as all;
use crate::scenarios::Outcome;
use crate::world::World;

/// A world without something.
async fn without(change: impl FnOnce(&mut Protections)) -> World {
    let mut protections = Protections::ALL;
    change(&mut protections);
    World::new(Minimal::new(protections)).await
}

/// Fails unless a scenario has seen this, which must not be.
#[track_caller]
fn seen(outcome: Outcome, what: &str) {
    let error = outcome.expect_err("nobody has seen what is wrong");
    assert!(error.starts_with(what), "{error}");
}

#[tokio::test]
async fn a_reader_that_does_not_wait_for_causes_sees_effects_without_them() {
    let world = async || without(|all| all.gate = false).await;
    seen(
        all::b11_01_a_reply_is_not_shown_without_the_comment_that_it_answers(&world().await).await,
        "a reply to a comment that does not exist",
    );
    seen(
        all::b11_02_a_new_photo_is_not_shown_to_whom_the_old_list_lets_in(&world().await).await,
        "the new photo with the old list",
    );
    seen(
        all::b11_03_a_list_and_a_photo_are_shown_as_they_were_together(&world().await).await,
        "a pair that never was",
    );
    seen(
        all::b11_04_an_album_does_not_name_a_photo_that_is_not_there(&world().await).await,
        "an album with a photo that does not exist",
    );
    seen(
        all::b11_07_what_a_session_writes_is_shown_in_its_order(&world().await).await,
        "published without a name",
    );
    seen(
        all::b11_08_what_was_written_about_something_is_not_shown_without_it(&world().await).await,
        "a comment on a price that is not there yet",
    );
    seen(
        all::b11_09_a_cause_counts_through_what_a_view_does_not_read(&world().await).await,
        "a return of an order that does not exist",
    );
    seen(
        all::b11_13_a_shipment_is_shown_once_and_not_without_its_payment(&world().await).await,
        "a shipment of what nobody has paid",
    );
    seen(
        all::b11_14_what_two_have_made_of_something_is_not_shown_without_it(&world().await).await,
        "an answer to what nobody has asked",
    );
}

#[tokio::test]
async fn a_client_that_loses_its_tokens_goes_back() {
    let world = async || {
        let mut world = World::new(crate::embedded::Embedded::new()).await;
        world.forgets_tokens = true;
        world
    };
    seen(
        all::b11_05_a_client_reads_what_it_has_written_or_is_told_that_it_cannot(&world().await)
            .await,
        "the old profile",
    );
    seen(
        all::b11_06_a_session_does_not_go_back(&world().await).await,
        "no order where there was one",
    );
    seen(
        all::b11_07_what_a_session_writes_is_shown_in_its_order(&world().await).await,
        "published without a name",
    );
    seen(
        all::b11_17_a_restored_view_does_not_answer_who_has_seen_more(&world().await).await,
        "what was before",
    );
}

#[tokio::test]
async fn answers_without_what_the_partition_depended_on_lose_causes() {
    let world = without(|all| all.history = false).await;
    seen(
        all::b11_09_a_cause_counts_that_only_the_history_of_an_entity_has(&world).await,
        "a return of an order that does not exist",
    );
}

#[tokio::test]
async fn the_nearest_causes_alone_are_too_few() {
    let world = without(|all| all.transitive = false).await;
    seen(
        all::b11_09_a_cause_counts_through_what_a_view_does_not_read(&world).await,
        "a return of an order that does not exist",
    );
}

#[tokio::test]
async fn a_filter_that_drops_the_causes_of_what_it_hides_loses_those_of_what_it_shows() {
    let world = without(|all| all.hidden = false).await;
    seen(
        all::b11_09_a_cause_counts_that_is_said_by_what_a_view_leaves_out_of_a_partition(&world)
            .await,
        "a return of an order that does not exist",
    );
}

#[tokio::test]
async fn what_came_into_the_log_together_is_seen_by_halves_where_its_parts_do_not_name_one_another()
{
    let world = async || without(|all| all.siblings = false).await;
    seen(
        all::b11_10_of_a_transfer_nobody_sees_one_half(&world().await).await,
        "one half of a transfer",
    );
    seen(
        all::b11_11_a_view_that_is_not_given_one_half_does_not_show_the_other(&world().await).await,
        "a hop as it was before the note that was seen",
    );
    seen(
        all::b11_15_nobody_writes_about_one_half_that_is_shown_alone(&world().await).await,
        "an answer to one half without the other",
    );
}
