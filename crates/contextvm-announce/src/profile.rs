//! The profile of a key, also of a server: kind 0 (CEP-23).
use alloc::string::{String, ToString};

use contextvm_core::object::{Edit, Object, string};
use contextvm_core::{Fault, Limits, ScanError, kind, scan};

use crate::Signed;

/// Why an event is no profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The event has another kind.
    #[error("kind {0} is not a profile")]
    Kind(u16),
    /// The content costs too much or is not JSON.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The content is no JSON object.
    #[error("profile is not a json object")]
    NotAnObject,
}

impl ProfileError {
    /// Says who misbehaved: its author.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Peer
    }
}

/// What a key says about its holder. Nothing of it is verified, `nip05` least of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// A name.
    pub name: Option<String>,
    /// A longer name.
    pub display_name: Option<String>,
    /// A text about the holder.
    pub about: Option<String>,
    /// Address of a picture.
    pub picture: Option<String>,
    /// Address of a wide picture.
    pub banner: Option<String>,
    /// Address of a web site.
    pub website: Option<String>,
    /// A name `user@domain` that the domain may confirm (NIP-05).
    pub nip05: Option<String>,
    /// A lightning address.
    pub lud16: Option<String>,
    /// The content as it was published, unknown members included; empty when the profile was made here.
    pub raw: String,
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// Refuses other kinds and content that is no JSON object within budget.
    pub fn read(event: &Signed) -> Result<Self, ProfileError> {
        match event.kind.as_u16() {
            kind::PROFILE => Self::parse(&event.content),
            other => Err(ProfileError::Kind(other)),
        }
    }

    /// Reads the content of a profile; members that are no strings are left out.
    ///
    /// # Errors
    /// Refuses content that is no JSON object within budget.
    pub fn parse(content: &str) -> Result<Self, ProfileError> {
        scan::check(content, &Limits::default())?;
        let object = Object::parse(content).map_err(|_| ProfileError::NotAnObject)?;
        let text = |member| object.get(member).and_then(string).map(|text| text.into_owned());
        Ok(Self {
            name: text("name"),
            display_name: text("display_name"),
            about: text("about"),
            picture: text("picture"),
            banner: text("banner"),
            website: text("website"),
            nip05: text("nip05"),
            lud16: text("lud16"),
            raw: content.to_string(),
        })
    }

    /// Prints the content to publish: the members that are set, in a fixed order, so that the same profile is the same text.
    #[must_use]
    pub fn to_content(&self) -> String {
        let mut content = Edit::new();
        for (member, text) in self.members() {
            content.set_string(member, text);
        }
        content.to_text()
    }

    /// Whether no member is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members().next().is_none()
    }

    /// Lists the members that are set.
    fn members(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let members = [
            ("name", &self.name),
            ("display_name", &self.display_name),
            ("about", &self.about),
            ("picture", &self.picture),
            ("banner", &self.banner),
            ("website", &self.website),
            ("nip05", &self.nip05),
            ("lud16", &self.lud16),
        ];
        members.into_iter().filter_map(|(member, text)| Some((member, text.as_deref()?)))
    }
}
