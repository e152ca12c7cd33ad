//! Random scripts: whatever hosts and a server say, every request is answered once, and to its own host.
use std::collections::BTreeMap;

use super::*;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

const METHODS: [&str; 11] = [
    "initialize",
    "ping",
    "tools/list",
    "tools/call",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "logging/setLevel",
    "server/discover",
    "subscriptions/listen",
    "tasks/get",
];
const RESULTS: [&str; 8] = [
    r#""result":{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true}}}"#,
    r#""result":{"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{}}}"#,
    r#""result":{"resultType":"input_required","inputRequests":{"k":{"method":"elicitation/create","params":{}}}}"#,
    r#""result":{"resultType":"input_required","requestState":"s"}"#,
    r#""result":{"resultType":"complete"}"#,
    r#""error":{"code":-32601,"message":"m"}"#,
    r#""error":{"code":-32022,"message":"m"}"#,
    r#""error":{"code":-32001,"message":"m","data":{"reason":"no_reply"}}"#,
];
const NEWS: [&str; 5] = [
    r#""method":"notifications/tools/list_changed""#,
    r#""method":"notifications/message","params":{"level":"info","data":1}"#,
    r#""method":"notifications/resources/updated","params":{"uri":"a:b"}"#,
    r#""id":7,"method":"elicitation/create","params":{}"#,
    r#""id":"cvm-7","method":"roots/list""#,
];

/// A host's view: which of its requests are open.
#[derive(Default)]
struct Book {
    open: BTreeMap<(u64, String), bool>,
    /// What the server was asked and has not answered.
    wire: Vec<String>,
    states: Vec<String>,
    asked: Vec<(u64, String)>,
}

impl Book {
    fn take(&mut self, act: Act) {
        match act {
            Act::Server(text) => {
                let message = Envelope::parse(&text, &Limits::default()).expect("a message");
                if let (MessageKind::Request, Some(id)) = (message.kind, message.id) {
                    self.wire.push(id.get().to_owned());
                }
            }
            Act::Host(host, Heard { text, about }) => {
                let message = Envelope::parse(&text, &Limits::default()).expect("a message");
                match (message.kind, message.id) {
                    (MessageKind::Request, Some(id)) => {
                        let modern =
                            about.and_then(|id| self.open.get(&(host, id.get().to_owned())).copied());
                        assert_ne!(modern, Some(true), "a request to a host that cannot be asked: {text}");
                        self.asked.push((host, id.get().to_owned()));
                    }
                    (MessageKind::Response | MessageKind::Error, Some(id)) => {
                        let open = self.open.remove(&(host, id.get().to_owned()));
                        assert!(open.is_some() || text.contains("id_in_use"), "{host} never asked: {text}");
                        let state = message.result.and_then(|result| object::member(result, "requestState"));
                        self.states.extend(state.map(|state| state.get().to_owned()));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// A switchboard, what is known of it from outside, and chance.
struct Play {
    dice: Dice,
    board: Switchboard,
    book: Book,
    now: Instant,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut board = Switchboard::new(Limits::default());
        (1..=3).for_each(|host| board.opened(host));
        let dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Self { dice, board, book: Book::default(), now: Instant::now() }
    }

    fn step(&mut self, step: usize) {
        let host = u64::try_from(self.dice.roll(3)).unwrap() + 1;
        match self.dice.roll(12) {
            0..=3 => self.ask(host, step.to_string()),
            4..=7 if !self.book.wire.is_empty() => {
                let id = self.book.wire.swap_remove(self.dice.roll(self.book.wire.len()));
                let result = self.dice.pick(&RESULTS);
                self.server(&format!(r#""id":{id},{result}"#));
            }
            8 if self.dice.roll(4) == 0 => {
                let id = self.book.wire.last().map_or("0", String::as_str);
                self.server(&format!(
                    r#""method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#
                ));
            }
            8 => {
                let news = self.dice.pick(&NEWS);
                self.server(news);
            }
            9 => {
                self.now += Duration::from_secs(u64::try_from(self.dice.roll(40)).unwrap());
                self.board.sweep(self.now, &|_waited| Failure::new(FAILED, "no_reply", "silent"));
            }
            10 if !self.book.asked.is_empty() => {
                let (host, id) = self.book.asked.swap_remove(self.dice.roll(self.book.asked.len()));
                let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
                self.board.hear_host(host, &answer, self.now);
            }
            11 => self.lose(host),
            _ => {}
        }
        self.drain();
        assert_eq!(self.board.calls.len(), self.book.open.len(), "step {step}");
        assert!(self.board.resuming.is_empty() && self.board.purposes.len() <= self.book.wire.len());
        let listens = self.board.purposes.values().filter(|purpose| matches!(purpose, Purpose::Listen));
        assert!(listens.count() <= 2, "step {step}");
    }

    fn ask(&mut self, host: u64, id: String) {
        let method = self.dice.pick(&METHODS);
        let modern = self.dice.roll(2) == 0 || method == "server/discover";
        let meta = if modern { META } else { r#""_meta":{"progressToken":1}"# };
        let states = &self.book.states;
        let state = match states.len() {
            1.. if modern && self.dice.roll(2) == 0 => {
                format!(r#""requestState":{},"#, states[self.dice.roll(states.len())])
            }
            _ => String::new(),
        };
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"uri":"a:b","level":"info","notifications":{{"toolsListChanged":true}},{state}{meta}}}}}"#
        );
        self.book.open.insert((host, id), modern);
        self.board.hear_host(host, &text, self.now);
    }

    fn server(&mut self, members: &str) {
        self.board.hear_server(&format!(r#"{{"jsonrpc":"2.0",{members}}}"#), self.now);
    }

    /// The connection, a host, or a host's interest in an answer is lost.
    fn lose(&mut self, host: u64) {
        match self.dice.roll(8) {
            0 => {
                self.board.lost(&Failure::new(FAILED, "closed", "gone"));
                self.board.reconnected();
                self.book.wire.clear();
            }
            1 => {
                self.board.closed(host);
                self.board.opened(host);
                self.book.open.retain(|(of, _), _| *of != host);
                self.book.asked.retain(|(of, _)| *of != host);
            }
            _ => {
                let first = self.book.open.keys().find(|(of, _)| *of == host).cloned();
                if let Some((host, id)) = first {
                    let raw = crate::answer::raw(id.clone()).unwrap();
                    self.board.abandon(host, &raw);
                    self.book.open.remove(&(host, id));
                }
            }
        }
    }

    fn drain(&mut self) {
        while let Some(act) = self.board.poll() {
            self.book.take(act);
        }
    }

    fn end(mut self) {
        self.board.lost(&Failure::new(FAILED, "closed", "gone"));
        self.drain();
        assert!(self.book.open.is_empty(), "not answered: {:?}", self.book.open);
        assert!(self.board.calls.bytes() == 0 && self.board.purposes.is_empty());
        assert!(self.board.hosts.values().all(|host| host.held.is_empty() && host.opening.is_none()));
    }
}

#[test]
fn every_request_is_answered_once_and_to_its_own_host() {
    for seed in 1..=300 {
        let mut play = Play::new(seed);
        (0..400).for_each(|step| play.step(step));
        play.end();
    }
}
