//! What a search finds.
use contextvm_announce::{Directory, DirectoryLimits, MostPrice, Wanted};
use contextvm_core::kind;

use crate::stage::{INITIALIZE, NOW, keys, signed, tools};

fn view() -> Directory {
    let mut view = Directory::new(DirectoryLimits::default());
    let (weather, search) = (keys(1), keys(2));
    let tags: &[&[&str]] = &[&["name", "Demo Wëather"], &["about", "Forecasts"], &["support_encryption"]];
    view.add(&signed(&weather, kind::SERVER_ANNOUNCEMENT, NOW, tags, INITIALIZE), NOW).unwrap();
    let caps: &[&[&str]] = &[
        &["cap", "tool:get_current", "5", "sats"],
        &["cap", "tool:get_forecast", "10-50", "sats"],
        &["cap", "prompt:greet", "900", "sats"],
        &["i", "f8e7d6aa", "get_current"],
        &["k", "io.contextvm/common-schema"],
        &["t", "Weather"],
    ];
    view.add(&tools(&weather, NOW, caps, &["get_current", "get_forecast", "ping"]), NOW).unwrap();
    view.add(&signed(&search, kind::SERVER_ANNOUNCEMENT, NOW - 100, &[&["name", "Search"]], INITIALIZE), NOW)
        .unwrap();
    view.add(&tools(&search, NOW - 100, &[], &["web_search"]), NOW).unwrap();
    view
}

fn found(wanted: &Wanted) -> Vec<String> {
    let mut names: Vec<String> =
        view().servers().filter(|server| wanted.matches(server)).map(|server| server.name()).collect();
    names.sort();
    names
}

const WEATHER: &str = "Demo Wëather";

#[test]
fn every_filter_finds_what_it_says() {
    let text = |text: &str| Wanted { text: Some(text.into()), ..Wanted::default() };
    let tool = |tool: &str| Wanted { tool: Some(tool.into()), ..Wanted::default() };
    let most = |most: &str| Wanted { most: MostPrice::parse(most), ..Wanted::default() };
    let category = |category: &str| Wanted { category: Some(category.into()), ..Wanted::default() };
    let schema = |schema: &str| Wanted { schema: Some(schema.into()), ..Wanted::default() };
    let free = Wanted { free: true, ..Wanted::default() };
    let encrypted = Wanted { encrypted: true, ..Wanted::default() };
    let since = Wanted { since: Some(NOW - 10), ..Wanted::default() };
    let table: &[(Wanted, &[&str])] = &[
        (Wanted::default(), &[WEATHER, "Search"]),
        (text("WËATHER forecasts"), &[WEATHER]),
        (text("ping"), &[WEATHER]),
        (text("weather search"), &[]),
        (text(" "), &[WEATHER, "Search"]),
        (tool("get_*"), &[WEATHER]),
        (tool("*_?earch"), &["Search"]),
        (tool("get"), &[]),
        (category("weather"), &[WEATHER]),
        (category("weath"), &[]),
        (schema("F8E7d6"), &[WEATHER]),
        (schema("e7d6"), &[]),
        (free.clone(), &["Search"]),
        (Wanted { tool: Some("ping".into()), ..free }, &[WEATHER]),
        (most("49 sats"), &["Search"]),
        (most("50sats"), &[WEATHER, "Search"]),
        (most("50usd"), &["Search"]),
        (Wanted { tool: Some("get_current".into()), ..most("5sat") }, &[WEATHER]),
        (encrypted, &[WEATHER]),
        (since, &[WEATHER]),
    ];
    for (wanted, expected) in table {
        assert_eq!(&found(wanted), expected, "{wanted:?}");
    }
}

#[test]
fn patterns_of_stars_take_no_time_and_amounts_without_unit_are_none() {
    let hard = format!("{}b", "*a".repeat(200));
    let mut view = Directory::new(DirectoryLimits::default());
    view.add(&tools(&keys(1), NOW, &[], &[&"a".repeat(2_000)]), NOW).unwrap();
    let wanted = |tool: &str| Wanted { tool: Some(tool.into()), ..Wanted::default() };
    assert_eq!(view.servers().filter(|server| wanted(&hard).matches(server)).count(), 0);
    assert_eq!(view.servers().filter(|server| wanted("a*?**a").matches(server)).count(), 1);
    let parsed = |text| MostPrice::parse(text).map(|most| (most.amount, most.unit));
    assert_eq!(parsed(" 0.5 usd "), Some(("0.5".into(), "usd".into())));
    assert_eq!(parsed("10sats"), Some(("10".into(), "sats".into())));
    for none in ["", "10", "sats", "-1sats", "1.2.3 sats", ". sats"] {
        assert_eq!(parsed(none), None, "{none}");
    }
}
