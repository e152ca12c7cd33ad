//! Stories: small worlds made by hand, each a sentence about what becomes of calls in it.

mod a_server_dies_where_it_matters;
mod a_thousand_clients_come_back;
mod a_wrap_is_altered_and_still_opens;
mod cheats_are_caught;
mod equal_seeds_leave_equal_traces;
mod poisoned_ids_arrive_first;
mod the_clock_is_an_hour_slow;
mod the_lid_is_closed_overnight;
mod the_same_event_comes_from_eight_relays;
mod world;
