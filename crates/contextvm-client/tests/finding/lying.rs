//! Relays that send what was not asked for, what nobody signed, and what is from tomorrow.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contextvm_client::{Discovery, Memory, Scope};
use contextvm_core::event;
use contextvm_crypto::Keys;
use contextvm_relay::QueryOutcome;
use nostr::event::Event;

use crate::support::*;

#[tokio::test]
async fn what_a_lying_relay_sends_is_counted_and_not_believed() {
    let wanted = event::print(&announcement(&keys(1), NOW, "real"));
    let forged = wanted.replace("real", "fake");
    let unsigned = wanted.replace(r#""sig":""#, r#""sig":"00"#);
    let stolen = wanted.replace(&keys(1).public_key().to_hex(), &keys(2).public_key().to_hex());
    let huge = event::print(&announcement(&keys(3), NOW, &"x".repeat(140_000)));
    let note = event::print(&signed(&keys(1), 1, NOW, &[], "a note"));
    let other = event::print(&announcement(&keys(4), NOW, "somebody else"));
    let events = vec![wanted, forged, unsigned, stolen, huge, "{}".into(), note, other];
    let (liar, honest) = (liar(events).await, relay().await);
    let scope = Scope { authors: vec![keys(1).public_key()], ..Scope::default() };
    let found = discovery(&[&liar, &honest.url()]).servers(&scope).await.unwrap();
    assert_eq!(names(&found), ["real"]);
    let answer = answer(&found.per_relay, &liar);
    // Of the stolen one the author is wrong before its signature is looked at.
    assert_eq!((answer.events, answer.invalid, answer.unwanted), (1, 4, 3), "{answer:?}");
}

#[tokio::test]
async fn a_page_that_is_always_the_same_may_hide_others() {
    // Every page is the same thirty events, whatever time was asked for.
    let events = (1..=30_u8).map(|byte| event::print(&announcement(&keys(byte), NOW, &format!("s{byte}"))));
    let liar = liar(events.collect()).await;
    let found = discovery(&[&liar]).servers(&Scope::default()).await.unwrap();
    assert_eq!(found.directory.servers().count(), 30);
    assert!(found.per_relay[0].capped && found.is_partial(), "{:?}", found.per_relay);
}

#[tokio::test]
async fn a_relay_that_never_runs_out_is_left_after_a_bounded_number_of_pages() {
    let pages = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&pages);
    // Every page is older than the one before it.
    let endless = inventor(move |filter| {
        let page = count.fetch_add(1, Ordering::Relaxed);
        let until = filter["until"].as_u64().unwrap_or(NOW);
        let byte = |nth: u64| u8::try_from((page * 20 + nth) % 250 + 1).unwrap();
        Some((0..20).map(|nth| event::print(&announcement(&keys(byte(nth)), until - nth - 1, "s"))).collect())
    });
    let search = discovery(&[&endless.await]).with_deadline(Duration::from_secs(20));
    let found = search.servers(&Scope::default()).await.unwrap();
    assert_eq!(pages.load(Ordering::Relaxed), 10);
    assert!(found.per_relay[0].capped && found.is_partial(), "{:?}", found.per_relay);
}

/// Strangers of one name, all stamped at the same time.
fn crowd(count: u16, created_at: u64) -> Vec<String> {
    (1..=count).map(|number| event::print(&announcement(&many(number), created_at, "crowd"))).collect()
}

#[tokio::test]
async fn more_events_of_one_second_than_fit_on_a_page_do_not_hide_what_is_older() {
    let relay = relay().await;
    publish(&relay, (1..=520).map(|number| announcement(&many(number), NOW, "crowd"))).await;
    publish(&relay, [announcement(&keys(1), NOW - 86_400, "yesterday")]).await;
    let search = discovery(&[&relay.url()]).with_deadline(Duration::from_secs(30));
    let found = search.servers(&Scope::default()).await.unwrap();
    assert!(names(&found).contains(&"yesterday".to_owned()));
    // The other twenty of that second cannot be asked for.
    assert_eq!(found.directory.servers().count(), 501);
    assert!(found.per_relay[0].capped && found.is_partial());
}

