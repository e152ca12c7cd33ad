//! Servers that exist as events on relays, signed here.
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contextvm::Keys;
use contextvm::core::{event, kind};
use contextvm::relay::{Post, PublishEvent};
use nostr::event::{Event, Tag};
use nostr::nips::nip19::ToBech32 as _;
use nostr::types::RelayUrl;

use crate::stage::{Home, PATIENCE};

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A key with what it has published; one event after the other, so that the order is clear.
pub(crate) struct Published {
    pub(crate) keys: Keys,
    pub(crate) events: Vec<Event>,
    /// When the next event is signed.
    pub(crate) at: u64,
}

impl Published {
    pub(crate) fn new() -> Self {
        Self::of(contextvm::new_keys().unwrap())
    }

    /// Publishes under the key that `cvm key new NAME` has made.
    pub(crate) fn named(home: &Home, name: &str) -> Self {
        let file = home.path().join(".config/cvm/keys").join(name);
        Self::of(Keys::parse(std::fs::read_to_string(file).unwrap().trim()).unwrap())
    }

    fn of(keys: Keys) -> Self {
        Self { keys, events: Vec::new(), at: now() - 7_200 }
    }

    pub(crate) fn npub(&self) -> String {
        self.keys.public_key().to_bech32().unwrap()
    }

    pub(crate) fn hex(&self) -> String {
        self.keys.public_key().to_hex()
    }

    pub(crate) fn sign(mut self, kind: u16, tags: &[&[&str]], content: &str) -> Self {
        let tags = tags.iter().map(|tag| Tag::parse(tag.iter().map(ToString::to_string)).unwrap());
        self.events.push(self.keys.sign_event(kind, self.at, tags.collect(), content.to_owned(), [7; 32]));
        self
    }

    /// Announces the server with a name and flags.
    pub(crate) fn server(self, name: &str, tags: &[&[&str]]) -> Self {
        let content = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"program","version":"1.2.3"}}"#;
        let mut all = vec![["name", name].to_vec()];
        all.extend(tags.iter().map(|tag| tag.to_vec()));
        let all: Vec<&[&str]> = all.iter().map(Vec::as_slice).collect();
        self.sign(kind::SERVER_ANNOUNCEMENT, &all, content)
    }

    /// Announces tools, each a JSON object.
    pub(crate) fn tools(self, tools: &[&str], tags: &[&[&str]]) -> Self {
        self.sign(kind::TOOLS_LIST, tags, &format!(r#"{{"tools":[{}]}}"#, tools.join(",")))
    }

    pub(crate) fn relay_list(self, urls: &[&str]) -> Self {
        let tags: Vec<[&str; 2]> = urls.iter().map(|url| ["r", *url]).collect();
        let tags: Vec<&[&str]> = tags.iter().map(<[&str; 2]>::as_slice).collect();
        self.sign(kind::RELAY_LIST, &tags, "")
    }

    /// Follows these keys.
    pub(crate) fn follows(self, keys: &[&str]) -> Self {
        let tags: Vec<[&str; 2]> = keys.iter().map(|key| ["p", *key]).collect();
        let tags: Vec<&[&str]> = tags.iter().map(<[&str; 2]>::as_slice).collect();
        self.sign(kind::FOLLOWS, &tags, "")
    }

    /// Reviews the server of a key.
    pub(crate) fn review(self, server: &str, text: &str) -> Self {
        let address = format!("{}:{server}:", kind::SERVER_ANNOUNCEMENT);
        let tags: [&[&str]; 6] = [
            &["A", &address],
            &["K", "11316"],
            &["P", server],
            &["a", &address],
            &["k", "11316"],
            &["p", server],
        ];
        self.sign(kind::COMMENT, &tags, text)
    }

    /// Sends everything to a relay, which takes it.
    pub(crate) fn to(self, url: &str) -> Self {
        let events = self
            .events
            .iter()
            .map(|signed| PublishEvent { id: signed.id, json: event::print(signed).into() });
        let post = Post::new(events.collect()).with_deadline(PATIENCE);
        let urls = [RelayUrl::parse(url).unwrap()];
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let report = runtime.block_on(post.to(&urls)).unwrap();
        for posted in &report.events {
            assert!(posted.per_relay.iter().all(|answer| answer.outcome.is_success()), "{report:?}");
        }
        self
    }
}

/// A tool of this name without arguments.
pub(crate) fn tool(name: &str) -> String {
    format!(r#"{{"name":"{name}","description":"Does {name}.","inputSchema":{{"type":"object"}}}}"#)
}

/// A domain: answers every request of the next minute with one document; returns its host and port.
pub(crate) fn domain(document: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let head = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let _read = head.take_while(|line| !line.is_empty()).count();
            let length = document.len();
            let _gone = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{document}"
            );
        }
    });
    address
}
