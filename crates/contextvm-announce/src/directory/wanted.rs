//! What a search asks for, as one filter over the view.
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::ServerEntry;
use crate::document::{DocumentKind, Item};
use crate::price::Price;

/// The most that a call may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MostPrice {
    /// A decimal amount.
    pub amount: String,
    /// Its unit; case and a plural `s` do not matter.
    pub unit: String,
}

impl MostPrice {
    /// Reads `10sats`, `10 sats` or `0.5usd`; `None` when it is no decimal amount with a unit.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, unit) = text.split_at_checked(end)?;
        crate::price::compare_amounts(amount, amount)?;
        Some(Self { amount: amount.to_string(), unit: unit.trim().to_string() })
    }
}

/// A filter: a server matches when everything that is set does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Words, each of which is in a name, a description, a tool's name or description, or a category; case does not matter.
    pub text: Option<String>,
    /// A pattern of which some tool's name is one: `*` is any text, `?` any character.
    pub tool: Option<String>,
    /// A category, whole; case does not matter.
    pub category: Option<String>,
    /// The beginning of the hash of a common schema that some tool claims to follow (hex).
    pub schema: Option<String>,
    /// All tools, or all that match `tool`, are free.
    pub free: bool,
    /// All tools, or all that match `tool`, cost at most this.
    pub most: Option<MostPrice>,
    /// The server says that it understands encryption.
    pub encrypted: bool,
    /// It was last seen at this time or later, Unix seconds.
    pub since: Option<u64>,
}

impl Wanted {
    /// Whether a server is wanted.
    #[must_use]
    pub fn matches(&self, server: &ServerEntry) -> bool {
        (!self.encrypted || server.claims(|tags| tags.encryption))
            && self.since.is_none_or(|since| server.last_seen().is_some_and(|seen| seen >= since))
            && self.text.as_deref().is_none_or(|text| has_words(server, text))
            && self.category.as_deref().is_none_or(|category| has_category(server, category))
            && self.schema.as_deref().is_none_or(|schema| follows(server, schema))
            && self.has_tool(server)
            && self.is_affordable(server)
    }

    /// Lists the tools that the pattern admits: all when there is none.
    pub fn tools<'a>(&'a self, server: &'a ServerEntry) -> impl Iterator<Item = &'a Item> {
        let tools = server.tools().map(|tools| tools.items.as_slice()).unwrap_or_default();
        tools.iter().filter(|tool| self.tool.as_deref().is_none_or(|pattern| is_like(&tool.name, pattern)))
    }

    fn has_tool(&self, server: &ServerEntry) -> bool {
        self.tool.is_none() || self.tools(server).next().is_some()
    }

    fn is_affordable(&self, server: &ServerEntry) -> bool {
        let is_wanted = |price: &&&Price| {
            let name = price.capability.name();
            self.tool.as_deref().is_none_or(|pattern| is_like(name, pattern))
        };
        server.prices(DocumentKind::Tools).iter().filter(is_wanted).all(|price| {
            (!self.free || price.is_free())
                && self.most.as_ref().is_none_or(|most| price.is_within(&most.amount, &most.unit))
        })
    }
}

fn has_words(server: &ServerEntry, text: &str) -> bool {
    let mut texts: Vec<String> = server.names().cloned().collect();
    texts.extend(server.about());
    texts.extend(server.profile().and_then(|part| part.document.about.clone()));
    texts.push(server.key().to_hex());
    if let Some(tools) = server.tools() {
        texts.extend(tools.categories.iter().cloned());
        texts.extend(tools.items.iter().map(|tool| tool.name.clone()));
        texts.extend(tools.items.iter().filter_map(|tool| tool.text("description")));
    }
    let texts: Vec<String> = texts.iter().map(|text| text.to_lowercase()).collect();
    text.to_lowercase().split_whitespace().all(|word| texts.iter().any(|text| text.contains(word)))
}

fn has_category(server: &ServerEntry, category: &str) -> bool {
    let wanted = category.trim().to_lowercase();
    server.tools().is_some_and(|tools| tools.categories.iter().any(|own| own.to_lowercase() == wanted))
}

fn follows(server: &ServerEntry, schema: &str) -> bool {
    let schema = schema.trim().to_ascii_lowercase();
    server.tools().is_some_and(|tools| tools.schemas.iter().any(|tag| tag.hash.starts_with(&schema)))
}

/// Whether a name is of a pattern with `*` and `?`; takes at most the product of both lengths.
fn is_like(name: &str, pattern: &str) -> bool {
    let (name, pattern): (Vec<char>, Vec<char>) = (name.chars().collect(), pattern.chars().collect());
    let (mut at, mut of) = (0, 0);
    // Where the latest star stands and how far it reaches.
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = name.get(at) {
        match pattern.get(of) {
            Some('*') => {
                star = Some((of, at));
                of += 1;
            }
            Some(p) if *p == '?' || p == c => {
                at += 1;
                of += 1;
            }
            _ => match star {
                Some((place, reach)) => {
                    star = Some((place, reach + 1));
                    at = reach + 1;
                    of = place + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(of).all(|p| *p == '*')
}
