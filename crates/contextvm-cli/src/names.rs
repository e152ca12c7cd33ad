//! Who a text names: a saved server, a key, a name at a domain, or whoever has a tool of a schema.
use contextvm::ServerIdentity;
use contextvm::client::names::{Name, NameError, Nip05, SchemaName};
use contextvm::client::nip05::{self, NameOptions, Nip05Error};
use contextvm::core::{IdentityError, Printable};

use nostr::key::PublicKey;

use crate::args::Global;
use crate::finding;
use crate::keys::npub;
use crate::nearest::nearest;
use crate::output::Talk;
use crate::problem::{Code, Problem};
use crate::saved::{self, SavedServer};

/// A server that was named.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) server: ServerIdentity,
    /// How it is saved, whatever it was called: its tools were agreed to under every name.
    pub(crate) saved: Option<SavedServer>,
    /// The relays that it was saved with, if it was called by its saved name.
    pub(crate) relays: Vec<String>,
}

impl Named {
    /// Returns the relays that a person named: now with `--relay`, or when the server was saved.
    pub(crate) fn relays<'a>(&'a self, global: &'a Global) -> &'a [String] {
        if global.relays.is_empty() { &self.relays } else { &global.relays }
    }
}

impl From<SavedServer> for Named {
    fn from(saved: SavedServer) -> Self {
        Self { server: saved.server.clone(), relays: saved.relays.clone(), saved: Some(saved) }
    }
}

impl From<ServerIdentity> for Named {
    fn from(server: ServerIdentity) -> Self {
        Self { server, saved: None, relays: Vec::new() }
    }
}

/// Finds out whom a text names. Saved names come before domains, and keys before both.
pub(crate) async fn resolve(text: &str, global: &Global, talk: &Talk) -> Result<Named, Problem> {
    let mut named = meant(text, global, talk).await?;
    if named.saved.is_none() {
        named.saved = saved::find_key(&named.server.key)?;
    }
    Ok(named)
}

async fn meant(text: &str, global: &Global, talk: &Talk) -> Result<Named, Problem> {
    let parsed = text.parse::<Name>();
    match &parsed {
        Ok(Name::Server(server)) => return Ok(server.clone().into()),
        Ok(_) | Err(NameError::Identity(IdentityError::Form) | NameError::Nip05) => {}
        Err(error) => return Err(unclear(&error.to_string())),
    }
    if let Some(saved) = saved::find(text.trim())? {
        talk.detail(&format!("{} is the saved name of {}", Printable(text), npub(&saved.server.key)));
        return Ok(saved.into());
    }
    match parsed {
        Ok(Name::Nip05(name)) => at_domain(&name, global, talk).await,
        Ok(Name::Schema(schema)) => Box::pin(with_schema(&schema, global, talk)).await,
        Ok(_) | Err(_) => Err(unknown(text)?),
    }
}

/// Asks the domain whose key stands behind the name.
async fn at_domain(name: &Nip05, global: &Global, talk: &Talk) -> Result<Named, Problem> {
    let options = NameOptions::default().with_dangerous_local(global.local_relays);
    let server = nip05::resolve(name, &options).await.map_err(|error| {
        let code = if matches!(error, Nip05Error::Fetch(_)) { Code::NameUnreachable } else { Code::NotFound };
        let (shown, why) = (name.to_string(), error.to_string());
        Problem::new(code, format!("{} names no server: {}", Printable(&shown), Printable(&why)))
            .fact("no saved server has this name")
            .fact(format!(
                "asked: {}/.well-known/nostr.json?name={}",
                Printable(&name.domain),
                Printable(&name.name)
            ))
            .hint("ask its owner for the npub, or look for it: cvm discover")
    })?;
    talk.detail(&format!("{} says that {name} is {}", Printable(&name.domain), npub(&server.key)));
    Ok(server.into())
}

/// Looks for the one server with a tool of this schema; of several a person has to choose.
async fn with_schema(schema: &SchemaName, global: &Global, talk: &Talk) -> Result<Named, Problem> {
    let found = finding::providers(schema, global, talk).await?;
    let mut servers: Vec<PublicKey> = found.verified.iter().map(|provider| provider.server).collect();
    servers.dedup();
    let choose = format!("choose one: cvm discover --schema {}", schema.digits());
    if let hashes @ [_, _, ..] = found.hashes().as_slice() {
        let problem =
            Problem::new(Code::InvalidValue, format!("{schema} is the beginning of several schemas"));
        let problem = hashes.iter().take(5).fold(problem, |problem, hash| problem.fact(hash.to_string()));
        return Err(problem.hint("write more digits"));
    }
    let known = saved::all()?;
    let saved: Vec<&SavedServer> = known.iter().filter(|saved| servers.contains(&saved.server.key)).collect();
    match (saved.as_slice(), servers.as_slice()) {
        ([one], _) => {
            talk.say(&format!("{schema}: the saved server {} has it", Printable(&one.name)));
            Ok((*one).clone().into())
        }
        (_, []) => {
            let problem = Problem::new(Code::NotFound, "no announced server has a tool of this schema");
            Err(problem.fact(format!("asked for {schema}")).hint("cvm discover"))
        }
        (_, [one]) => {
            talk.say(&format!("{schema}: {} has it", npub(one)));
            Ok(ServerIdentity::from(*one).into())
        }
        (_, several) => {
            let problem = Problem::new(
                Code::InvalidValue,
                format!("{} servers have a tool of this schema", several.len()),
            );
            Err(several.iter().take(5).fold(problem, |problem, key| problem.fact(npub(key))).hint(choose))
        }
    }
}

fn unclear(why: &str) -> Problem {
    Problem::new(Code::InvalidValue, format!("the server is not understood: {why}"))
        .fact("it is named by npub1..., nprofile1..., naddr1..., 64 hex digits, name@domain, a domain or schema:HASH")
        .hint("cvm ls npub1...")
}

/// Says what was tried, and which saved name is near.
fn unknown(text: &str) -> Result<Problem, Problem> {
    let known = saved::all()?;
    let problem = Problem::new(
        Code::InvalidValue,
        format!("nobody is known as \"{}\"", Printable::short(text.trim(), 80)),
    );
    let problem = problem
        .fact(format!("no saved server has this name; {} are saved", known.len()))
        .fact("it is no key either: npub1..., nprofile1..., naddr1..., nostr:... or 64 hex digits")
        .fact("and no name@domain, domain or schema:HASH");
    Ok(match nearest(text.trim(), known.iter().map(|saved| saved.name.as_str())) {
        Some(near) => problem.fact(format!("did you mean: {}", Printable(near))).hint("cvm ls"),
        None => problem.hint(format!("look for it: cvm discover {}", shell_word(text.trim()))),
    })
}

/// Shows a word so that it can be pasted into a shell.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.len() <= 60 && word.chars().all(plain) {
        word.to_owned()
    } else {
        "QUERY".to_owned()
    }
}
