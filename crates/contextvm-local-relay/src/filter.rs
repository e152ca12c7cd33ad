//! Subscriptions (NIP-01): reading their filters, and matching events against them.
use nostr::event::Event;
use nostr::filter::Filter;
use serde_json::value::RawValue;

/// Longest subscription id taken, bytes.
pub(crate) const MAX_SUBSCRIPTION_ID: usize = 64;

/// Most ids, keys, kinds and tag values that the subscriptions of a connection may name; each takes some 400 bytes.
pub(crate) const MAX_VALUES: usize = 8_192;
/// A tag value counts once more for each of these bytes that it has.
const VALUE_BYTES: usize = 256;

/// Counts what filters name.
pub(crate) fn values(filters: &[Filter]) -> usize {
    let count = |filter: &Filter| {
        filter.ids.as_ref().map_or(0, |ids| ids.len())
            + filter.authors.as_ref().map_or(0, |authors| authors.len())
            + filter.kinds.as_ref().map_or(0, |kinds| kinds.len())
            + filter.generic_tags.values().flatten().map(|value| 1 + value.len() / VALUE_BYTES).sum::<usize>()
    };
    filters.iter().map(count).sum()
}

/// Reads the filters of a REQ; the error is the text of `CLOSED`.
pub(crate) fn read(subscription: &str, filters: &[&RawValue], most: usize) -> Result<Vec<Filter>, String> {
    if subscription.is_empty() || subscription.len() > MAX_SUBSCRIPTION_ID {
        return Err(format!("invalid: subscription id must have 1 to {MAX_SUBSCRIPTION_ID} bytes"));
    }
    if filters.len() > most {
        return Err(format!("invalid: more than {most} filters"));
    }
    let read = filters.iter().map(|filter| Filter::from_json(filter.get()));
    let read: Vec<Filter> = read.collect::<Result<_, _>>().map_err(|_| "invalid: bad filter".to_owned())?;
    if values(&read) > MAX_VALUES {
        return Err(format!("invalid: more than {MAX_VALUES} values"));
    }
    Ok(read)
}

/// Says whether any of the filters takes the event.
pub(crate) fn any_matches(filters: &[Filter], event: &Event) -> bool {
    filters.iter().any(|filter| matches(filter, event))
}

/// Says whether one filter takes the event; a list that is present and empty takes nothing.
pub(crate) fn matches(filter: &Filter, event: &Event) -> bool {
    filter.ids.as_ref().is_none_or(|ids| ids.contains(&event.id))
        && filter.kinds.as_ref().is_none_or(|kinds| kinds.contains(&event.kind))
        && filter.authors.as_ref().is_none_or(|authors| authors.contains(&event.pubkey))
        && filter.since.is_none_or(|since| event.created_at >= since)
        && filter.until.is_none_or(|until| event.created_at <= until)
        && filter.generic_tags.iter().all(|(name, wanted)| {
            event
                .tags
                .iter()
                .filter(|tag| tag.kind() == name.as_str())
                .any(|tag| tag.content().is_some_and(|value| wanted.contains(value)))
        })
}

/// Lists the `#p` values when every filter names some, so that the subscription can be found by recipient.
pub(crate) fn recipients(filters: &[Filter]) -> Option<Vec<String>> {
    let mut values = Vec::new();
    for filter in filters {
        let (_, wanted) = filter.generic_tags.iter().find(|(name, _)| name.as_str() == "p")?;
        values.extend(wanted.iter().cloned());
    }
    values.sort();
    values.dedup();
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event, keys};

    fn filter(json: &str) -> Filter {
        Filter::from_json(json).unwrap()
    }

    #[test]
    fn every_condition_of_a_filter_must_hold() {
        let note = event(&keys(1), 1, 100, &[&["p", "aa"], &["t", "x"]], "hello");
        let author = note.pubkey.to_hex();
        let id = note.id.to_hex();
        for taken in [
            "{}".to_owned(),
            format!(r#"{{"ids":["{id}"]}}"#),
            format!(r#"{{"authors":["{author}"],"kinds":[0,1]}}"#),
            r##"{"#p":["aa","bb"],"#t":["x"],"since":100,"until":100}"##.to_owned(),
        ] {
            assert!(matches(&filter(&taken), &note), "{taken}");
        }
        for refused in [
            r#"{"ids":[]}"#.to_owned(),
            r#"{"kinds":[]}"#.to_owned(),
            r#"{"kinds":[2]}"#.to_owned(),
            r#"{"since":101}"#.to_owned(),
            r#"{"until":99}"#.to_owned(),
            r##"{"#p":["aa"],"#t":["y"]}"##.to_owned(),
            r##"{"#p":[]}"##.to_owned(),
            format!(r#"{{"authors":["{author}"],"kinds":[2]}}"#),
        ] {
            assert!(!matches(&filter(&refused), &note), "{refused}");
        }
    }

    #[test]
    fn a_tag_filter_takes_any_single_letter_and_minds_its_case() {
        let letters = ('a'..='z').chain('A'..='Z');
        for letter in letters {
            let name = letter.to_string();
            let tagged = event(&keys(1), 1111, 100, &[&[&name, "x"]], "");
            let other = if letter.is_ascii_lowercase() {
                letter.to_ascii_uppercase()
            } else {
                letter.to_ascii_lowercase()
            };
            assert!(matches(&filter(&format!(r##"{{"#{name}":["y","x"]}}"##)), &tagged), "{letter}");
            assert!(!matches(&filter(&format!(r##"{{"#{other}":["x"]}}"##)), &tagged), "{letter}");
            assert!(!matches(&filter(&format!(r##"{{"#{name}":["y"]}}"##)), &tagged), "{letter}");
        }
    }

    #[test]
    fn recipients_are_known_only_when_every_filter_names_them() {
        let with = filter(r##"{"#p":["bb","aa"]}"##);
        let without = filter(r#"{"kinds":[1]}"#);
        assert_eq!(recipients(&[with.clone(), with.clone()]), Some(vec!["aa".to_owned(), "bb".to_owned()]));
        assert_eq!(recipients(&[with, without]), None);
    }

    #[test]
    fn a_subscription_is_refused_with_its_reason() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let (good, bad) = (raw("{}"), raw(r#"{"ids":["zz"]}"#));
        assert_eq!(read("s", &[&good, &good], 2), Ok(vec![Filter::default(); 2]));
        assert_eq!(read("s", &[&good, &good], 1), Err("invalid: more than 1 filters".to_owned()));
        assert_eq!(read("s", &[&bad], 1), Err("invalid: bad filter".to_owned()));
        let kinds = |most: usize| raw(&format!(r#"{{"kinds":{:?}}}"#, (0..most).collect::<Vec<_>>()));
        assert!(read("s", &[&kinds(4_096), &kinds(4_096)], 2).is_ok());
        assert_eq!(
            read("s", &[&kinds(4_096), &kinds(4_097)], 2),
            Err("invalid: more than 8192 values".to_owned())
        );
        let long = |bytes: usize| raw(&format!(r##"{{"#t":["{}"]}}"##, "x".repeat(bytes)));
        assert!(read("s", &[&long(256 * 8_191)], 1).is_ok());
        assert!(read("s", &[&long(256 * 8_192)], 1).is_err());
        for name in [String::new(), "a".repeat(65)] {
            assert!(read(&name, &[&good], 1).is_err());
        }
        assert!(read(&"a".repeat(64), &[&good], 1).is_ok());
    }
}
