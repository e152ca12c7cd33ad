//! Relay lists from hell: 2,000 addresses that a stranger might name, over a network that records every connection.
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use nostr::types::RelayUrl;
use nostr::types::url::Url;
use tokio::net::TcpStream;

use crate::dial::{Addresses, Dialer, Network};
use crate::fetch::Fetch;
use crate::{DialError, FetchError};

/// How many addresses are tried.
const URLS: usize = 2_000;
/// Networks that are not the public internet (IANA special-purpose registries), the ones that carry IPv4 inside included.
const V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
const V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::UNSPECIFIED, 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Says whether an address is private, by other code than the dialer's.
fn is_private(ip: IpAddr) -> bool {
    let within = |ip: u128, net: u128, width: u32, prefix: u32| (ip ^ net) >> (width - prefix) == 0;
    match ip {
        IpAddr::V4(ip) => {
            V4.iter().any(|(net, prefix)| within(ip.to_bits().into(), net.to_bits().into(), 32, *prefix))
        }
        IpAddr::V6(ip) => V6.iter().any(|(net, prefix)| within(ip.to_bits(), net.to_bits(), 128, *prefix)),
    }
}

/// xorshift64: the same addresses on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bits(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    fn private_v4(&mut self) -> Ipv4Addr {
        let (net, prefix) = V4[self.below(V4.len())];
        Ipv4Addr::from_bits(net.to_bits() | (self.next() as u32) >> prefix)
    }

    fn private_v6(&mut self) -> Ipv6Addr {
        let (net, prefix) = V6[self.below(V6.len())];
        let bits = self.bits() >> prefix;
        let inner = u128::from(self.private_v4().to_bits());
        match self.below(3) {
            // 6to4 keeps the IPv4 address behind its prefix, the others at the end.
            0 => Ipv6Addr::from_bits(0x2002_u128 << 112 | inner << 80 | self.bits() >> 48),
            1 if prefix <= 96 => Ipv6Addr::from_bits(net.to_bits() | inner),
            _ => Ipv6Addr::from_bits(net.to_bits() | bits),
        }
    }

    fn public_v4(&mut self) -> Ipv4Addr {
        loop {
            let ip = Ipv4Addr::from_bits(self.next() as u32);
            if !is_private(ip.into()) {
                return ip;
            }
        }
    }

    fn private(&mut self) -> IpAddr {
        if self.below(2) == 0 { self.private_v4().into() } else { self.private_v6().into() }
    }

    fn public(&mut self) -> IpAddr {
        if self.below(2) == 0 {
            self.public_v4().into()
        } else {
            Ipv6Addr::from_bits(0x2a00_u128 << 112 | self.bits() >> 16).into()
        }
    }

    /// Spells an IPv4 address in one of the ways that some parser somewhere takes.
    fn spelled(&mut self, ip: Ipv4Addr) -> String {
        let ([a, b, c, d], whole) = (ip.octets(), ip.to_bits());
        let wide = |c: char| char::from_u32(u32::from(c) + 0xfee0).unwrap();
        match self.below(12) {
            0 => format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
            1 => format!("{a:#x}.{b:#X}.{c:#x}.{d:#x}"),
            2 => whole.to_string(),
            3 => format!("{whole:#x}"),
            4 => format!("0{whole:o}"),
            5 => format!("{a}.{}", whole & 0x00ff_ffff),
            6 => format!("{a}.{b}.{}", whole & 0xffff),
            7 => format!("{ip}."),
            8 => ip.to_string().replace('.', "。"),
            9 => ip.to_string().chars().map(|c| if c.is_ascii_digit() { wide(c) } else { c }).collect(),
            10 => ip.to_string().replace('.', "%2e"),
            _ => format!("000{a:o}.{b:#x}.{c}.{d}"),
        }
    }

    fn host(&mut self, number: usize) -> String {
        match self.below(16) {
            0..=4 => {
                let ip = self.private_v4();
                self.spelled(ip)
            }
            5 | 6 => format!("[{}]", self.private_v6()),
            7 => {
                let ip = self.private_v4();
                let text = self.spelled(ip);
                format!("public-{number}.example@{text}")
            }
            8 => {
                let ip = self.private_v4();
                let public = self.public_v4();
                let tricks = [
                    format!("{public}:443@{ip}"),
                    format!("{public}%2f@{ip}"),
                    format!("{public}\\@{ip}"),
                    format!("{ip}#@{public}"),
                    format!("{ip}?@{public}"),
                    format!("{ip}/@{public}"),
                    format!("{ip}\\@{public}"),
                    format!("{public}@{public}@{ip}"),
                    format!("[{}%251]", self.private_v6()),
                ];
                tricks[self.below(tricks.len())].clone()
            }
            9 => [
                "localhost",
                "LOCALHOST.",
                "ⓛocalhost",
                "localhost.localdomain",
                "xn--localhost-",
                "①②⑦.⓪.⓪.①",
            ][self.below(6)]
            .to_owned(),
            10 => format!("private-{number}.example"),
            11 => format!("mixed-{number}.example."),
            12 => format!("rebind-{number}.xn--bcher-kva.example"),
            13 => format!("bücher.rebind-{number}.example"),
            14 => format!("public-{number}.example"),
            _ => match self.public() {
                IpAddr::V4(ip) => self.spelled(ip),
                IpAddr::V6(ip) => format!("[{ip}]"),
            },
        }
    }

    fn url(&mut self, number: usize) -> String {
        let scheme = ["wss", "wss", "wss", "wss", "WSS", "ws"][self.below(6)];
        let port = ["", "", ":443", ":22", ":0", ":65535", ":065535"][self.below(7)];
        let host = self.host(number);
        format!("{scheme}://{host}{port}/{}", ["", "?x=1", "../", "%00"][self.below(4)])
    }
}

