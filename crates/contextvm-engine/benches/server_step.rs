//! One request and its answer through the server machine.
use std::hint::black_box;

use contextvm_core::{Draft, Now, Opened, Protection, WrapKind};
use contextvm_crypto::Keys;
use contextvm_engine::{Outcome, ServerConfig, ServerInput, ServerMachine, ServerOutput};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nostr::event::{EventId, Tag, Tags};

const UNIX: u64 = 1_700_000_000;

fn requests(server: &Keys, client: &Keys) -> Vec<Opened> {
    let one = |n: u32| {
        let content = format!(
            r#"{{"jsonrpc":"2.0","id":{n},"method":"tools/call","params":{{"name":"echo","arguments":{{"message":"hello"}},"_meta":{{"progressToken":{n}}}}}}}"#
        );
        let tags = Tags::from_list(vec![Tag::public_key(server.public_key())]);
        let draft = Draft::new(client.public_key(), UNIX, tags, content);
        let event = client.sign_draft(&draft, [1; 32]);
        let outer = EventId::from_byte_array([1; 32]);
        let protection = Protection::Wrapped(WrapKind::Ephemeral);
        Opened::check(event, protection, outer, &server.public_key(), UNIX, 600)
    };
    (0..256).filter_map(|n| one(n).ok()).collect()
}

fn step(machine: &mut ServerMachine, opened: Opened, now: Now) {
    let (to, id) = (opened.event().pubkey, opened.event().id.to_hex());
    machine.handle(ServerInput::Opened(Box::new(opened)), now);
    while let Some(output) = machine.poll_output() {
        let _ = black_box(output);
    }
    let message = format!(
        r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"content":[{{"type":"text","text":"hello"}}]}}}}"#
    );
    machine.handle(ServerInput::Send { to, message }, now);
    while let Some(output) = machine.poll_output() {
        if let ServerOutput::Publish(outbound) = output {
            machine.handle(ServerInput::Published(outbound.ticket, Outcome::Accepted), now);
        }
    }
}

fn bench(c: &mut Criterion) {
    let (Ok(server), Ok(client)) = (Keys::from_secret_bytes([1; 32]), Keys::from_secret_bytes([2; 32]))
    else {
        return;
    };
    let requests = requests(&server, &client);
    let now = Now { unix: UNIX, ..Now::default() };
    let mut group = c.benchmark_group("server_step");
    group.throughput(Throughput::Elements(requests.len() as u64));
    group.bench_function("256_requests_and_answers", |b| {
        b.iter_batched(
            || (ServerMachine::new(ServerConfig::default(), server.public_key(), [0; 32]), requests.clone()),
            |(mut machine, requests)| {
                for opened in requests {
                    step(&mut machine, opened, now);
                }
                machine
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
