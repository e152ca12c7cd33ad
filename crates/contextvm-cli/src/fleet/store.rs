//! Where `cvm serve` remembers across restarts, and what to do when it cannot.
use std::path::PathBuf;

use contextvm::core::Printable;
use contextvm::server::StoreError;
use nostr::key::PublicKey;

use crate::keys;
use crate::problem::{Code, Problem};

/// The file of one identity.
pub(super) fn path(server: &PublicKey) -> Result<PathBuf, Problem> {
    Ok(keys::state_directory()?.join("served").join(server.to_hex()))
}

/// Says why a store cannot be used.
pub(super) fn refused(error: &StoreError) -> Problem {
    let shown = Printable(&error.to_string()).to_string();
    let problem = Problem::new(Code::ConfigInvalid, shown);
    match error {
        StoreError::InUse(_) => problem
            .fact("two processes under one key would execute requests twice")
            .hint("end the other one (cvm ctl status shows it), or serve under another key"),
        StoreError::Io { .. } => problem
            .fact("it keeps requests from being executed twice across restarts")
            .hint("see to the disk; or remember nothing, and remove what is there: --in-memory"),
        StoreError::Damaged(_)
        | StoreError::OtherServer(_)
        | StoreError::Format { .. }
        | StoreError::Exposed(_)
        | StoreError::Clock { .. }
        | _ => problem
            .fact("it keeps requests from being executed twice across restarts")
            .hint("move the file away to begin anew"),
    }
}
