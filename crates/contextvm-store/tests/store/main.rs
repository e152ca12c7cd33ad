//! Stories of the store on a real disk, named as sentences.
#![expect(clippy::unwrap_used, reason = "tests")]
mod a_store_belongs_to_one_server;
mod damage_is_named_and_never_overwritten;
mod what_is_kept_and_for_how_long;
mod world;
