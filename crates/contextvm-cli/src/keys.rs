//! Keys by reference: names, files, variables. Secrets never come from the command line and are never shown.
use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use contextvm::Keys;
use contextvm::core::Printable;
use nostr::key::PublicKey;
use nostr::nips::nip19::ToBech32 as _;
use zeroize::Zeroizing;

use crate::problem::{Code, Problem};

/// Longest key file, bytes.
const LONGEST: usize = 4_096;

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyRef {
    /// In a file that only we can read.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
    /// On standard input.
    Stdin,
    /// Nowhere: it is made now and forgotten at the end.
    Ephemeral,
}

impl fmt::Display for KeyRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "file:{}", Printable(&path.to_string_lossy())),
            Self::Env(name) => write!(out, "env:{}", Printable(name)),
            Self::Stdin => out.write_str("stdin"),
            Self::Ephemeral => out.write_str("ephemeral"),
        }
    }
}

/// References of other programs and later versions.
const UNSUPPORTED: [&str; 7] = ["keyring:", "systemd:", "ncryptsec:", "bunker:", "bunker://", "cmd:", "fd:"];

impl KeyRef {
    /// Reads a reference; a key in its place is refused and not repeated.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let text = text.trim();
        let value = text.split_once(':').map_or(text, |(_, value)| value);
        if is_secret(text) || is_secret(value) || is_hex_key(text) || is_hex_key(value) {
            return Err(secret_refused());
        }
        if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty()) {
            return Ok(Self::File(path.into()));
        }
        if let Some(name) = text.strip_prefix("env:").filter(|name| !name.is_empty()) {
            return Ok(Self::Env(name.to_owned()));
        }
        if let Some(scheme) = UNSUPPORTED.iter().find(|scheme| text.starts_with(**scheme)) {
            let problem = Problem::new(Code::InvalidValue, format!("keys by {scheme} are not supported"));
            return Err(problem.hint("keep the key in a file: cvm key new me"));
        }
        match text {
            "stdin" | "-" => Ok(Self::Stdin),
            "ephemeral" => Ok(Self::Ephemeral),
            path if path.contains('/') => Ok(Self::File(path.into())),
            name => Ok(Self::File(named(name)?)),
        }
    }

    /// Reads the key.
    pub(crate) fn load(&self) -> Result<Keys, Problem> {
        match self {
            Self::File(path) => from_file(path),
            Self::Env(name) => {
                let value = std::env::var(name).map(Zeroizing::new).map_err(|_| {
                    let problem = Problem::new(
                        Code::ConfigInvalid,
                        format!("the variable {} is not set", Printable(name)),
                    );
                    problem.hint("keep the key in a file: cvm key new me")
                })?;
                parse_key(&value, &self.to_string())
            }
            Self::Stdin => {
                let fail = |why: String| {
                    Problem::new(Code::ConfigInvalid, format!("no key on standard input: {why}"))
                };
                let text = read_secret(std::io::stdin()).map_err(fail)?;
                parse_key(&text, "stdin")
            }
            Self::Ephemeral => contextvm::new_keys().map_err(|error| Problem::internal(error.to_string())),
        }
    }
}

/// A key with where it came from.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) keys: Keys,
    pub(crate) origin: String,
    pub(crate) ephemeral: bool,
}

