//! What is published again, when, and what is not.
use contextvm_announce::{AnnouncerConfig, Price, Profile, Unsigned};

use crate::stage::{App, Stage, announcing, kinds, of_kind, tags};

const CAPABLE: &str = r#"{"tools":{},"resources":{}}"#;

fn app(tool: &str) -> App {
    App::legacy(CAPABLE)
        .with("tools/list", &[&format!(r#"{{"tools":[{{"name":"{tool}"}}]}}"#)])
        .with("resources/list", &[r#"{"resources":[]}"#])
        .with("resources/templates/list", &[r#"{"resourceTemplates":[]}"#])
}

fn settled(config: AnnouncerConfig) -> Stage {
    let (mut stage, published) = Stage::started(config, app("a"));
    assert!(!published.is_empty());
    stage.wait_secs(60);
    stage.methods();
    stage
}

#[test]
fn a_burst_of_changes_is_one_publication_after_two_quiet_seconds() {
    let mut stage = settled(announcing());
    stage.app = app("b");
    for _ in 0..5 {
        assert!(stage.heard("tools").is_empty());
        assert!(stage.wait_secs(1).is_empty());
    }
    assert!(stage.methods().is_empty());
    let published = stage.wait_secs(1);
    assert_eq!(kinds(&published), [11317]);
    assert_eq!(published[0].content, r#"{"tools":[{"name":"b"}]}"#);
    assert_eq!(stage.methods(), ["tools/list"]);
    assert!(stage.wait_secs(600).is_empty() && stage.methods().is_empty());
}

#[test]
fn changes_without_end_are_published_ever_more_seldom() {
    let mut stage = settled(announcing());
    let mut per_minute = Vec::new();
    for minute in 0..60 {
        let mut published = 0;
        for second in 0..60 {
            stage.app = app(&format!("t{minute}.{second}"));
            stage.heard("tools");
            published += stage.wait_secs(1).len();
        }
        per_minute.push(published);
    }
    assert!((3..=5).contains(&per_minute[0]), "the first ones are not held back: {per_minute:?}");
    assert!(per_minute[30..].iter().sum::<usize>() <= 3, "one in ten minutes: {per_minute:?}");
    stage.wait_secs(1_800);
    stage.app = app("calm");
    stage.heard("tools");
    assert_eq!(stage.wait_secs(2).len(), 1, "after a silence as quick as ever");
}

#[test]
fn an_application_that_tells_of_a_change_whenever_it_is_asked_keeps_nobody_waiting() {
    let chatty = App { chatty: true, ..app("a") };
    let (mut stage, published) = Stage::started(announcing(), chatty);
    assert!(kinds(&published).contains(&11317));
    assert!(stage.wait_secs(30).is_empty());
    assert!(stage.settled > 0 && stage.machine.is_settled());
    stage.methods();
    stage.wait_secs(3_600);
    let asked = stage.methods().iter().filter(|method| *method == "tools/list").count();
    assert!(asked <= 15, "{asked}");
}

#[test]
fn a_list_that_says_the_same_is_not_published_again() {
    let mut stage = settled(announcing());
    stage.app = stage.app.clone().with("tools/list", &[r#"{ "tools" : [ {"name": "a"} ] }"#]);
    stage.heard("tools");
    stage.heard("resources");
    stage.heard("prompts");
    assert!(stage.wait_secs(60).is_empty());
    assert_eq!(stage.methods(), ["tools/list", "resources/list", "resources/templates/list"]);
}

#[test]
fn a_change_that_comes_while_a_list_is_asked_is_asked_for_afterwards() {
    let mut stage = settled(announcing());
    stage.app.silent.push("tools/list".to_owned());
    stage.heard("tools");
    stage.wait_secs(2);
    stage.heard("tools");
    stage.app = app("b");
    let published = stage.wait_secs(31);
    assert_eq!(kinds(&published), [11317]);
    assert_eq!(stage.methods(), ["tools/list", "tools/list"]);
}

#[test]
fn prices_change_the_server_and_the_lists_that_they_are_about_without_a_question() {
    let mut stage = settled(announcing());
    let mut config = announcing();
    config.prices = vec![Price::new("tool:a", "7", "sats").unwrap()];
    assert!(stage.configure(config.clone()).is_empty());
    let published = stage.wait_secs(2);
    assert_eq!(kinds(&published), [11316, 11317]);
    assert_eq!(tags(of_kind(&published, 11317)), [["cap", "tool:a", "7", "sats"]]);
    assert!(stage.methods().is_empty());
    stage.configure(config);
    assert!(stage.wait_secs(60).is_empty());
}

#[test]
fn relays_and_a_profile_are_published_when_they_are_given_and_deleted_when_they_are_taken_back() {
    let relays = |urls: &[&str]| Some(urls.iter().map(ToString::to_string).collect());
    let mut config = announcing();
    config.relay_list = relays(&["wss://a.example"]);
    config.profile = Some(Profile { name: Some("n".to_owned()), ..Profile::default() });
    let mut stage = Stage::new(config.clone(), app("a"));
    let published = stage.tell(contextvm_announce::AnnouncerInput::Start);
    assert_eq!(kinds(&published)[..2], [0, 10002], "they wait for no answer");
    assert_eq!(of_kind(&published, 0).content, r#"{"name":"n"}"#);
    assert!(of_kind(&published, 0).tags.is_empty());
    assert_eq!(tags(of_kind(&published, 10002)), [["r", "wss://a.example"]]);
    assert_eq!(of_kind(&published, 10002).content, "");
    config.relay_list = relays(&["wss://a.example", "wss://b.example"]);
    stage.configure(config.clone());
    let published = stage.wait_secs(2);
    assert_eq!(tags(of_kind(&published, 10002)), [["r", "wss://a.example"], ["r", "wss://b.example"]]);
    (config.relay_list, config.profile) = (None, None);
    stage.configure(config);
    let published = stage.wait_secs(2);
    let named = |event: &Unsigned| tags(event).last().unwrap()[1].clone();
    assert_eq!(kinds(&published), [5, 5]);
    assert_eq!(published.iter().map(named).collect::<Vec<_>>(), ["0", "10002"]);
}

#[test]
fn without_announcing_the_application_is_asked_nothing_and_nothing_is_published_unasked() {
    let (mut stage, published) = Stage::started(AnnouncerConfig::default(), app("a"));
    assert!(published.is_empty() && stage.methods().is_empty());
    assert_eq!(stage.settled, 1);
    stage.heard("tools");
    assert!(stage.wait_secs(600).is_empty() && stage.methods().is_empty());
    let relay_list = Some(vec!["wss://a.example".to_owned()]);
    stage.configure(AnnouncerConfig { relay_list, ..AnnouncerConfig::default() });
    assert_eq!(kinds(&stage.wait_secs(2)), [10002]);
    assert!(stage.methods().is_empty());
}

#[test]
fn announcing_may_begin_and_end_while_the_server_runs() {
    let (mut stage, _) = Stage::started(AnnouncerConfig::default(), app("a"));
    let mut published = stage.configure(announcing());
    published.extend(stage.wait_secs(2));
    assert_eq!(kinds(&published), [11316, 11317, 11318, 11319]);
    stage.configure(AnnouncerConfig::default());
    assert_eq!(kinds(&stage.wait_secs(2)), [5, 5, 5, 5]);
    stage.heard("tools");
    assert!(stage.wait_secs(600).is_empty());
}

#[test]
fn what_no_relay_takes_goes_out_again_unchanged_until_newer_words_replace_it() {
    let mut stage = settled(announcing());
    stage.taken = false;
    stage.app = app("b");
    stage.heard("tools");
    let first = stage.wait_secs(2);
    assert_eq!(kinds(&first), [11317]);
    let again = stage.wait_secs(5 + 10);
    assert_eq!(again, [&first[..], &first[..]].concat(), "the same event, after 5 and 10 seconds");
    stage.app = app("c");
    stage.heard("tools");
    let newer = stage.wait_secs(2);
    assert!(newer.len() == 1 && newer[0].content.contains("\"c\""));
    assert!(newer[0].created_at > first[0].created_at);
    stage.taken = true;
    assert_eq!(stage.wait_secs(3_600), newer);
    assert!(stage.wait_secs(3_600).is_empty());
}

#[test]
fn words_that_return_to_what_no_relay_took_back_are_still_stamped_anew() {
    let mut stage = settled(announcing());
    let mut stamps = Vec::new();
    for (tool, taken) in [("b", false), ("a", true), ("b", true)] {
        stage.taken = taken;
        stage.app = app(tool);
        stage.heard("tools");
        let published = stage.wait_secs(4);
        assert!(published.len() == 1 && published[0].content.contains(&format!("\"{tool}\"")));
        stamps.push(published[0].created_at);
    }
    assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
}

#[test]
fn retries_slow_down_to_ten_minutes() {
    let mut stage = settled(announcing());
    stage.taken = false;
    stage.app = app("b");
    stage.heard("tools");
    stage.wait_secs(2);
    let first_hour = stage.wait_secs(3_600).len();
    let later_hour = stage.wait_secs(3_600).len();
    assert!((10..=14).contains(&first_hour) && later_hour == 6, "{first_hour} {later_hour}");
}

#[test]
fn relays_that_join_while_a_publication_is_under_way_get_it_too() {
    let mut stage = settled(announcing());
    stage.app = app("b");
    stage.heard("tools");
    stage.outcomes = false;
    let published = stage.wait_secs(2);
    assert_eq!(kinds(&published), [11317]);
    let others = stage.tell(contextvm_announce::AnnouncerInput::Repeat);
    assert!(!kinds(&others).contains(&11317), "one at a time");
    stage.outcomes = true;
    let again = stage.land(true);
    assert_eq!(again, published);
    assert!(stage.wait_secs(600).is_empty());
}

#[test]
fn new_relays_get_the_same_events() {
    let (mut stage, first) = Stage::started(announcing(), app("a"));
    let mut again = stage.tell(contextvm_announce::AnnouncerInput::Repeat);
    assert_eq!(again.len(), first.len());
    again.sort_by_key(|event| event.kind);
    let mut first = first;
    first.sort_by_key(|event| event.kind);
    assert_eq!(again, first);
    assert!(stage.wait_secs(600).is_empty());
}
