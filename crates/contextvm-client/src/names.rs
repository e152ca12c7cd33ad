//! Names of servers as people type them: keys, addresses of announcements, NIP-05 names, domains and schema hashes.
use std::fmt;
use std::str::FromStr;

use contextvm_core::{Fault, IdentityError, ServerIdentity};

/// Longest name that is looked at, bytes.
pub const LONGEST_NAME: usize = 4 * 1024;
/// Longest domain with its port, bytes.
const LONGEST_DOMAIN: usize = 260;
/// Fewest digits of a schema hash that are taken as a beginning.
const FEWEST_DIGITS: usize = 6;

/// Why a text is no name. No variant holds the text: it might be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is no key, no address and no domain either.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It looks like `name@domain`, and one of the two has characters that do not belong there.
    #[error("the name is not of the form name@domain (NIP-05)")]
    Nip05,
    /// What follows `schema:` is not a hash or the beginning of one.
    #[error("a schema is named by the first {FEWEST_DIGITS} to 64 hex digits of its hash")]
    Schema,
}

impl NameError {
    /// Says who misbehaved: whoever typed the name.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        Fault::Local
    }
}

/// What a text names.
///
/// ```
/// use contextvm_client::Name;
/// assert!(matches!("weather@example.com".parse(), Ok(Name::Nip05(_))));
/// assert!(matches!("example.com".parse(), Ok(Name::Nip05(_))));
/// assert!(matches!("schema:fd79c0".parse(), Ok(Name::Schema(_))));
/// assert!("nsec1…".parse::<Name>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Name {
    /// A key, with relays if the name brought some (`npub`, `nprofile`, hex, `naddr` of an announcement, `nostr:` URI).
    Server(ServerIdentity),
    /// A name to be looked up at a domain (NIP-05).
    Nip05(Nip05),
    /// Any server that has a tool of this schema (CEP-15).
    Schema(SchemaName),
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        if text.len() > LONGEST_NAME {
            return Err(IdentityError::Form.into());
        }
        // A secret is refused first, so that nothing below looks it up anywhere.
        let lower = text.to_ascii_lowercase();
        if lower.contains("nsec1") || lower.contains("ncryptsec1") {
            return Err(IdentityError::SecretKey.into());
        }
        if let Some(hash) = lower.strip_prefix("schema:") {
            return hash.parse().map(Self::Schema);
        }
        match text.parse() {
            Ok(identity) => Ok(Self::Server(identity)),
            Err(IdentityError::Form) if lower.contains('@') => lower.parse().map(Self::Nip05),
            Err(IdentityError::Form) => match Nip05::at_domain(&lower) {
                Some(name) => Ok(Self::Nip05(name)),
                None => Err(IdentityError::Form.into()),
            },
            Err(error) => Err(error.into()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(identity) => identity.fmt(out),
            Self::Nip05(name) => name.fmt(out),
            Self::Schema(schema) => schema.fmt(out),
        }
    }
}

/// A name at a domain (NIP-05), in lowercase.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Nip05 {
    /// The part before the `@`; `_` names the domain itself.
    pub name: String,
    /// The domain, with a port if one was given.
    pub domain: String,
}

impl Nip05 {
    /// Takes a bare domain, which must have a dot or be `localhost`.
    #[must_use]
    pub fn at_domain(text: &str) -> Option<Self> {
        let domain = text.trim().to_ascii_lowercase();
        is_domain(&domain).then(|| Self { name: "_".to_owned(), domain })
    }
}

impl FromStr for Nip05 {
    type Err = NameError;

    /// Reads `name@domain`, or a bare domain as `_@domain`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.trim().to_ascii_lowercase();
        let Some((name, domain)) = text.split_once('@') else {
            return Self::at_domain(&text).ok_or(NameError::Nip05);
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let named = !name.is_empty() && name.len() <= 64 && name.bytes().all(fits);
        if !named || !is_domain(domain) {
            return Err(NameError::Nip05);
        }
        Ok(Self { name: name.to_owned(), domain: domain.to_owned() })
    }
}

impl fmt::Display for Nip05 {
    /// Prints a domain's own name as the domain.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "_" => out.write_str(&self.domain),
            name => write!(out, "{name}@{}", self.domain),
        }
    }
}