/// Finds the key: the flag, then CVM_KEY (a reference, or the key itself); `None` if neither is given.
pub(crate) fn choose(flag: Option<&str>) -> Result<Option<Chosen>, Problem> {
    let chosen = |reference: &KeyRef| {
        let ephemeral = *reference == KeyRef::Ephemeral;
        Ok(Some(Chosen { keys: reference.load()?, origin: reference.to_string(), ephemeral }))
    };
    if let Some(flag) = flag {
        return chosen(&KeyRef::parse(flag)?);
    }
    match std::env::var("CVM_KEY").map(Zeroizing::new) {
        Ok(value) if is_secret(value.trim()) || is_hex_key(value.trim()) => {
            tracing::warn!("the key comes from the environment, where other programs of yours can read it");
            let keys = parse_key(&value, "env:CVM_KEY")?;
            Ok(Some(Chosen { keys, origin: "env:CVM_KEY".to_owned(), ephemeral: false }))
        }
        Ok(value) if !value.trim().is_empty() => chosen(&KeyRef::parse(&value)?),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// The key of a client: the chosen one, or one that nobody knows.
pub(crate) fn choose_or_ephemeral(flag: Option<&str>) -> Result<Chosen, Problem> {
    match choose(flag)? {
        Some(chosen) => Ok(chosen),
        None => {
            let keys = KeyRef::Ephemeral.load()?;
            Ok(Chosen { keys, origin: KeyRef::Ephemeral.to_string(), ephemeral: true })
        }
    }
}

/// Reads a secret text that is no key, such as an authorization header: `env:NAME` or `file:PATH`.
pub(crate) fn secret_text(reference: &str) -> Result<Zeroizing<String>, Problem> {
    // Whatever else it is may be the secret itself, so it is not repeated.
    let unclear = || {
        let problem = Problem::new(
            Code::InvalidValue,
            "a secret is named by env:NAME or file:PATH, never given itself",
        );
        problem.hint("--header Authorization=env:TOKEN")
    };
    let (scheme, rest) = reference.split_once(':').ok_or_else(unclear)?;
    let mut text = match scheme {
        "env" if !rest.is_empty() => std::env::var(rest).map(Zeroizing::new).map_err(|_| {
            Problem::new(Code::ConfigInvalid, format!("the variable {} is not set", Printable(rest)))
                .hint("set it where this program is started")
        })?,
        "file" if !rest.is_empty() => secret_file(Path::new(rest), "secret")?,
        _ => return Err(unclear()),
    };
    let length = text.trim_end().len();
    text.truncate(length);
    Ok(text)
}

/// Prints a public key as `npub`.
pub(crate) fn npub(key: &PublicKey) -> String {
    key.to_bech32().unwrap_or_else(|_| key.to_hex())
}

/// Makes a key and keeps it in a new file; returns where and whose.
pub(crate) fn create(name: &str) -> Result<(PathBuf, PublicKey), Problem> {
    let KeyRef::File(path) = KeyRef::parse(name)? else {
        return Err(
            Problem::new(Code::InvalidValue, "a new key needs a name or a path").hint("cvm key new me")
        );
    };
    let keys = KeyRef::Ephemeral.load()?;
    write_new(&path, &keys.to_nsec()).map_err(|error| {
        let shown = path.to_string_lossy();
        let message = if error.kind() == std::io::ErrorKind::AlreadyExists {
            format!("{} exists and is not overwritten", Printable(&shown))
        } else {
            format!("{} could not be written: {error}", Printable(&shown))
        };
        Problem::new(Code::ConfigInvalid, message)
            .hint("choose another name, or look at the key: cvm key show NAME")
    })?;
    Ok((path, keys.public_key()))
}

#[cfg(unix)]
pub(crate) fn write_new(path: &Path, line: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // In two pieces, so that no second copy of the secret is made.
    let written = file.write_all(line.as_bytes()).and_then(|()| file.write_all(b"\n"));
    written.and_then(|()| file.sync_all()).inspect_err(|_| {
        // Half a key is worse than none.
        let _kept = std::fs::remove_file(path);
    })
}

#[cfg(not(unix))]
pub(crate) fn write_new(_path: &Path, _line: &str) -> std::io::Result<()> {
    Err(std::io::Error::other("key files need the permissions of a unix file system"))
}

/// An absolute directory that a variable of the environment names.
pub(crate) fn directory_of(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Where this program keeps what it makes by itself.
pub(crate) fn state_directory() -> Result<PathBuf, Problem> {
    let state = directory_of("XDG_STATE_HOME");
    let state = state.or_else(|| directory_of("HOME").map(|home| home.join(".local").join("state")));
    state.map(|state| state.join("cvm")).ok_or_else(|| {
        Problem::new(Code::ConfigInvalid, "neither XDG_STATE_HOME nor HOME is set").hint("set one of them")
    })
}

/// The file of a named key.
fn named(name: &str) -> Result<PathBuf, Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(plain) {
        let problem = Problem::new(
            Code::InvalidValue,
            "a key's name has 1 to 64 letters, digits, dots, dashes or underscores",
        );
        return Err(problem.hint("cvm key new me"));
    }
    let home =
        directory_of("XDG_CONFIG_HOME").or_else(|| directory_of("HOME").map(|home| home.join(".config")));
    let home = home.ok_or_else(|| {
        let problem = Problem::new(Code::ConfigInvalid, "neither XDG_CONFIG_HOME nor HOME is set");
        problem.hint("name the file: --key file:/path/to/key")
    })?;
    Ok(home.join("cvm").join("keys").join(name))
}

fn from_file(path: &Path) -> Result<Keys, Problem> {
    let text = secret_file(path, "key")?;
    parse_key(&text, &format!("file:{}", Printable(&path.to_string_lossy())))
}

/// Reads a file that only we can read; `what` says what is in it.
pub(crate) fn secret_file(path: &Path, what: &str) -> Result<Zeroizing<String>, Problem> {
    let shown = Printable(&path.to_string_lossy()).to_string();
    let fail = |why: String| {
        let problem =
            Problem::new(Code::ConfigInvalid, format!("the {what} file {shown} could not be read: {why}"));
        if what == "key" {
            problem.hint("make a key: cvm key new me")
        } else {
            problem.hint("name another file")
        }
    };
    let file = std::fs::File::open(path).map_err(|error| fail(error.to_string()))?;
    let data = file.metadata().map_err(|error| fail(error.to_string()))?;
    if !data.is_file() {
        return Err(fail("it is not a file".to_owned()));
    }
    check_private(&data, &format!("the {what} file {shown}"), &shown)?;
    read_secret(file).map_err(fail)
}

/// Reads a secret into memory that does not grow while it is read, since growing leaves a copy behind.
fn read_secret(from: impl Read) -> Result<Zeroizing<String>, String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST * 2));
    from.take(LONGEST as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > LONGEST {
        return Err(format!("it has more than {LONGEST} bytes"));
    }
    let text = core::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(unix)]
