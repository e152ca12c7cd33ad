//! Pins as text, to be kept between runs.
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

use contextvm_core::object::quote;
use contextvm_core::{Limits, scan};
use serde::Deserialize;

use super::{Member, Pin, PinError, PinHash, PinnedText, ToolPins};
use crate::json;

/// The number of the format.
const VERSION: u64 = 1;

impl ToolPins {
    /// Prints the pins as one line of JSON, always the same for the same tools.
    #[must_use]
    pub fn to_text(&self) -> String {
        let tools = object(self.tools.iter().map(|(name, pin)| {
            let members = object(pin.members.iter().map(|(name, member)| (name, member.to_text())));
            (name, alloc::format!(r#"{{"hash":"{}","members":{members}}}"#, pin.hash))
        }));
        alloc::format!(r#"{{"version":{VERSION},"list":"{}","tools":{tools}}}"#, self.list_hash())
    }

    /// Reads pins that [`ToolPins::to_text`] printed.
    ///
    /// # Errors
    /// Refuses other formats and text that was damaged; the hash of the list must be that of its tools.
    pub fn read(text: &str) -> Result<Self, PinError> {
        scan::check(text, &Limits::default())?;
        let head: Head = serde_json::from_str(text).map_err(|_| PinError::Damaged)?;
        if head.version != VERSION {
            return Err(PinError::Version { found: head.version });
        }
        let file: File = serde_json::from_str(text).map_err(|_| PinError::Damaged)?;
        let tools = file.tools.into_iter().map(|(name, pin)| Some((name, pin.read()?)));
        let pins = Self { tools: tools.collect::<Option<_>>().ok_or(PinError::Damaged)? };
        if pins.list_hash().to_string() == file.list { Ok(pins) } else { Err(PinError::Damaged) }
    }
}

impl Member {
    fn to_text(&self) -> String {
        let (text, cut) = (quote(&self.text.text), self.text.cut);
        alloc::format!(r#"{{"hash":"{}","text":{text},"cut":{cut}}}"#, self.hash)
    }
}

fn object<'a>(members: impl Iterator<Item = (&'a String, String)>) -> String {
    let mut out = String::from("{");
    for (key, json) in members {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&quote(key));
        out.push(':');
        out.push_str(&json);
    }
    out.push('}');
    out
}

#[derive(Deserialize)]
struct Head {
    version: u64,
}

#[derive(Deserialize)]
struct File {
    list: String,
    tools: BTreeMap<String, FilePin>,
}

#[derive(Deserialize)]
struct FilePin {
    hash: String,
    members: BTreeMap<String, FileMember>,
}

#[derive(Deserialize)]
struct FileMember {
    hash: String,
    text: String,
    cut: bool,
}

impl FilePin {
    fn read(self) -> Option<Pin> {
        let members = self.members.into_iter().map(|(name, member)| {
            let text = PinnedText { text: member.text, cut: member.cut };
            Some((name, Member { hash: read_hash(&member.hash)?, text }))
        });
        Some(Pin { hash: read_hash(&self.hash)?, members: members.collect::<Option<_>>()? })
    }
}

fn read_hash(text: &str) -> Option<PinHash> {
    json::read_hex(text).map(PinHash)
}
