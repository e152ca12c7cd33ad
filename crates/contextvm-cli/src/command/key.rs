//! `cvm key`: make and show identities.
use serde::Serialize;

use crate::args::{Key, KeyCommand};
use crate::keys::{self, KeyRef};
use crate::output::Out;
use crate::problem::Problem;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    npub: String,
    hex: String,
    origin: String,
}

pub(crate) fn run(options: &Key, out: &mut Out) -> Result<(), Problem> {
    let (key, origin) = match &options.command {
        KeyCommand::New { name } => {
            let (path, key) = keys::create(name)?;
            (key, KeyRef::File(path).to_string())
        }
        KeyCommand::Show { name } => {
            let reference = KeyRef::parse(name)?;
            (reference.load()?.public_key(), reference.to_string())
        }
    };
    let npub = keys::npub(&key);
    if out.json {
        out.document(&Document { schema: "cvm.key/1", npub, hex: key.to_hex(), origin })
    } else {
        out.line(&npub)
    }
}
