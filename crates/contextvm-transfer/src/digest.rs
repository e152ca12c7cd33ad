//! The digest of a transfer: SHA-256 of the whole message, written as `sha256:` and 64 hex digits.
use alloc::string::String;

use bitcoin_hashes::sha256;

const PREFIX: &str = "sha256:";

/// Hashes a message.
pub(crate) fn of(message: &str) -> [u8; 32] {
    sha256::Hash::hash(message.as_bytes()).to_byte_array()
}

/// Prints a digest.
pub(crate) fn print(message: &str) -> String {
    let digits = of(message).into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    PREFIX.chars().chain(digits.filter_map(|digit| char::from_digit(digit.into(), 16))).collect()
}

/// Reads a digest; `None` when it is another algorithm or not 64 hex digits.
pub(crate) fn read(text: &str) -> Option<[u8; 32]> {
    let hex = text.strip_prefix(PREFIX)?.as_bytes();
    let mut digest = [0; 32];
    let (pairs, []) = hex.as_chunks::<2>() else { return None };
    if pairs.len() != digest.len() {
        return None;
    }
    for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
        let digit = |hex: &u8| char::from(*hex).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_is_read_as_it_was_printed() {
        assert_eq!(print(""), format!("sha256:{EMPTY}"));
        assert_eq!(read(&print("é")), Some(of("é")));
        assert_eq!(read(&format!("sha256:{}", EMPTY.to_uppercase())), Some(of("")));
    }

    #[test]
    fn anything_else_is_no_digest() {
        for text in ["", "sha256:", EMPTY, "sha512:00", &format!("sha256:{}g", &EMPTY[1..])] {
            assert_eq!(read(text), None, "{text}");
        }
        for hex in [format!("{EMPTY}0"), format!("{EMPTY}00"), EMPTY[2..].to_string(), "é".repeat(32)] {
            assert_eq!(read(&format!("sha256:{hex}")), None, "{hex}");
        }
    }
}
