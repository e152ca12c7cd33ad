//! The secret that is searched for, in every form in which it might be written.
use std::fs;
use std::path::PathBuf;

/// Secret keys.
pub(super) struct Canary {
    /// The text in the first key file.
    pub(super) nsec: String,
    forms: Vec<(String, Vec<u8>)>,
}

impl Canary {
    /// Reads the key files.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, Vec<String>> {
        let mut all: Option<Self> = None;
        for path in paths {
            let text =
                fs::read_to_string(path).map_err(|error| vec![format!("{}: {error}", path.display())])?;
            let one =
                Self::of(text.trim()).ok_or_else(|| vec![format!("{} holds no key", path.display())])?;
            match &mut all {
                Some(all) => all.forms.extend(one.forms),
                None => all = Some(one),
            }
        }
        all.ok_or_else(|| vec!["there is no key".to_owned()])
    }

    fn of(nsec: &str) -> Option<Self> {
        let secret = bech32_bytes(nsec)?;
        let reversed: Vec<u8> = secret.iter().rev().copied().collect();
        let mut forms = vec![
            ("nsec".to_owned(), nsec.as_bytes().to_vec()),
            ("nsec in capitals".to_owned(), nsec.to_uppercase().into_bytes()),
            // What `nsec` says without its first five characters.
            ("bech32".to_owned(), nsec.as_bytes().get(5..)?.to_vec()),
        ];
        for (order, bytes) in [("", &secret), (" reversed", &reversed)] {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let list: Vec<String> = bytes.iter().map(u8::to_string).collect();
            forms.push((format!("hex in capitals{order}"), hex.to_uppercase().into_bytes()));
            forms.push((format!("hex{order}"), hex.into_bytes()));
            forms.push((format!("list{order}"), list.join(", ").into_bytes()));
            forms.push((format!("short list{order}"), list.join(",").into_bytes()));
            for alignment in 0..3 {
                let text = base64(bytes, alignment);
                let url = text.replace('+', "-").replace('/', "_");
                forms.push((format!("base64 at {alignment}{order}"), text.into_bytes()));
                forms.push((format!("base64url at {alignment}{order}"), url.into_bytes()));
            }
            forms.push((format!("bytes{order}"), bytes.clone()));
        }
        Some(Self { nsec: nsec.to_owned(), forms })
    }

    /// How many forms are searched for.
    pub(super) fn forms(&self) -> usize {
        self.forms.len()
    }

    /// Every form with its name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.forms.iter().map(|(name, form)| (name.as_str(), form.as_slice()))
    }

    /// The forms that are in some bytes.
    pub(super) fn found_in(&self, data: &[u8]) -> Vec<&str> {
        self.all().filter(|(_, form)| contains(data, form)).map(|(name, _)| name).collect()
    }
}

/// Whether some bytes are part of others.
fn contains(data: &[u8], form: &[u8]) -> bool {
    let Some((first, rest)) = form.split_first() else { return false };
    let mut left = data;
    while let Some(at) = left.iter().position(|byte| byte == first) {
        left = left.get(at + 1..).unwrap_or_default();
        if left.starts_with(rest) {
            return true;
        }
    }
    false
}

/// What stands in the base64 of a longer text when the bytes begin so many bytes after a multiple of three in it.
fn base64(bytes: &[u8], alignment: usize) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    let (mut word, mut bits) = (0_u32, 0);
    for byte in std::iter::repeat_n(&0, alignment).chain(bytes) {
        word = word << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 6 {
            bits -= 6;
            let digit = usize::try_from(word >> bits & 63).ok().and_then(|at| DIGITS.get(at));
            text.extend(digit.map(|digit| char::from(*digit)));
        }
    }
    // The first digits depend on what stands before.
    text.chars().skip((alignment * 8).div_ceil(6)).collect()
}

/// The 32 bytes of an `nsec`.
fn bech32_bytes(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let digits = text.strip_prefix("nsec1")?;
    let digits = digits.get(..digits.len().checked_sub(6)?)?;
    let (mut out, mut bits, mut word) = (Vec::new(), 0, 0_u32);
    for digit in digits.chars() {
        word = (word << 5 | u32::try_from(DIGITS.find(digit)?).ok()?) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(word >> bits & 0xff).ok()?);
        }
    }
    (out.len() == 32).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NSEC: &str = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";

    #[test]
    fn a_key_is_found_in_every_form_and_place_and_another_one_is_not() {
        let canary = Canary::of(NSEC).unwrap();
        assert_eq!(
            canary.found_in(b"hex: 67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa."),
            ["hex"]
        );
        for (name, form) in canary.all() {
            for around in [0, 1, 5_000] {
                let data = [vec![b'q'; around], form.to_vec(), vec![b'1'; around]].concat();
                assert!(canary.found_in(&data).contains(&name), "{name}");
                let almost = data.get(..around + form.len() - 1).unwrap();
                assert!(!canary.found_in(almost).contains(&name), "{name}");
            }
        }
        assert!(canary.found_in(NSEC.replace('v', "w").as_bytes()).is_empty());
        assert!(Canary::of("npub1").is_none() && Canary::of("nsec1qqqq").is_none());
    }

    #[test]
    fn base64_is_found_wherever_the_key_begins_in_the_text() {
        let secret = bech32_bytes(NSEC).unwrap();
        assert!("Z96i7QGActZ19UFez67X0ll1VeIC2Fs9ZepOWNLZL/o=".starts_with(&base64(&secret, 0)));
        for alignment in 1..3 {
            let whole = base64(&[vec![9; alignment], secret.clone(), vec![7; 3]].concat(), 0);
            assert!(whole.contains(&base64(&secret, alignment)), "{alignment}");
        }
    }
}
