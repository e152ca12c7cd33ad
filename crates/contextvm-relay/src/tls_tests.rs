//! Relays over real TLS: a local relay behind rustls, an authority made for the tests, and what is refused.
use std::sync::Arc;
use std::time::Duration;

use contextvm_core::RelayInfo;
use contextvm_crypto::Keys;
use contextvm_local_relay::{LocalRelay, RelayOptions};
use nostr::event::{Event, Tag, Tags};
use nostr::types::RelayUrl;
use nostr::types::url::Url;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::dial::Dialer;
use crate::{
    Addresses, DialError, Fetch, FetchError, Filter, Inbox, Incoming, PublishEvent, PublishOutcome,
    RelayOutcome, RelayStatus, Relays, RelaysConfig, Timing,
};

const ROOT: &[u8] = include_bytes!("testdata/root.pem");
const CERTIFICATE: &[u8] = include_bytes!("testdata/localhost.pem");
const KEY: &[u8] = include_bytes!("testdata/localhost.key.pem");
const PATIENCE: Duration = Duration::from_secs(30);

/// A relay whose certificate is for `localhost`.
struct TlsRelay {
    relay: LocalRelay,
    port: u16,
}

impl TlsRelay {
    async fn start() -> Self {
        let relay = LocalRelay::start(RelayOptions::default()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, behind) = (listener.local_addr().unwrap().port(), relay.port());
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that refuses the certificate ends its connection here.
                    let Ok(mut outer) = acceptor.accept(stream).await else { return };
                    let mut inner = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                });
            }
        });
        Self { relay, port }
    }

    fn url(&self, host: &str) -> RelayUrl {
        RelayUrl::parse(&format!("wss://{host}:{}", self.port)).unwrap()
    }
}

fn config(urls: impl IntoIterator<Item = RelayUrl>, me: &Keys) -> RelaysConfig {
    let filter = format!(r##"{{"kinds":[25910],"#p":["{}"]}}"##, me.public_key().to_hex());
    RelaysConfig::new(urls)
        .with_filter(Filter::new(&filter, Duration::from_secs(60)).unwrap())
        .with_timing(Timing { publish: PATIENCE, ..Timing::default() })
}

/// Connects as the public function does, but trusts the authority of the tests.
fn connect_trusting(config: RelaysConfig) -> (Relays, Inbox) {
    let dialer = trusting(crate::relays::read_at_most(&config.limits), config.timing.connect);
    Relays::start(config, dialer).unwrap()
}

fn trusting(largest: usize, timeout: Duration) -> Dialer {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ROOT).unwrap()).unwrap();
    Dialer::trusting(roots, largest, timeout).unwrap()
}

fn keys(number: u8) -> Keys {
    Keys::from_secret_bytes([number; 32]).unwrap()
}

fn message(from: &Keys, to: &Keys, content: &str) -> PublishEvent {
    let tags = Tags::from_list(vec![Tag::parse(["p", &to.public_key().to_hex()]).unwrap()]);
    let event = from.sign_event(25_910, crate::link::unix(), tags, content.to_owned(), [7; 32]);
    PublishEvent { id: event.id, json: event.as_json().into() }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it must happen in time")
}

async fn next_event(inbox: &mut Inbox) -> Event {
    loop {
        if let Incoming::Event { json, .. } = soon(inbox.recv()).await.unwrap() {
            let event = Event::from_json(json).unwrap();
            event.verify().unwrap();
            return event;
        }
    }
}

/// Waits until the first relay could not be reached.
async fn unreachable(relays: &Relays) -> RelayStatus {
    soon(async {
        loop {
            let status = relays.statuses().remove(0);
            if status.unreachable.is_some() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_call_and_its_answer_cross_a_relay_over_tls() {
    let relay = TlsRelay::start().await;
    let (client, server) = (keys(1), keys(2));
    let (asking, mut answers) = connect_trusting(config([relay.url("localhost")], &client));
    let (answering, mut calls) = connect_trusting(config([relay.url("localhost")], &server));
    assert!(asking.ready(PATIENCE).await && answering.ready(PATIENCE).await);
    let big = "x".repeat(50_000);
    for content in ["one", &big, "three"] {
        let call = asking.publish(message(&client, &server, content));
        let heard = next_event(&mut calls).await;
        assert_eq!(heard.content, content);
        assert_eq!(soon(call).await.outcome(), PublishOutcome::Accepted);
        let answer = answering.publish(message(&server, &client, &heard.id.to_hex()));
        assert_eq!(next_event(&mut answers).await.content, heard.id.to_hex());
        assert_eq!(soon(answer).await.outcome(), PublishOutcome::Accepted);
    }
    let status = asking.statuses().remove(0);
    assert_eq!((status.counts.connections, status.counts.failures, status.unreachable), (1, 0, None));
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_that_relays_failure_and_nobody_elses() {
    let relay = TlsRelay::start().await;
    let me = keys(1);
    let plain = RelayUrl::parse(&relay.relay.url()).unwrap();
    let (relays, mut inbox) = Relays::connect(config([relay.url("localhost"), plain.clone()], &me)).unwrap();
    let status = unreachable(&relays).await;
    let refused = "not signed by a known authority".to_owned();
    assert_eq!(status.unreachable, Some(DialError::Certificate(refused)));
    assert_eq!(status.last_error.as_deref(), Some("certificate refused: not signed by a known authority"));
    assert!(relays.ready(PATIENCE).await);
    let report = soon(relays.publish(message(&me, &me, "to myself"))).await;
    assert_eq!(report.accepted, Some(plain));
    assert_eq!(report.per_relay[0].1, RelayOutcome::NotSent);
    assert_eq!(next_event(&mut inbox).await.content, "to myself");
    assert_eq!(relays.statuses()[0].counts.connections, 0);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_in_words_that_name_both() {
    let relay = TlsRelay::start().await;
    let (relays, _inbox) = connect_trusting(config([relay.url("127.0.0.1")], &keys(1)));
    let Some(DialError::Certificate(words)) = unreachable(&relays).await.unreachable else {
        panic!("{relays:?}")
    };
    assert!(words.contains("127.0.0.1") && words.contains("localhost"), "{words}");
}

#[tokio::test]
async fn the_way_to_a_relay_is_measured_and_its_document_fetched_over_tls() {
    let relay = TlsRelay::start().await;
    let dialer = trusting(1_024, PATIENCE);
    let (_socket, reached) = dialer.measure(&relay.url("localhost"), Addresses::Any).await.unwrap();
    assert_eq!(reached.version, Some("TLS 1.3"));
    assert!(reached.tls.is_some_and(|tls| reached.total() == reached.tcp + tls + reached.upgrade));
    let fetch = |host: &str| {
        let url = Url::parse(&format!("https://{host}:{}/", relay.port)).unwrap();
        Fetch::new(url).with_addresses(Addresses::Any).with_accept("application/nostr+json")
    };
    let document = fetch("localhost").get_through(&dialer).await.unwrap();
    let info = RelayInfo::parse(std::str::from_utf8(&document).unwrap()).unwrap();
    assert_eq!(info.name.as_deref(), Some("contextvm-local-relay"));
    let other = fetch("127.0.0.1").get_through(&dialer).await;
    assert!(matches!(other, Err(FetchError::Dial(DialError::Certificate(_)))), "{other:?}");
}
