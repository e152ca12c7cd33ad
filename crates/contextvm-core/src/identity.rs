//! How a person names a server: hex, `npub`, `nprofile`, `naddr` of its announcement, or a `nostr:` URI.
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use nostr::key::PublicKey;
use nostr::nips::nip19::{FromBech32, Nip19Coordinate, Nip19Profile, ToBech32};
use nostr::types::RelayUrl;

use crate::{Fault, event, kind};

/// Why a text names no server. No variant holds the text: it might be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is no text.
    #[error("server key is empty")]
    Empty,
    /// The text is a secret key.
    #[error("a secret key was given where a public key is wanted; it is not shown")]
    SecretKey,
    /// The text has none of the known forms.
    #[error("server key is neither 64 hex digits nor npub, nprofile or naddr")]
    Form,
    /// The text looks like `npub`, `nprofile` or `naddr` but its checksum or content is wrong.
    #[error("server key has a wrong checksum or content")]
    Bech32,
    /// The text is the address of something else than a server's announcement (kind 11316, empty identifier).
    #[error("the address is not that of a server's announcement")]
    NotAServer,
    /// The 32 bytes are no point of the curve, so nobody can hold the key.
    #[error("server key is not a valid public key")]
    NotAKey,
}

impl IdentityError {
    /// Says who misbehaved: whoever configured this host.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Local
    }
}

/// A server's public key and the relays that came with its name, if any.
///
/// ```
/// use contextvm_core::ServerIdentity;
/// let server: ServerIdentity =
///     " nostr:npub1sn0wdenkukak0d9dfczzeacvhkrgz92ak56egt7vdgzn8pv2wfqqhrjdv9 ".parse()?;
/// assert!(server.relays.is_empty());
/// # Ok::<(), contextvm_core::IdentityError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerIdentity {
    /// The key.
    pub key: PublicKey,
    /// Relay hints of an `nprofile` or `naddr`, in order; hints that are no websocket URL are left out.
    pub relays: Vec<String>,
}

impl From<PublicKey> for ServerIdentity {
    fn from(key: PublicKey) -> Self {
        Self { key, relays: Vec::new() }
    }
}

impl FromStr for ServerIdentity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let text = text.trim();
        let name = match text.split_at_checked("nostr:".len()) {
            Some((scheme, name)) if scheme.eq_ignore_ascii_case("nostr:") => name.trim(),
            _ => text,
        };
        if name.is_empty() {
            return Err(IdentityError::Empty);
        }
        let lower = name.to_ascii_lowercase();
        if lower.starts_with("nsec") || lower.starts_with("ncryptsec") {
            return Err(IdentityError::SecretKey);
        }
        let identity = if lower.starts_with("npub1") {
            PublicKey::from_bech32(unmixed(name, &lower)?).map_err(|_| IdentityError::Bech32)?.into()
        } else if lower.starts_with("nprofile1") {
            let profile =
                Nip19Profile::from_bech32(unmixed(name, &lower)?).map_err(|_| IdentityError::Bech32)?;
            Self { key: profile.public_key, relays: hints(&profile.relays) }
        } else if lower.starts_with("naddr1") {
            let address =
                Nip19Coordinate::from_bech32(unmixed(name, &lower)?).map_err(|_| IdentityError::Bech32)?;
            if address.kind.as_u16() != kind::SERVER_ANNOUNCEMENT || !address.identifier.is_empty() {
                return Err(IdentityError::NotAServer);
            }
            Self { key: address.public_key, relays: hints(&address.relays) }
        } else {
            event::read_key(&lower).ok_or(IdentityError::Form)?.into()
        };
        identity.key.xonly().map_err(|_| IdentityError::NotAKey)?;
        Ok(identity)
    }
}

impl fmt::Display for ServerIdentity {
    /// Prints an `nprofile` when there are relays, else an `npub`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relays = self.relays.iter().filter_map(|url| RelayUrl::parse(url).ok());
        let profile = Nip19Profile::new(self.key, relays);
        let text = if profile.relays.is_empty() {
            self.key.to_bech32().map_err(|_| fmt::Error)?
        } else {
            profile.to_bech32().map_err(|_| fmt::Error)?
        };
        out.write_str(&text)
    }
}

fn hints(relays: &[RelayUrl]) -> Vec<String> {
    relays.iter().map(|url| url.as_str_without_trailing_slash().to_string()).collect()
}

