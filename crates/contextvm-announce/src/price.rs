//! What a tool, prompt or resource costs: `cap` tags (CEP-8).
use alloc::string::{String, ToString};
use core::cmp::Ordering;
use core::fmt;

use nostr::event::{Tag, Tags};

/// Name of the tag.
pub const CAP: &str = "cap";

/// What is priced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priced {
    /// A tool by name (`tools/call`).
    Tool(String),
    /// A prompt by name (`prompts/get`).
    Prompt(String),
    /// A resource by URI (`resources/read`).
    Resource(String),
}

impl Priced {
    /// Reads `tool:<name>`, `prompt:<name>` or `resource:<uri>`; anything else, also an empty name, is nothing priced.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (form, name) = text.split_once(':').filter(|(_, name)| !name.is_empty())?;
        match form {
            "tool" => Some(Self::Tool(name.to_string())),
            "prompt" => Some(Self::Prompt(name.to_string())),
            "resource" => Some(Self::Resource(name.to_string())),
            _ => None,
        }
    }

    /// Returns the name or URI.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Tool(name) | Self::Prompt(name) | Self::Resource(name) => name,
        }
    }
}

impl fmt::Display for Priced {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self {
            Self::Tool(_) => "tool",
            Self::Prompt(_) => "prompt",
            Self::Resource(_) => "resource",
        };
        write!(out, "{form}:{}", self.name())
    }
}

/// One price: amounts are text, exactly as they were written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Price {
    /// What costs it.
    pub capability: Priced,
    /// The amount, or the least of a range.
    pub amount: String,
    /// The most of a range.
    pub most: Option<String>,
    /// The unit, for instance `sats`; free text.
    pub unit: String,
}

impl Price {
    /// Reads a `cap` tag of at least four elements; `None` when it is none.
    #[must_use]
    pub fn parse(tag: &Tag) -> Option<Self> {
        match tag.as_slice() {
            [name, capability, amount, unit, ..] if name == CAP => Self::new(capability, amount, unit),
            _ => None,
        }
    }

    /// Makes a price of the three texts of a `cap` tag: `tool:echo`, `100` or `100-1000`, and a unit.
    #[must_use]
    pub fn new(capability: &str, amount: &str, unit: &str) -> Option<Self> {
        let capability = Priced::parse(capability)?;
        let (amount, most) = match amount.split_once('-') {
            Some((least, most)) if !least.is_empty() && !most.is_empty() => (least, Some(most)),
            _ => (amount, None),
        };
        let most = most.map(ToString::to_string);
        Some(Self { capability, amount: amount.to_string(), most, unit: unit.to_string() })
    }

    /// Reads every `cap` tag, in order; those that are none are left out.
    pub fn of(tags: &Tags) -> impl Iterator<Item = Self> {
        tags.iter().filter_map(Self::parse)
    }

    /// Makes the `cap` tag.
    #[must_use]
    pub fn to_tag(&self) -> Tag {
        Tag::custom(CAP, [self.capability.to_string(), self.amounts(), self.unit.clone()])
    }

    /// Returns the amount as the tag has it: one, or a range.
    #[must_use]
    pub fn amounts(&self) -> String {
        match &self.most {
            Some(most) => alloc::format!("{}-{most}", self.amount),
            None => self.amount.clone(),
        }
    }

    /// Returns the most that may be asked: the greater end of a range, whichever way round it was written.
    #[must_use]
    pub fn at_most(&self) -> &str {
        let most = self.most.as_deref().unwrap_or(&self.amount);
        if compare_amounts(most, &self.amount) == Some(Ordering::Less) { &self.amount } else { most }
    }

    /// Whether nothing is asked: each amount is a decimal zero.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.is_up_to("0")
    }

    /// Whether the most that may be asked is within a limit; `false` also when the units differ or an amount is no decimal.
    #[must_use]
    pub fn is_within(&self, amount: &str, unit: &str) -> bool {
        self.is_free() || (same_unit(&self.unit, unit) && self.is_up_to(amount))
    }

    fn is_up_to(&self, limit: &str) -> bool {
        let mut amounts = core::iter::once(&self.amount).chain(&self.most);
        amounts.all(|amount| compare_amounts(amount, limit).is_some_and(Ordering::is_le))
    }
}

impl fmt::Display for Price {
    /// Prints `100-1000 sats` as it came; foreign text goes through [`contextvm_core::Printable`] before it is shown.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.amounts(), self.unit)
    }
}

/// Compares two decimal amounts (`12`, `0.5`) exactly; `None` when one is none.
#[must_use]
pub fn compare_amounts(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (decimal(a)?, decimal(b)?);
    let whole = a.0.len().cmp(&b.0.len()).then_with(|| a.0.cmp(b.0));
    Some(whole.then_with(|| a.1.cmp(b.1)))
}

/// Splits a decimal into its digits without leading zeros and its fraction without trailing ones.
fn decimal(text: &str) -> Option<(&str, &str)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(whole) && is_number(fraction))
        .then(|| (whole.trim_start_matches('0'), fraction.trim_end_matches('0')))
}

/// Whether two units are the same word but for case and a plural `s`.
fn same_unit(a: &str, b: &str) -> bool {
    let stem = |unit: &str| {
        let unit = unit.trim().to_ascii_lowercase();
        unit.strip_suffix('s').map(ToString::to_string).unwrap_or(unit)
    };
    stem(a) == stem(b)
}