fn check_private(data: &std::fs::Metadata, what: &str, path: &str) -> Result<(), Problem> {
    use std::os::unix::fs::MetadataExt as _;
    let unsafe_because = |why: &str, hint: String| {
        let problem = Problem::new(Code::InsecurePermissions, format!("{what} is not safe"));
        Err(problem.fact(why.to_owned()).hint(hint))
    };
    if data.uid() != rustix::process::geteuid().as_raw() {
        return unsafe_because("it belongs to another user", "take a file of your own".to_owned());
    }
    if data.mode() & 0o077 != 0 {
        let why = format!("its mode is {:04o}: others may use it", data.mode() & 0o7777);
        return unsafe_because(&why, format!("chmod 600 {path}"));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_data: &std::fs::Metadata, what: &str, _path: &str) -> Result<(), Problem> {
    let problem = Problem::new(Code::InsecurePermissions, format!("{what} cannot be checked on this system"));
    Err(problem.hint("use env:NAME"))
}

fn parse_key(text: &str, origin: &str) -> Result<Keys, Problem> {
    Keys::parse(text.trim()).map_err(|error| {
        let problem = Problem::new(Code::BadKey, format!("{origin} holds no usable key: {error}"));
        problem.hint("make a key: cvm key new me")
    })
}

fn secret_refused() -> Problem {
    Problem::new(
        Code::SecretInArguments,
        "a secret key was given on the command line; it is not used and not shown",
    )
    .fact("every user of this machine can read command lines, and shells keep them")
    .fact("treat that key as known to others if it was a real one")
    .hint("cvm key new me, then --key me      or keep the key in a 0600 file: --key file:PATH")
}

/// Refuses a command line with a secret key on it; what comes after `--` belongs to another program.
pub(crate) fn refuse_secrets(argv: &[OsString]) -> Result<(), Problem> {
    let words = argv.iter().take_while(|arg| *arg != "--").filter_map(|arg| arg.to_str());
    for word in words {
        let value =
            word.strip_prefix("--").and_then(|flag| flag.split_once('=')).map_or(word, |(_, value)| value);
        let value = value.strip_prefix("-k").unwrap_or(value);
        if is_secret(value) {
            return Err(secret_refused());
        }
    }
    Ok(())
}

/// Turns core dumps off: they would hold every secret of this process.
pub(crate) fn keep_out_of_core_dumps() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        // A system that refuses to dump less is asked for nothing else.
        let _refused = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    }
}