/// Bech32 is written in one case; returns it in lowercase.
fn unmixed<'a>(name: &str, lower: &'a str) -> Result<&'a str, IdentityError> {
    let has_upper = name.bytes().any(|byte| byte.is_ascii_uppercase());
    let has_lower = name.bytes().any(|byte| byte.is_ascii_lowercase());
    if has_upper && has_lower { Err(IdentityError::Bech32) } else { Ok(lower) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use nostr::event::Kind;
    use nostr::nips::nip01::Coordinate;

    const HEX: &str = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";
    const NPUB: &str = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg";

    const ARTICLE: &str = "naddr1qqxnzd3exgersv33xymnsve3qgs8suecw4luyht9ekff89x4uacneapk8r5dyk0gmn6uwwurf6u9rusrqsqqqa282m3gxt";

    fn parse(text: &str) -> Result<ServerIdentity, IdentityError> {
        text.parse()
    }

    #[test]
    fn hex_npub_and_uri_name_the_same_key() {
        let expected = parse(HEX).unwrap();
        assert_eq!(expected.key.to_hex(), HEX);
        let spellings = [
            HEX.to_ascii_uppercase(),
            format!("  {HEX}\n"),
            NPUB.into(),
            NPUB.to_ascii_uppercase(),
            format!("nostr:{NPUB}"),
            format!("\tNOSTR:{NPUB} "),
            format!("nostr:{HEX}"),
        ];
        for spelling in spellings {
            assert_eq!(parse(&spelling), Ok(expected.clone()), "{spelling}");
        }
        assert_eq!(format!("{expected}"), NPUB);
    }

    #[test]
    fn an_nprofile_brings_its_relays_in_order() {
        let key = parse(HEX).unwrap().key;
        let relays =
            ["wss://b.example", "ws://127.0.0.1:7777", "wss://a.example/path"].map(String::from).to_vec();
        let identity = ServerIdentity { key, relays };
        let printed = format!("{identity}");
        assert!(printed.starts_with("nprofile1"));
        assert_eq!(parse(&printed), Ok(identity.clone()));
        assert_eq!(parse(&format!("nostr:{printed}")), Ok(identity));
    }

    #[test]
    fn hints_that_are_no_websocket_url_are_left_out() {
        // The hints are http://a.example, wss://b.example and nonsense.
        let hinted = concat!(
            "nprofile1qqs8ul5ug253hlh3n75jne0a5xmjur4urfxpzst88cnegg6ds6ka7nspzp58ga",
            "rs8ghj7cfwv4uxzmtsd3jszrmhwden5te0vghx27rpd4cxcegppphx7mnnv4h8xeg0exyeg",
        );
        let identity = parse(hinted).unwrap();
        assert_eq!(
            (identity.key.to_hex().as_str(), identity.relays),
            (HEX, ["wss://b.example".into()].to_vec())
        );
    }

    #[test]
    fn the_address_of_an_announcement_names_its_server() {
        let key = parse(HEX).unwrap().key;
        let address = |identifier: &str| {
            let announcement = Kind::from_u16(kind::SERVER_ANNOUNCEMENT);
            let coordinate = Coordinate::new(announcement, key).identifier(identifier);
            let relays = [RelayUrl::parse("wss://a.example").unwrap()];
            Nip19Coordinate::new(coordinate, relays).to_bech32().unwrap()
        };
        let expected = ServerIdentity { key, relays: ["wss://a.example".into()].to_vec() };
        assert_eq!(parse(&address("")), Ok(expected.clone()));
        assert_eq!(parse(&format!("nostr:{}", address(""))), Ok(expected));
        assert_eq!(parse(&address("x")), Err(IdentityError::NotAServer));
    }

    #[test]
    fn every_refusal_has_its_own_name() {
        let mixed = format!("npub1{}", NPUB[5..].to_ascii_uppercase());
        let not_a_point = "ff".repeat(32);
        let table: &[(&str, IdentityError)] = &[
            ("", IdentityError::Empty),
            (" nostr: ", IdentityError::Empty),
            ("nsec1j4c6269y9w0q2er2xjw8sv2ehyrtfxq3jwgdlxj6qfn8z4gjsq5qfvfk99", IdentityError::SecretKey),
            ("NOSTR:NSEC1", IdentityError::SecretKey),
            ("ncryptsec1qqq", IdentityError::SecretKey),
            ("7e7e", IdentityError::Form),
            (&format!("{HEX}00"), IdentityError::Form),
            (&HEX.repeat(2), IdentityError::Form),
            ("note1qqq", IdentityError::Form),
            ("naddr1qqq", IdentityError::Bech32),
            // The address of somebody's article.
            (ARTICLE, IdentityError::NotAServer),
            ("someone@example.com", IdentityError::Form),
            ("é", IdentityError::Form),
            ("npub1qqqq", IdentityError::Bech32),
            ("nprofile1qqqq", IdentityError::Bech32),
            (&mixed, IdentityError::Bech32),
            (&not_a_point, IdentityError::NotAKey),
        ];
        for (text, error) in table {
            assert_eq!(parse(text), Err(*error), "{text}");
            assert_eq!(error.fault(), Fault::Local);
        }
    }

    #[test]
    fn no_refusal_shows_what_was_given() {
        for secret in
            ["nsec1j4c6269y9w0q2er2xjw8sv2ehyrtfxq3jwgdlxj6qfn8z4gjsq5qfvfk99", "nostr:nsec1abc", "xnsec1abc"]
        {
            let error = parse(secret).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("nsec1"), "{shown}");
        }
    }
}
