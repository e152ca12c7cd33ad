//! How the application is met, in both eras, and what its lists become.
use contextvm_announce::{AnnounceError, AnnouncerInput, Price, Unsigned};
use nostr::event::Tag;

use crate::stage::{App, Stage, announcing, kinds, of_kind, tags};

const ALL: &str = r#"{"tools":{"listChanged":true},"prompts":{},"resources":{"listChanged":true}}"#;

type Expected = fn(&AnnounceError) -> bool;

fn contents(events: &[Unsigned]) -> Vec<(u16, &str)> {
    let mut contents: Vec<_> = events.iter().map(|event| (event.kind, event.content.as_str())).collect();
    contents.sort_unstable();
    contents
}

#[test]
fn an_application_of_the_older_era_is_initialised_and_asked_for_what_it_declares() {
    let app = App::legacy(ALL)
        .with("tools/list", &[r#"{"tools":[{"name":"a"}], "_meta":{"x":1}}"#])
        .with("resources/list", &[r#"{"resources":[ ]}"#])
        .with("prompts/list", &[r#"{"prompts":[]}"#]);
    let (mut stage, published) = Stage::started(announcing(), app);
    assert_eq!(
        stage.methods(),
        [
            "initialize",
            "notifications/initialized",
            "tools/list",
            "resources/list",
            "resources/templates/list",
            "prompts/list"
        ]
    );
    let server = format!(
        r#"{{"protocolVersion":"2025-11-25","capabilities":{ALL},"serverInfo":{{"name":"s","version":"1"}}}}"#
    );
    let expected = [
        (11316, server.as_str()),
        (11317, r#"{"tools":[{"name":"a"}],"_meta":{"x":1}}"#),
        (11318, r#"{"resources":[]}"#),
        (11320, r#"{"prompts":[]}"#),
    ];
    assert_eq!(contents(&published), expected, "no templates: the method is not found");
    assert_eq!((stage.settled, stage.failed.len()), (1, 0));
}

#[test]
fn what_is_not_declared_is_not_asked_for() {
    let (mut stage, published) = Stage::started(announcing(), App::legacy(r#"{"prompts":null,"x":{}}"#));
    assert_eq!(stage.methods(), ["initialize", "notifications/initialized"]);
    assert_eq!(kinds(&published), [11316]);
}

#[test]
fn an_application_of_the_newer_era_is_discovered_and_listened_to() {
    let app = App::modern(ALL)
        .with("tools/list", &[r#"{"tools":[],"nextCursor":"1","ttlMs":5}"#, r#"{"tools":[{"name":"b"}]}"#]);
    let mut stage = Stage::new(announcing(), app);
    stage.app.silent.push("subscriptions/listen".to_owned());
    let published = stage.tell(AnnouncerInput::Start);
    let meta = concat!(
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
        r#""io.modelcontextprotocol/clientInfo":{"name":"contextvm-announcer","version":""#,
        env!("CARGO_PKG_VERSION"),
        r#""},"io.modelcontextprotocol/clientCapabilities":{}}"#
    );
    let asked = |method: &str, members: &str| (method.to_owned(), format!("{{{members}{meta}}}"));
    let wanted = r#""notifications":{"toolsListChanged":true,"resourcesListChanged":true},"#;
    assert_eq!(
        stage.asked[1..],
        [
            asked("server/discover", ""),
            asked("subscriptions/listen", wanted),
            asked("tools/list", ""),
            asked("resources/list", ""),
            asked("resources/templates/list", ""),
            asked("prompts/list", ""),
            asked("tools/list", r#""cursor":"1","#),
        ]
    );
    assert_eq!(kinds(&published), [11316, 11317]);
    assert_eq!(of_kind(&published, 11317).content, r#"{"tools":[{"name":"b"}],"ttlMs":5}"#);
    assert!(of_kind(&published, 11316).content.contains("supportedVersions"));
}

#[test]
fn a_subscription_that_ends_is_opened_again_and_one_that_is_unknown_is_not() {
    let modern = App::modern(r#"{"tools":{"listChanged":true}}"#).with("tools/list", &[r#"{"tools":[]}"#]);
    let ending = modern.clone().with("subscriptions/listen", &["{}"]);
    for (app, again) in [(ending, 3), (modern, 0)] {
        let (mut stage, _) = Stage::started(announcing(), app);
        stage.methods();
        stage.wait_secs(5 + 10 + 20);
        assert_eq!(stage.methods().iter().filter(|method| *method == "subscriptions/listen").count(), again);
    }
}

#[test]
fn what_changed_while_nobody_listened_is_asked_for() {
    let app = App::modern(r#"{"tools":{"listChanged":true}}"#)
        .with("tools/list", &[r#"{"tools":[]}"#])
        .with("subscriptions/listen", &["{}"]);
    let (mut stage, _) = Stage::started(announcing(), app);
    stage.app = stage.app.clone().with("tools/list", &[r#"{"tools":[{"name":"b"}]}"#]);
    stage.app.silent.push("subscriptions/listen".to_owned());
    let published = stage.wait_secs(5 + 2);
    assert_eq!(kinds(&published), [11317]);
    assert_eq!(stage.wait_secs(3_600), []);
}

#[test]
fn an_application_that_ends_as_soon_as_it_is_met_is_met_ever_more_seldom() {
    let (mut stage, _) = Stage::started(announcing(), App::legacy("{}"));
    for attempts in [5..=12, 6..=6] {
        let (before, end) = (stage.opened, stage.now.mono.after(std::time::Duration::from_secs(3_600)));
        while stage.now.mono < end {
            stage.tell(AnnouncerInput::Ended);
            let opened = stage.opened;
            while stage.opened == opened && stage.now.mono < end {
                stage.wait_secs(1);
            }
        }
        assert!(attempts.contains(&(stage.opened - before)), "{}", stage.opened - before);
    }
    stage.wait_secs(3_600);
    let opened = stage.opened;
    stage.tell(AnnouncerInput::Ended);
    stage.wait_secs(5);
    assert_eq!(stage.opened, opened + 1, "a session that lasted is forgiven");
}

#[test]
fn an_application_that_starts_slowly_is_met_when_it_answers() {
    let app = App::legacy(r#"{"tools":{}}"#).with("tools/list", &[r#"{"tools":[]}"#]);
    let mut stage = Stage::new(announcing(), App { silent: vec!["initialize".into()], ..app.clone() });
    stage.app.silent.push("server/discover".into());
    assert!(stage.tell(AnnouncerInput::Start).is_empty());
    assert!(stage.wait_secs(40).is_empty());
    assert_eq!(stage.methods(), ["initialize", "server/discover"]);
    stage.app = app;
    let published = stage.answer_late("initialize");
    assert_eq!(kinds(&published), [11316, 11317]);
    assert_eq!(stage.asked[0].0, "notifications/initialized");
    assert_eq!(stage.asked[1], ("tools/list".to_owned(), "{}".to_owned()), "in the era in which it answered");
    assert!(stage.failed.is_empty() && stage.wait_secs(600).is_empty());
}

#[test]
fn an_answer_that_no_reader_takes_is_not_published_and_deletes_nothing() {
    let odd = [
        r#"{"protocolVersion":"2025-11-25","capabilities":[]}"#,
        r#"{"protocolVersion":"2025-11-25","capabilities":7}"#,
        r#"{"protocolVersion":"2025-11-25"}"#,
        r#"{"capabilities":{}}"#,
        r#"{"protocolVersion":7,"capabilities":{}}"#,
        "[]",
    ];
    for result in odd {
        let app = App::legacy(ALL).with("tools/list", &[r#"{"tools":[]}"#]);
        let (mut stage, published) = Stage::started(announcing(), app);
        assert_eq!(kinds(&published), [11316, 11317]);
        stage.app = App::default().with("initialize", &[result]);
        assert!(stage.tell(AnnouncerInput::Start).is_empty() && stage.wait_secs(1).is_empty(), "{result}");
        assert_eq!(stage.failed, [AnnounceError::Unreadable { method: "initialize" }], "{result}");
    }
}

#[test]
fn an_application_that_cannot_be_met_is_asked_again_later() {
    let (mut stage, published) = Stage::started(announcing(), App::default());
    assert_eq!((published.len(), stage.settled), (0, 1));
    assert_eq!(stage.failed, [AnnounceError::Refused { method: "server/discover", code: -32601 }]);
    assert_eq!(stage.methods(), ["initialize", "server/discover"]);
    stage.app = App::legacy("{}");
    assert_eq!(kinds(&stage.wait_secs(5)), [11316]);
    assert_eq!((stage.settled, stage.opened), (2, 2), "each attempt has a session of its own");
}

#[test]
fn an_application_that_says_nothing_has_half_a_minute_in_each_era() {
    let silent = vec!["initialize".to_owned(), "server/discover".to_owned()];
    let app = App { silent, ..App::default() };
    let (mut stage, _) = Stage::started(announcing(), app);
    stage.wait_secs(59);
    assert_eq!((stage.settled, stage.failed.len()), (0, 0));
    stage.wait_secs(1);
    assert_eq!(stage.failed, [AnnounceError::NoAnswer { method: "server/discover" }]);
    assert_eq!(stage.settled, 1);
}

#[test]
fn all_pages_of_a_list_are_one_list() {
    let pages = [
        r#"{"resources":[{"uri":"a:1"},{"uri":"a:2"}],"nextCursor":"1","_meta":{"p":1}}"#,
        r#"{"resources":[],"nextCursor":"2"}"#,
        r#"{"nextCursor":null,"resources":[ {"uri":"a:3", "name":"x y"} ],"_meta":{"p":3}}"#,
    ];
    let app = App::legacy(r#"{"resources":{}}"#).with("resources/list", &pages);
    let (_, published) = Stage::started(announcing(), app);
    assert_eq!(
        of_kind(&published, 11318).content,
        r#"{"resources":[{"uri":"a:1"},{"uri":"a:2"},{"uri":"a:3","name":"x y"}],"_meta":{"p":1}}"#
    );
}

#[test]
fn a_list_without_an_end_or_too_large_for_an_event_is_not_published() {
    let endless = vec![r#"{"tools":[{"name":"a"}],"nextCursor":"0"}"#];
    let large = format!(r#"{{"tools":[{{"name":"a","description":"{}"}}]}}"#, "x".repeat(128 * 1024 - 100));
    let table: [(&[&str], Expected); 4] = [
        (&endless, |error| matches!(error, AnnounceError::TooManyPages { method: "tools/list", limit: 64 })),
        (&[&large], |error| matches!(error, AnnounceError::TooLarge { kind: 11317, limit: 131_072, .. })),
        (&[r#"{"tools":{}}"#], |error| matches!(error, AnnounceError::Unreadable { method: "tools/list" })),
        (&["[]"], |error| matches!(error, AnnounceError::Unreadable { method: "tools/list" })),
    ];
    for (pages, expected) in table {
        let app = App::legacy(r#"{"tools":{}}"#).with("tools/list", pages);
        let (stage, published) = Stage::started(announcing(), app);
        assert_eq!(kinds(&published), [11316]);
        assert!(stage.failed.len() == 1 && expected(&stage.failed[0]), "{:?}", stage.failed);
        assert_eq!(stage.settled, 1);
    }
}

#[test]
fn a_list_that_fails_is_asked_again_and_the_others_do_not_wait() {
    let app = App::legacy(ALL).with("prompts/list", &[r#"{"prompts":[]}"#]).refusing("tools/list", -32603);
    let mut stage = Stage::new(announcing(), app);
    stage.app.silent.push("resources/list".to_owned());
    let published = stage.tell(AnnouncerInput::Start);
    assert_eq!(kinds(&published), [11316, 11320]);
    assert_eq!(stage.settled, 0);
    stage.app = stage.app.clone().with("tools/list", &[r#"{"tools":[]}"#]);
    assert_eq!(kinds(&stage.wait_secs(5)), [11317]);
    stage.wait_secs(25);
    assert_eq!(
        stage.failed,
        [
            AnnounceError::Refused { method: "tools/list", code: -32603 },
            AnnounceError::NoAnswer { method: "resources/list" }
        ]
    );
    assert_eq!(stage.settled, 1);
}

#[test]
fn tags_are_those_of_the_endpoint_and_the_prices_of_what_is_listed() {
    let mut config = announcing();
    config.discovery =
        vec![Tag::custom("name", ["n"]), Tag::custom("support_encryption", Vec::<String>::new())];
    let prices = [("tool:a", "100", "sats"), ("prompt:g", "5", "sats"), ("resource:file:///r", "1-9", "usd")];
    config.prices =
        prices.iter().map(|(what, amount, unit)| Price::new(what, amount, unit).unwrap()).collect();
    let app = App::legacy(ALL)
        .with("tools/list", &[r#"{"tools":[]}"#])
        .with("resources/list", &[r#"{"resources":[]}"#])
        .with("resources/templates/list", &[r#"{"resourceTemplates":[]}"#])
        .with("prompts/list", &[r#"{"prompts":[]}"#]);
    let (_, published) = Stage::started(config, app);
    let caps: Vec<Vec<String>> = prices
        .iter()
        .map(|(what, amount, unit)| ["cap", what, amount, unit].map(str::to_owned).to_vec())
        .collect();
    let own = [vec!["name".to_owned(), "n".to_owned()], vec!["support_encryption".to_owned()]];
    assert_eq!(tags(of_kind(&published, 11316)), [&own[..], &caps[..]].concat());
    for (kind, cap) in [(11317, 0), (11318, 2), (11319, 2), (11320, 1)] {
        assert_eq!(tags(of_kind(&published, kind)), caps[cap..=cap], "{kind}");
    }
}

#[test]
fn more_tags_than_readers_take_are_refused_by_name() {
    let mut config = announcing();
    let price = |n: usize| Price::new(&format!("tool:t{n}"), "1", "sats").unwrap();
    config.prices = (0..500).map(price).collect();
    let app = App::legacy(r#"{"tools":{},"prompts":{}}"#)
        .with("tools/list", &[r#"{"tools":[]}"#])
        .with("prompts/list", &[r#"{"prompts":[]}"#]);
    let (mut stage, published) = Stage::started(config.clone(), app);
    assert_eq!(kinds(&published), [11320]);
    let refused = |kind| AnnounceError::TooManyTags { kind, values: 2_501, limit: 2_048 };
    assert_eq!(stage.failed, [refused(11316), refused(11317)], "said once");
    config.prices.truncate(400);
    stage.configure(config);
    assert_eq!(kinds(&stage.wait_secs(4)), [11316, 11317]);
}

#[test]
fn a_session_that_ends_is_followed_by_another_and_what_is_published_stays() {
    let app = App::legacy(ALL).with("tools/list", &[r#"{"tools":[{"name":"a"}]}"#]);
    let (mut stage, published) = Stage::started(announcing(), app.clone());
    assert_eq!(kinds(&published), [11316, 11317]);
    stage.methods();
    stage.app = app.with("tools/list", &[r#"{"tools":[{"name":"b"}]}"#]);
    assert!(stage.tell(AnnouncerInput::Ended).is_empty());
    stage.heard("tools");
    assert!(stage.wait_secs(4).is_empty() && stage.methods().is_empty());
    assert_eq!(kinds(&stage.wait_secs(1)), [11317]);
    assert_eq!((stage.methods()[0].as_str(), stage.opened), ("initialize", 2));
}