/// A network that connects nowhere and remembers everything.
struct Watched {
    random: Mutex<Random>,
    /// Names with all answers that they have given.
    lookups: Mutex<BTreeMap<String, Vec<Vec<SocketAddr>>>>,
    connects: Mutex<Vec<SocketAddr>>,
}

impl Watched {
    fn new() -> Self {
        Self {
            random: Mutex::new(Random(0x2545_F491_4F6C_DD1D)),
            lookups: Mutex::default(),
            connects: Mutex::default(),
        }
    }

    fn answer(&self, name: &str, port: u16, before: usize) -> Vec<SocketAddr> {
        let mut random = self.random.lock().unwrap();
        let ips = if name.contains("private-") {
            vec![random.private()]
        } else if name.contains("mixed-") {
            vec![random.public(), random.private(), random.public()]
        } else if name.contains("rebind-") {
            // The second answer is not the first one.
            if before == 0 { vec![random.public()] } else { vec![random.private()] }
        } else if name.contains("public-") {
            vec![random.public(), random.public()]
        } else {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        };
        ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
    }
}

impl Network for Watched {
    fn lookup<'a>(&'a self, name: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let mut lookups = self.lookups.lock().unwrap();
        let answers = lookups.entry(name.to_owned()).or_default();
        let answer = self.answer(name, port, answers.len());
        answers.push(answer.clone());
        Box::pin(async move { Ok(answer) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        self.connects.lock().unwrap().push(address);
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

fn urls() -> Vec<String> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    (0..URLS).map(|number| random.url(number)).collect()
}

#[tokio::test(start_paused = true)]
async fn relay_lists_from_hell() {
    let watched = Arc::new(Watched::new());
    let dialer = Dialer::new(1_024, Duration::from_secs(60)).unwrap().over(Arc::<Watched>::clone(&watched));
    let (mut unreadable, mut plain, mut private, mut tried) = (0, 0, 0, 0);
    for text in urls() {
        let Ok(url) = RelayUrl::parse(&text) else {
            unreadable += 1;
            continue;
        };
        let before = watched.connects.lock().unwrap().len();
        match dialer.dial(&url, Addresses::Public).await.err() {
            Some(DialError::Plain) => plain += 1,
            Some(DialError::Private(_)) => private += 1,
            Some(DialError::Tcp(_)) => {
                tried += 1;
                assert!(watched.connects.lock().unwrap().len() > before, "{text}");
                continue;
            }
            other => panic!("{text}: {other:?}"),
        }
        assert_eq!(watched.connects.lock().unwrap().len(), before, "{text} was refused and yet dialled");
    }
    let connects = watched.connects.lock().unwrap();
    let dialled: Vec<_> = connects.iter().filter(|address| is_private(address.ip())).collect();
    assert!(dialled.is_empty(), "{dialled:?}");
    // None of this is true by default.
    assert_eq!(unreadable + plain + private + tried, URLS);
    assert!(private > 900 && tried > 200 && plain > 200, "{unreadable} {plain} {private} {tried}");
    let lookups = watched.lookups.lock().unwrap();
    let rebinding: Vec<_> = lookups.iter().filter(|(name, _)| name.contains("rebind-")).collect();
    assert!(rebinding.len() > 100);
    for (name, answers) in rebinding {
        let [first] = &answers[..] else { panic!("{name} was looked up {} times", answers.len()) };
        assert!(
            connects.contains(&first[0]),
            "{name}: another address was dialled than the one that was checked"
        );
    }
    println!("unreadable {unreadable}, plain {plain}, private {private}, tried {tried}, 0 private connects");
}

#[tokio::test(start_paused = true)]
async fn documents_from_hell() {
    let watched = Arc::new(Watched::new());
    let dialer = Dialer::new(0, Duration::from_secs(60)).unwrap().over(Arc::<Watched>::clone(&watched));
    let (mut refused, mut tried) = (0, 0);
    for text in urls() {
        let Ok(url) = Url::parse(&text.to_ascii_lowercase().replacen("ws", "http", 1)) else { continue };
        match Fetch::new(url).get_through(&dialer).await {
            Err(FetchError::Dial(DialError::Plain | DialError::Private(_))) => refused += 1,
            Err(FetchError::Dial(DialError::Tcp(_))) => tried += 1,
            other => panic!("{text}: {other:?}"),
        }
    }
    let connects = watched.connects.lock().unwrap();
    assert!(connects.iter().all(|address| !is_private(address.ip())), "{connects:?}");
    assert!(refused > 1_000 && tried > 200, "{refused} {tried}");
}

/// The operating system's sockets instead of the recording ones: whoever traces this test sees that none is opened.
#[tokio::test]
async fn literal_addresses_from_hell_open_no_socket() {
    let dialer = Dialer::new(1_024, Duration::from_secs(60)).unwrap();
    let mut refused = 0;
    for text in urls() {
        let Ok(url) = RelayUrl::parse(&text) else { continue };
        let target: &Url = (&url).into();
        let ip: IpAddr = match target.host().unwrap() {
            nostr::types::url::Host::Ipv4(ip) => ip.into(),
            nostr::types::url::Host::Ipv6(ip) => ip.into(),
            nostr::types::url::Host::Domain(_) => continue,
        };
        if is_private(ip) {
            let error = dialer.dial(&url, Addresses::Public).await.err();
            assert!(matches!(error, Some(DialError::Plain | DialError::Private(_))), "{text}: {error:?}");
            refused += 1;
        }
    }
    assert!(refused > 700, "{refused}");
}
