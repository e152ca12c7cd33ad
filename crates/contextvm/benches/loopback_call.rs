//! One encrypted call over a relay on loopback: client, relay, server, relay, client.
#![expect(clippy::expect_used, reason = "a benchmark that cannot start has nothing to measure")]
use std::time::Duration;

use contextvm::client::Client;
use contextvm::server::{Delivery, Server};
use contextvm_local_relay::{LocalRelay, RelayOptions};
use criterion::{Criterion, criterion_group, criterion_main};

fn loopback_call(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (_relay, client, _messages) = runtime.block_on(async {
        let relay = LocalRelay::start(RelayOptions::default()).await.expect("a relay");
        let keys = contextvm::new_keys().expect("keys");
        let mut listener =
            Server::builder(keys).relay(relay.url()).fresh_key().start().await.expect("a server");
        let server = listener.handle().public_key();
        tokio::spawn(async move {
            while let Some(mut session) = listener.accept().await {
                tokio::spawn(async move {
                    while let Some(inbound) = session.recv().await {
                        if let Delivery::Request { key, .. } = inbound.delivery {
                            let answer =
                                format!(r#"{{"jsonrpc":"2.0","id":"{}","result":{{}}}}"#, key.id.to_hex());
                            let _sent = session.sender().send(answer).await;
                        }
                    }
                });
            }
        });
        let keys = contextvm::new_keys().expect("keys");
        let builder = Client::builder(keys, server.into()).relay(relay.url()).stateless();
        let (client, messages) = builder.connect().await.expect("a client");
        (relay, client, messages)
    });
    let mut group = criterion.benchmark_group("loopback");
    group.measurement_time(Duration::from_secs(5));
    group.bench_function("call", |bencher| {
        bencher.iter(|| runtime.block_on(client.request("tools/list", None)).expect("an answer"));
    });
    group.finish();
}

criterion_group!(benches, loopback_call);
criterion_main!(benches);
