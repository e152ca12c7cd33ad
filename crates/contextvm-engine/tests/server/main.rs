//! Stories of the server machine, one file each, named as sentences.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod frames;
mod world;

mod a_client_signs_as_admin;
mod a_million_strangers;
mod a_request_in_many_events;
mod a_stranger_hears_nothing;
mod a_thousand_open_streams;
mod a_thousand_strangers_no_children;
mod answers_in_many_events;
mod answers_reach_a_relay_in_the_end;
mod cancelling_a_neighbour;
mod endless_handlers;
mod everyone_counts_from_one;
mod frames_of_the_existing_sdk;
mod nobody_learns_who_is_allowed;
mod old_plaintext_does_not_lower_the_floor;
mod one_id_is_executed_once;
mod requests_to_a_client;
mod restart_and_replay;
mod sentinels_are_just_text;
mod sessions_of_the_existing_sdk;
mod sessions_start_again;
mod sixty_four_thousand_starts;
mod streams_of_a_tool;
mod strict_peers;
mod subscriptions_end;
mod the_application_never_answers_about_access;
mod the_end_comes_from_someone_else;
mod the_first_answer_says_who_we_are;
mod through_the_oversized_door;
mod what_is_accepted_is_remembered_first;
mod what_is_said_about_a_list;
mod what_was_kept_survives_a_restart;
mod whatever_comes;