#[tokio::test]
async fn pages_of_events_from_the_future_are_stepped_over() {
    let pages = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&pages);
    let relay = inventor(move |filter| {
        count.fetch_add(1, Ordering::Relaxed);
        let until = filter["until"].as_u64().unwrap_or(u64::MAX);
        let today = event::print(&announcement(&keys(1), NOW, "today"));
        if until <= NOW + 15 * 60 { vec![today] } else { crowd(30, until.min(NOW + 1_000_000) - 1) }
    });
    let search = discovery(&[&relay.await]).with_deadline(Duration::from_secs(20));
    let found = search.servers(&Scope::default()).await.unwrap();
    assert_eq!((names(&found), found.per_relay[0].future), (vec!["today".to_owned()], 30));
    assert_eq!(pages.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_stepped_over() {
    // Signed, and of more values than are read.
    let tags = vec![&["x"][..]; 5_000];
    let signed = |byte: u8| signed(&keys(byte), 11316, NOW - u64::from(byte), &tags, "{}");
    let unread: Vec<_> = (2..=31).map(|byte| event::print(&signed(byte))).collect();
    let relay = inventor(move |filter| match filter["until"].as_u64() {
        None => unread.clone(),
        Some(_) => vec![event::print(&announcement(&keys(1), NOW - 1_000, "older"))],
    });
    let search = discovery(&[&relay.await]).with_deadline(Duration::from_secs(20));
    let found = search.servers(&Scope::default()).await.unwrap();
    assert_eq!((names(&found), found.per_relay[0].invalid), (vec!["older".to_owned()], 30));
    assert!(found.is_partial());
}

#[tokio::test]
async fn whoever_fills_the_room_leaves_the_other_relays_their_share() {
    let tools = |key: Keys, created_at: u64, of: &str| {
        let content = format!(
            r#"{{"tools":[{{"name":"{of}","description":"{}","inputSchema":{{}}}}]}}"#,
            "x".repeat(100_000)
        );
        signed(&key, 11317, created_at, &[], &content)
    };
    // Ids can be chosen: those of the two that flood are lower than the honest one's.
    let low = |event: &Event| event.id.as_bytes()[0] < 0xF8;
    let flood = |from: u16| {
        let events = (from..from + 75).map(|number| tools(many(number), NOW - u64::from(number), "flood"));
        events.filter(low)
    };
    let stamps = NOW - 1_000..;
    let last = stamps.map(|at| tools(keys(1), at, "honest")).find(|event| !low(event)).unwrap();
    let (one, other, honest) = (relay().await, relay().await, relay().await);
    publish(&one, flood(1)).await;
    publish(&other, flood(101)).await;
    publish(&honest, [last]).await;
    let relays = [one.url(), other.url(), honest.url()];
    let search = discovery(&relays.each_ref().map(String::as_str)).with_deadline(Duration::from_secs(30));
    let found = search.servers(&Scope::default()).await.unwrap();
    assert!(found.directory.refused().full > 0, "the room is full");
    assert!(found.directory.server(&keys(1).public_key()).is_some());
}

#[tokio::test]
async fn profiles_of_one_relays_servers_are_asked_for_however_many_another_invents() {
    let mut known: Vec<_> = (1..=1_101).map(many).collect();
    known.sort_by_key(Keys::public_key);
    let honest = known.pop().unwrap();
    let crowd: Vec<_> =
        (1..=1_100).zip(&known).map(|(ago, keys)| announcement(keys, NOW - ago, "crowd")).collect();
    let profile = signed(&honest, 0, NOW, &[], r#"{"name":"honest"}"#);
    let relay = relay().await;
    publish(&relay, [announcement(&honest, NOW, "honest"), profile]).await;
    let liar = inventor(move |filter| {
        let until = filter["until"].as_u64().unwrap_or(NOW);
        let asked =
            crowd.iter().filter(|event| filter["authors"].is_null() && event.created_at.as_secs() <= until);
        asked.take(500).map(event::print).collect::<Vec<_>>()
    });
    let search = discovery(&[&liar.await, &relay.url()]).with_deadline(Duration::from_secs(30));
    let found = search.servers(&Scope { profiles: true, ..Scope::default() }).await.unwrap();
    let entry = found.directory.server(&honest.public_key()).unwrap();
    assert_eq!(entry.profile().and_then(|profile| profile.document.name.as_deref()), Some("honest"));
    assert!(found.is_partial(), "others were left out");
}

#[tokio::test]
async fn huge_events_of_strangers_that_fill_a_page_are_not_the_whole_answer() {
    let huge = format!(r#"{{"content":"{}"}}"#, "x".repeat(900_000));
    let mut events = vec![event::print(&announcement(&keys(1), NOW, "first"))];
    events.extend(std::iter::repeat_n(huge, 6));
    let full = liar(events).await;
    let search = discovery(&[&full]).with_deadline(Duration::from_secs(10));
    let found = search.servers(&Scope::default()).await.unwrap();
    assert_eq!(names(&found), ["first"]);
    assert!(found.per_relay[0].capped && found.is_partial(), "{:?}", found.per_relay);
}

#[tokio::test]
async fn a_relay_that_has_no_time_left_for_the_next_page_is_late_and_not_called_dead() {
    let events: Vec<_> = (1..=30_u8).map(|byte| event::print(&announcement(&keys(byte), NOW, "s"))).collect();
    let tired = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", tired.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = tired.accept().await.unwrap();
        tokio::spawn(lie(stream, move |_filter: &serde_json::Value| Vec::clone(&events)));
        // Whoever comes again is let in and hears nothing.
        let _mute = tired.accept().await;
        std::future::pending::<()>().await;
    });
    let found = discovery(&[&url]).servers(&Scope::default()).await.unwrap();
    assert_eq!((found.per_relay[0].events, &found.per_relay[0].outcome), (30, &QueryOutcome::Late));
    assert!(found.is_partial());
}

#[tokio::test]
async fn a_relay_that_floods_is_cut_and_its_answer_is_called_partial() {
    let content = format!(r#"{{"tools":[{{"name":"{}","inputSchema":{{}}}}]}}"#, "x".repeat(100_000));
    let events = (1..=60_u8).map(|byte| event::print(&signed(&keys(byte), 11317, NOW, &[], &content)));
    let liar = liar(events.collect()).await;
    let found =
        discovery(&[&liar]).with_deadline(Duration::from_secs(10)).servers(&Scope::default()).await.unwrap();
    let answer = answer(&found.per_relay, &liar);
    assert!(answer.capped && found.is_partial(), "{answer:?}");
    assert!((20..60).contains(&answer.events), "{answer:?}");
}

#[tokio::test]
async fn what_is_stamped_tomorrow_is_ignored_and_blocks_nothing() {
    let future = event::print(&announcement(&keys(1), NOW + 16 * 60, "future"));
    let (liar, honest) = (liar(vec![future]).await, relay().await);
    publish(&honest, [announcement(&keys(1), NOW, "today")]).await;
    let memory = Memory::volatile();
    let search = discovery(&[&liar, &honest.url()]).with_memory(memory.clone());
    for _ in 0..2 {
        let found = search.servers(&Scope::default()).await.unwrap();
        assert_eq!(names(&found), ["today"]);
        assert_eq!(answer(&found.per_relay, &liar).future, 1);
    }
    assert_eq!(memory.newest(&keys(1).public_key(), 11316).unwrap().created_at, NOW);
}

/// T70: a relay that still serves what the server replaced long ago cannot lead back to it, not even when it is alone.
#[tokio::test]
async fn yesterdays_list() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("newest");
    let (listed, gone) = (relay().await, relay().await);
    let server = keys(1);
    let today = [announcement(&server, NOW, "today"), relay_list(&server, NOW, &[&listed.url()])];
    let yesterday =
        [announcement(&server, NOW - 86_400, "yesterday"), relay_list(&server, NOW - 86_400, &[&gone.url()])];
    let (behind, honest) = (liar(yesterday.iter().map(event::print).collect()).await, relay().await);
    publish(&honest, today).await;
    publish(&listed, [announcement(&server, NOW, "today")]).await;
    let search = |relays: &[&str]| discovery(relays).with_local_relays(true).with_memory(Memory::open(&path));
    let identity = server.public_key().into();
    // Both are asked, and the newest wins.
    let both = search(&[&behind, &honest.url()]).server(&identity).await.unwrap();
    assert_eq!(names(&both), ["today"]);
    assert!(answer(&both.per_relay, &listed.url()).events > 0);
    // A day later, by another process, only the one that is behind is left: its tale is known to be old, and the relays of
    // the newest list are asked although nobody shows that list any more.
    honest.shutdown().await;
    let alone = search(&[&behind]).server(&identity).await.unwrap();
    assert_eq!(names(&alone), ["today"]);
    let answers = &alone.per_relay;
    assert_eq!(answer(answers, &behind).stale, 2);
    assert!(answer(answers, &listed.url()).events > 0);
    assert!(!answers.iter().any(|answer| answer.url == url(&gone.url())));
    assert_eq!(gone.stats().accepted_connections, 0);
    // Even when nobody knows better now, what is old is not shown as if it were new.
    listed.shutdown().await;
    let nobody = search(&[&behind]).servers(&Scope::default()).await.unwrap();
    assert_eq!(nobody.directory.servers().count(), 0);
    assert_eq!(nobody.per_relay[0].stale, 1);
    // Without a memory it would be.
    let forgetful: Discovery = discovery(&[&behind]);
    assert_eq!(names(&forgetful.servers(&Scope::default()).await.unwrap()), ["yesterday"]);
}
