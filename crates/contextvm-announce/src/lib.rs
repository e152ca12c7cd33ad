//! What servers publish about themselves and what others publish about them, as pure documents.
#![no_std]
extern crate alloc;