/// Whether a word has the form of an encoded secret key.
pub(crate) fn is_secret(word: &str) -> bool {
    let begins = |start: &str| {
        let head = word.trim().as_bytes().get(..start.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
    };
    begins("nsec1") || begins("ncryptsec1")
}

/// Whether a word could be a secret key in hex; a public key looks the same.
fn is_hex_key(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Cuts whatever could be a secret key out of a text.
pub(crate) fn scrub(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if is_secret(word) || is_hex_key(word) {
            out.push_str("[hidden]");
            out.push_str(piece.get(word.len()..).unwrap_or_default());
        } else {
            out.push_str(piece);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa";

    #[test]
    fn a_key_in_place_of_a_reference_is_refused_and_not_repeated() {
        for text in
            ["nsec1abc", "NSEC1ABC", " nsec1abc", "file:nsec1abc", "env:nsec1abc", "ncryptsec1abc", HEX]
        {
            let problem = KeyRef::parse(text).unwrap_err();
            assert_eq!(problem.exit(), 2, "{text}");
            let shown = format!("{problem:?}").to_lowercase();
            assert!(!shown.contains("sec1abc") && !shown.contains(HEX), "{shown}");
        }
    }

    #[test]
    fn references_are_read() {
        assert_eq!(KeyRef::parse("file:/a/b").unwrap(), KeyRef::File("/a/b".into()));
        assert_eq!(KeyRef::parse("./k").unwrap(), KeyRef::File("./k".into()));
        assert_eq!(KeyRef::parse("env:NAME").unwrap(), KeyRef::Env("NAME".into()));
        assert_eq!(KeyRef::parse("ephemeral").unwrap(), KeyRef::Ephemeral);
        assert_eq!(KeyRef::parse("stdin").unwrap(), KeyRef::Stdin);
        assert!(KeyRef::parse("keyring:me").is_err());
        assert!(KeyRef::parse("../me").is_ok() && KeyRef::parse("..").is_err() && KeyRef::parse("").is_err());
    }

    #[test]
    fn secrets_are_found_anywhere_before_the_double_dash() {
        let argv = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        for words in [
            &["cvm", "call", "nsec1q"][..],
            &["cvm", "--key=nsec1q"],
            &["cvm", "-knsec1q"],
            &["cvm", "-k", "nsec1q"],
        ] {
            assert!(refuse_secrets(&argv(words)).is_err(), "{words:?}");
        }
        assert!(refuse_secrets(&argv(&["cvm", "serve", "--", "x", "nsec1q"])).is_ok());
        assert!(refuse_secrets(&argv(&["cvm", "call", "npub1q", "t", "text=nsec1q"])).is_ok());
    }

    #[test]
    fn a_secret_in_place_of_its_reference_is_refused_and_not_repeated() {
        for text in ["hunter2", "Bearer hunter2", "hunter2:x", "env:", "file:", "/hunter2", ""] {
            let problem = secret_text(text).unwrap_err();
            assert!(problem.exit() == 2 && !format!("{problem:?}").contains("hunter2"), "{text} {problem:?}");
        }
        assert_eq!(secret_text("env:NOT_SET_ANYWHERE").unwrap_err().exit(), 8);
    }

    #[test]
    fn secrets_are_cut_out_of_texts() {
        let text = format!("unexpected '{HEX}' and 'nsec1qqq' found");
        assert_eq!(scrub(&text), "unexpected '[hidden]' and '[hidden]' found");
        assert_eq!(scrub("nothing to hide: a-b 'c'"), "nothing to hide: a-b 'c'");
    }
}
