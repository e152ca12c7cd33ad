//! One argument as it was typed: `k=text`, `k:=json`, `k=@file`, `k:=@file`, `k=@@file`.
use std::fs::File;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{invalid, shown};
use crate::problem::Problem;

/// Largest file that is sent as an argument, bytes.
const LARGEST: u64 = 16 * 1024 * 1024;
/// Most names on the way to a field.
const STEPS: usize = 64;

/// What the value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// To be converted by the schema.
    Text(String),
    /// A string, whatever the schema says.
    String(String),
    /// JSON, whatever the schema says.
    Json(String),
}

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) key: String,
    pub(super) form: Form,
}

impl Argument {
    pub(super) fn parse(word: &str) -> Result<Self, Problem> {
        let Some((key, value)) = word.split_once('=') else {
            let problem = invalid(format!("{} is not name=value", shown(word)));
            return Err(problem.hint("name=text, name:=json, name=@file"));
        };
        let (key, forced) = key.strip_suffix(':').map_or((key, false), |key| (key, true));
        if key.is_empty() || key.split('.').any(str::is_empty) {
            return Err(invalid(format!("{} has no name before the =", shown(word))));
        }
        if key.split('.').count() > STEPS {
            return Err(invalid(format!("{} has more than {STEPS} names before the =", shown(word))));
        }
        let form = match (forced, value) {
            (true, value) => match value.strip_prefix('@') {
                Some(path) => Form::Json(json(key, &text_of(key, path)?)?),
                None => Form::Json(json(key, value)?),
            },
            (false, value) if value.starts_with("@@") => {
                Form::String(STANDARD.encode(bytes_of(key, value.trim_start_matches("@@"))?))
            }
            (false, value) => match value.strip_prefix('@') {
                Some(path) => Form::String(text_of(key, path)?),
                None => Form::Text(value.to_owned()),
            },
        };
        Ok(Self { key: key.to_owned(), form })
    }
}

/// Checks that a text is JSON and puts it on one line; numbers keep their form.
pub(super) fn json(key: &str, text: &str) -> Result<String, Problem> {
    serde_json::from_str::<&serde_json::value::RawValue>(text.trim())
        .map(|value| contextvm::core::object::compact(value.get()))
        .map_err(|error| {
            let problem = invalid(format!("the value of {} is not JSON", shown(key)));
            problem.fact(error.to_string()).hint(format!("without the colon it is text: {key}=..."))
        })
}

fn bytes_of(key: &str, path: &str) -> Result<Vec<u8>, Problem> {
    let fail = |why: String| {
        invalid(format!("the file for {} could not be read: {why}", shown(key)))
            .fact(format!("file {}", shown(path)))
            .hint(format!("for a text that begins with @ write {key}:='\"@...\"'"))
    };
    // Not every file says how long it is, and some have no end.
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > LARGEST => Err(fail(format!("it has more than {LARGEST} bytes"))),
        Ok(_) => Ok(bytes),
        Err(error) => Err(fail(error.to_string())),
    }
}

fn text_of(key: &str, path: &str) -> Result<String, Problem> {
    String::from_utf8(bytes_of(key, path)?).map_err(|_| {
        invalid(format!("the file for {} is not text", shown(key)))
            .hint(format!("send it as base64: {key}=@@{path}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(word: &str) -> Form {
        Argument::parse(word).unwrap().form
    }

    #[test]
    fn the_first_equals_sign_ends_the_name() {
        let argument = Argument::parse("url=http://x/?a:=1").unwrap();
        assert_eq!((argument.key.as_str(), argument.form), ("url", Form::Text("http://x/?a:=1".into())));
    }

    #[test]
    fn a_colon_forces_json_and_numbers_keep_their_form() {
        assert_eq!(form("n:=1.0e3"), Form::Json("1.0e3".into()));
        assert_eq!(
            form("n:=123456789012345678901234567890"),
            Form::Json("123456789012345678901234567890".into())
        );
        assert_eq!(form("n:=[ 1 , 2 ]"), Form::Json("[1,2]".into()));
        assert!(Argument::parse("n:=nope").is_err());
    }

    #[test]
    fn a_word_without_a_name_is_refused() {
        for word in ["value", "=x", ":=1", "a..b=1", ".a=1"] {
            assert!(Argument::parse(word).is_err(), "{word}");
        }
    }
}