/// Whether a text is a host name with a dot, or `localhost`, and perhaps a port.
fn is_domain(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(fits)
    };
    text.len() <= LONGEST_DOMAIN
        && (host.contains('.') || host == "localhost")
        && host.split('.').all(label)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// The hash of a tool's schema or its beginning (CEP-15), in lowercase hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SchemaName(String);

impl SchemaName {
    /// Returns the digits that were given.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// Whether the digits are a whole hash, which relays can be asked for.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.len() == 64
    }

    /// Whether a hash in lowercase hex begins with these digits.
    #[must_use]
    pub fn matches(&self, hash: &str) -> bool {
        hash.starts_with(&self.0)
    }
}

impl FromStr for SchemaName {
    type Err = NameError;

    /// Reads 6 to 64 hex digits.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = text.trim().to_ascii_lowercase();
        let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex || !(FEWEST_DIGITS..=64).contains(&digits.len()) {
            return Err(NameError::Schema);
        }
        Ok(Self(digits))
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "schema:{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";

    fn nip05(name: &str, domain: &str) -> Name {
        Name::Nip05(Nip05 { name: name.into(), domain: domain.into() })
    }

    #[test]
    fn every_form_is_told_from_the_others() {
        let key: ServerIdentity = HEX.parse().unwrap();
        for text in [HEX.to_owned(), format!(" nostr:{key} "), key.to_string()] {
            assert_eq!(text.parse(), Ok(Name::Server(key.clone())), "{text}");
        }
        for (text, name) in [
            ("Weather@Example.com", nip05("weather", "example.com")),
            (" example.com\n", nip05("_", "example.com")),
            ("_@example.com", nip05("_", "example.com")),
            ("a.b-c_1@sub.example.com", nip05("a.b-c_1", "sub.example.com")),
            ("name@localhost:8080", nip05("name", "localhost:8080")),
            ("localhost:8080", nip05("_", "localhost:8080")),
        ] {
            assert_eq!(text.parse(), Ok(name), "{text}");
        }
        assert_eq!(nip05("_", "example.com").to_string(), "example.com");
        assert_eq!(nip05("a", "example.com").to_string(), "a@example.com");
        let Ok(Name::Schema(schema)) = "schema:FD79C0".parse() else { panic!("no schema") };
        assert!(schema.matches("fd79c0931239") && !schema.matches("fd79c1") && !schema.is_whole());
        assert!(
            format!("schema:{HEX}")
                .parse::<Name>()
                .is_ok_and(|name| name.to_string() == format!("schema:{HEX}"))
        );
    }

    #[test]
    fn what_is_no_name_is_refused_by_its_form() {
        for (text, error) in [
            ("", NameError::Identity(IdentityError::Empty)),
            ("weather", NameError::Identity(IdentityError::Form)),
            ("wss://relay.example", NameError::Identity(IdentityError::Form)),
            ("https://example.com/", NameError::Identity(IdentityError::Form)),
            ("example..com", NameError::Identity(IdentityError::Form)),
            ("example.com:0", NameError::Identity(IdentityError::Form)),
            ("@example.com", NameError::Nip05),
            ("a@b@example.com", NameError::Nip05),
            ("a@example", NameError::Nip05),
            ("a/../b@example.com", NameError::Nip05),
            ("a@example.com/x", NameError::Nip05),
            ("a@user:pw.example.com", NameError::Nip05),
            ("schema:", NameError::Schema),
            ("schema:fd79c", NameError::Schema),
            ("schema:xyzxyz", NameError::Schema),
            ("npub1qqqq", NameError::Identity(IdentityError::Bech32)),
        ] {
            assert_eq!(text.parse::<Name>(), Err(error), "{text}");
        }
        assert_eq!("a".repeat(LONGEST_NAME + 1).parse::<Name>(), Err(IdentityError::Form.into()));
    }

    #[test]
    fn a_secret_key_is_never_looked_up_or_repeated() {
        let secret = "nsec1j4c6269y9w0q2er2xjw8sv2ehyrtfxq3jwgdlxj6qfn8z4gjsq5qfvfk99";
        for text in [
            secret.to_owned(),
            format!("{secret}@example.com"),
            format!("{}.example.com", secret.to_uppercase()),
            format!("schema:{secret}"),
            format!("nostr:{secret}"),
        ] {
            let error = text.parse::<Name>().unwrap_err();
            assert_eq!(error, NameError::Identity(IdentityError::SecretKey), "{text}");
            assert!(!format!("{error} {error:?}").to_lowercase().contains("nsec1"));
        }
    }
}
