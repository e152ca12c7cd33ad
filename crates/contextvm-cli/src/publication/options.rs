//! What the command line says about a server in public, made into what the server wants to know.
use std::path::Path;

use contextvm::announce::{CommonSchemas, Profile};
use contextvm::core::Printable;
use contextvm::core::object::Object;
use contextvm::server::Identity;

use crate::args::Publication;
use crate::problem::{Code, Problem};
use crate::saved::file;

/// Longest file with a schema, bytes.
const LONGEST: u64 = 256 * 1024;
/// Longest text that a server says about itself, bytes.
const WORDS: usize = 4 * 1024;

/// Returns what callers are told; `own` is how the MCP server calls itself.
pub(crate) fn identity(publication: &Publication, own: Option<String>) -> Identity {
    Identity {
        name: publication.name.clone().or(own),
        about: publication.about.clone(),
        website: publication.website.clone(),
        picture: publication.picture.clone(),
        ..Identity::default()
    }
}

/// Returns the public profile (kind 0); none unless something was said that belongs there.
pub(crate) fn profile(publication: &Publication) -> Option<Profile> {
    let Publication { name, about, picture, website, nip05, lud16, .. } = publication.clone();
    let profile = Profile { name, about, picture, website, nip05, lud16, ..Profile::default() };
    (!profile.is_empty()).then_some(profile)
}

/// Returns where announcements go beside the server's own relays: `None` is the well-known six.
pub(crate) fn bootstrap(named: &[String]) -> Result<Option<Vec<String>>, Problem> {
    match named {
        [word] if word == "default" => Ok(None),
        [word] if word == "none" => Ok(Some(Vec::new())),
        urls => super::parse(urls)
            .map(|_| Some(urls.to_vec()))
            .map_err(|problem| problem.fact("--bootstrap takes: default, none, or URLs")),
    }
}

/// Returns which tools are of a common schema.
pub(crate) fn schemas(publication: &Publication) -> Result<CommonSchemas, Problem> {
    let mut schemas = CommonSchemas::default();
    for category in &publication.categories {
        schemas = schemas.with_category(category);
    }
    for text in &publication.common_schemas {
        schemas = match text.split_once('=') {
            None => schemas.with_tool(text),
            Some((tool, path)) => literal(schemas, tool, path)?,
        };
    }
    Ok(schemas)
}

/// Reads literal schemas from a file: `{"inputSchema": .., "outputSchema": ..}`, or the input schema itself.
fn literal(schemas: CommonSchemas, tool: &str, path: &str) -> Result<CommonSchemas, Problem> {
    let shown = || Printable::short(path, 120).to_string();
    let fail = |why: String| {
        Problem::new(Code::ConfigInvalid, format!("{} is no common schema: {why}", shown()))
            .hint("it holds {\"inputSchema\": {...}, \"outputSchema\": {...}}, or the input schema itself")
    };
    let text =
        file::read(Path::new(path), LONGEST)?.ok_or_else(|| fail("there is no such file".to_owned()))?;
    let object = Object::parse(&text).map_err(|error| fail(error.to_string()))?;
    let (input, output) = match object.get("inputSchema") {
        Some(input) => (input.get(), object.get("outputSchema").map(|output| output.get())),
        None => (text.trim(), None),
    };
    schemas.with_literal(tool, input, output).map_err(|error| fail(error.to_string()))
}

/// Refuses what is only ever public where nothing is announced, and texts that no relay would take.
pub(crate) fn check(publication: &Publication, announce: bool) -> Result<(), Problem> {
    let only_public = [
        ("--nip05", publication.nip05.is_some()),
        ("--lud16", publication.lud16.is_some()),
        ("--category", !publication.categories.is_empty()),
    ];
    if let (false, Some((flag, _))) = (announce, only_public.iter().find(|(_, is_said)| *is_said)) {
        let problem = Problem::new(Code::MissingArgument, format!("{flag} is said in public only"));
        return Err(problem.fact("nothing is announced").hint("add --announce"));
    }
    let texts = [
        ("--name", &publication.name),
        ("--about", &publication.about),
        ("--picture", &publication.picture),
        ("--website", &publication.website),
        ("--nip05", &publication.nip05),
        ("--lud16", &publication.lud16),
    ];
    for (flag, text) in texts {
        if text.as_ref().is_some_and(|text| text.len() > WORDS) {
            let problem = Problem::new(Code::InvalidValue, format!("{flag} has more than {WORDS} bytes"));
            return Err(problem.hint("say it shorter"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication() -> Publication {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            publication: Publication,
        }
        Line::parse_from(["x"]).publication
    }

    #[test]
    fn what_is_public_only_is_not_said_in_private() {
        assert!(check(&publication(), false).is_ok());
        let named = Publication { name: Some("n".to_owned()), ..publication() };
        assert!(
            check(&named, false).is_ok() && profile(&named).is_some() && profile(&publication()).is_none()
        );
        let public = Publication { nip05: Some("a@b.example".to_owned()), ..publication() };
        assert!(check(&public, false).is_err() && check(&public, true).is_ok());
        let long = Publication { about: Some("x".repeat(WORDS + 1)), ..publication() };
        assert!(check(&long, true).is_err());
    }

    #[test]
    fn bootstrap_relays_are_the_six_none_or_named() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(bootstrap(&publication().bootstrap), Ok(None));
        assert_eq!(bootstrap(&words(&["none"])), Ok(Some(Vec::new())));
        assert_eq!(bootstrap(&words(&["wss://a.example"])), Ok(Some(words(&["wss://a.example"]))));
        assert!(bootstrap(&words(&["none", "wss://a.example"])).is_err());
    }
}
