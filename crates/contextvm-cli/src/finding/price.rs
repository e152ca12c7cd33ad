//! What a server asks for: all announced prices as one short text.
use std::cmp::Ordering;

use contextvm::announce::price::compare_amounts;
use contextvm::announce::{DocumentKind, Origin, Part, Price, ServerEntry, Sources};
use contextvm::core::Printable;

/// Longest amount or unit shown, characters.
const LONGEST: usize = 12;

/// All prices of a server in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pricing {
    /// It announces none.
    Free,
    /// From the least to the most, in one unit.
    Range { least: String, most: String, unit: String },
    /// In several units, or with amounts that are no numbers.
    Mixed,
}

impl Pricing {
    pub(crate) fn of<'a>(prices: impl IntoIterator<Item = &'a Price>) -> Self {
        let mut all = Self::Free;
        for price in prices.into_iter().filter(|price| !price.is_free()) {
            let (least, most) = (price.amount.as_str(), price.at_most());
            if compare_amounts(least, most).is_none() {
                return Self::Mixed;
            }
            let unit = one_spelling(&price.unit);
            all = match all {
                Self::Free => Self::Range { least: least.to_owned(), most: most.to_owned(), unit },
                Self::Range { least: low, most: high, unit: same } if same == unit => Self::Range {
                    least: if is_more(&low, least) { least.to_owned() } else { low },
                    most: if is_more(most, &high) { most.to_owned() } else { high },
                    unit,
                },
                Self::Range { .. } | Self::Mixed => return Self::Mixed,
            };
        }
        all
    }

    /// Puts the cheapest first, and what cannot be compared last.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let rank = |pricing: &Self| match pricing {
            Self::Free => 0,
            Self::Range { .. } => 1,
            Self::Mixed => 2,
        };
        let amounts = |a: &str, b: &str| compare_amounts(a, b).unwrap_or(Ordering::Equal);
        match (self, other) {
            (
                Self::Range { least: low, most: high, unit },
                Self::Range { least: other_low, most: other_high, unit: other_unit },
            ) => unit.cmp(other_unit).then(amounts(low, other_low)).then(amounts(high, other_high)),
            (_, _) => rank(self).cmp(&rank(other)),
        }
    }

    pub(crate) fn shown(&self) -> String {
        let short = |text| Printable::short(text, LONGEST);
        match self {
            Self::Free => "free".to_owned(),
            Self::Range { least, most, unit } if is_more(most, least) => {
                format!("{}-{} {}", short(least), short(most), short(unit))
            }
            Self::Range { least, unit, .. } => format!("{} {}", short(least), short(unit)),
            Self::Mixed => "mixed".to_owned(),
        }
    }
}

/// Returns all prices of a server.
pub(crate) fn all(server: &ServerEntry) -> Vec<&Price> {
    let priced = [DocumentKind::Tools, DocumentKind::Resources, DocumentKind::Prompts];
    priced.into_iter().flat_map(|kind| server.prices(kind)).collect()
}

/// Returns every price with where it came from: those of the session, then those that are only announced.
pub(crate) fn by_origin(server: &ServerEntry) -> Vec<(&Price, Origin)> {
    let of_lists = |origin| {
        DocumentKind::LISTS
            .into_iter()
            .filter_map(move |kind| part(server.list_sources(kind)?, origin))
            .flat_map(|part| &part.document.prices)
    };
    let of_server =
        |origin| part(server.server_sources(), origin).into_iter().flat_map(|part| &part.document.prices);
    let mut all: Vec<(&Price, Origin)> = Vec::new();
    for origin in [Origin::Direct, Origin::Announced] {
        for price in of_lists(origin).chain(of_server(origin)) {
            if !all.iter().any(|(known, _)| *known == price) {
                all.push((price, origin));
            }
        }
    }
    all
}

/// Shows one price.
pub(crate) fn shown(price: &Price) -> String {
    format!("{} {}", Printable::short(&price.amounts(), 2 * LONGEST), Printable::short(&price.unit, LONGEST))
}

fn part<T>(sources: &Sources<T>, origin: Origin) -> Option<&Part<T>> {
    match origin {
        Origin::Announced => sources.announced.as_deref(),
        Origin::Direct => sources.direct.as_deref(),
    }
}

fn is_more(a: &str, b: &str) -> bool {
    compare_amounts(a, b) == Some(Ordering::Greater)
}

fn one_spelling(unit: &str) -> String {
    let lower = unit.trim().to_lowercase();
    if lower == "sat" { "sats".to_owned() } else { lower }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pricing(prices: &[(&str, &str)]) -> Pricing {
        let made = prices.iter().map(|(amount, unit)| Price::new("tool:a", amount, unit).unwrap());
        Pricing::of(&made.collect::<Vec<_>>())
    }

    #[test]
    fn prices_are_one_short_text() {
        for (prices, shown) in [
            (&[][..], "free"),
            (&[("0", "sats")], "free"),
            (&[("5", "sats")], "5 sats"),
            (&[("5", "sats"), ("10", "Sat"), ("7", "sats")], "5-10 sats"),
            (&[("0.5-9", "usd")], "0.5-9 usd"),
            (&[("5", "sats"), ("1", "usd")], "mixed"),
            (&[("much", "sats")], "mixed"),
            (&[("1", "\u{1b}[31m")], "1 \\u{1b}[31m"),
        ] {
            assert_eq!(pricing(prices).shown(), shown);
        }
    }

    #[test]
    fn the_cheapest_comes_first_and_the_incomparable_last() {
        let mut all = [
            pricing(&[("x", "sats")]),
            pricing(&[("10", "sats")]),
            pricing(&[]),
            pricing(&[("9", "sats"), ("30", "sats")]),
            pricing(&[("9", "sats")]),
        ];
        all.sort_by(Pricing::compare);
        let shown: Vec<String> = all.iter().map(Pricing::shown).collect();
        assert_eq!(shown, ["free", "9 sats", "9-30 sats", "10 sats", "mixed"]);
    }
}
