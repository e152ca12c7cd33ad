//! What servers publish about themselves and what others publish about them, as pure documents.
//!
//! A stranger's event enters as [`Signed`]: bounded, its id recomputed, its signature verified. [`Newest`] says whether it is the
//! latest of its key and kind; a document type reads it; [`Directory`] merges all of it into one [`ServerEntry`] per server.
//!
//! | module | what it holds |
//! |---|---|
//! | [`signed`], [`newest`] | what may be believed, and what is the latest |
//! | [`document`], [`price`], [`relay_list`], [`profile`] | what one event says |
//! | [`directory`] | one view of each server, and the filter of a search |
//! | [`lookalike`] | names as they may be shown, and names that look like others |
//! | [`schema`], [`pins`] | common tool schemas, and pins of whole tools |
//! | [`announcer`], [`deletion`], [`review`], [`unsigned`] | what is drafted here, for a face to sign |
#![no_std]
extern crate alloc;

pub mod announcer;
pub mod deletion;
pub mod directory;
pub mod document;
mod json;
pub mod lookalike;
pub mod newest;
pub mod pins;
pub mod price;
pub mod profile;
pub mod relay_list;
pub mod review;
pub mod schema;
pub mod signed;
pub mod unsigned;

pub use announcer::{
    AnnounceError, AnnounceWake, Announcer, AnnouncerConfig, AnnouncerInput, AnnouncerOutput, Answer,
    BOOTSTRAP_RELAYS, caps_for,
};
pub use deletion::{Deletion, Withdrawal};
pub use directory::{
    Added, Bound, Directory, DirectoryLimits, Heard, MostPrice, Origin, Part, Refused, RefusedCounts,
    ServerEntry, Sources, Wanted,
};
pub use document::{DocumentError, DocumentKind, Item, ListDocument, SchemaTag, ServerDocument};
pub use lookalike::{Lookalike, Lookalikes, shown_name, skeleton};
pub use newest::{FUTURE, Freshness, Newest, Stamp};
pub use pins::{
    MAX_PINNED_TEXT, MemberChange, PinError, PinHash, PinnedText, ToolChange, ToolPins, ToolsDiff,
};
pub use price::{Price, Priced};
pub use profile::{Profile, ProfileError};
pub use relay_list::{Marker, RelayEntry, RelayList, RelayListError, relay_list_tags};
pub use review::{Parent, Placed, Review, ReviewError, Standing, Threads, Words, review_filter};
pub use schema::{Annotated, COMMON_SCHEMA, CommonSchemas, SchemaError, SchemaHash, SchemaNote, Verdict};
pub use signed::{Signed, SignedError};
pub use unsigned::Unsigned;
