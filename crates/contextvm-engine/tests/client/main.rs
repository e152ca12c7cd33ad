//! Stories about the client machine, each module named by its sentence.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "tests"
)]
mod pieces;
mod rig;

mod a_call_ends_once;
mod a_note_before_the_answer;
mod a_ping_shows_that_tokens_are_answered;
mod a_relay_that_hides_the_tag;
mod answers_nobody_asked_for;
mod calls_that_are_lost_say_why;
mod equal_calls_have_different_ids;
mod large_answers_come_in_pieces;
mod large_requests_go_in_pieces;
mod old_plaintext_does_not_lower_the_floor;
mod requests_carry_a_token;
mod requests_of_the_server;
mod sending_again;
mod sessions_of_the_existing_sdk;
mod stateless_clients;
mod streams_are_read_or_drained;
mod the_end_comes_from_someone_else;
mod what_a_request_carries;
mod what_is_remembered_of_the_server;
