//! One encrypted call through the client machine: send, outcome, answer.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark")]
use std::hint::black_box;

use contextvm_core::{Draft, Mono, Now, Opened, Protection, WrapKind};
use contextvm_crypto::Keys;
use contextvm_engine::{ClientConfig, ClientInput, ClientMachine, ClientOutput, Outcome};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nostr::event::{Tag, Tags};

const NOW: Now = Now { mono: Mono(0), unix: 1_700_000_000 };

fn machine(server: &Keys, client: &Keys) -> ClientMachine {
    let config = ClientConfig::new(server.public_key());
    ClientMachine::new(config, client.public_key(), [1; 32])
}

fn ask(size: usize) -> String {
    let text = "x".repeat(size);
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}"}}}}}}"#
    )
}

fn drain(machine: &mut ClientMachine) -> Option<ClientOutput> {
    let mut first = None;
    while let Some(output) = machine.poll_output() {
        first = first.or(Some(output));
    }
    first
}

fn client_step(criterion: &mut Criterion) {
    let server = Keys::from_secret_bytes([0x11; 32]).unwrap();
    let client = Keys::from_secret_bytes([0x22; 32]).unwrap();
    for size in [1_024, 32 * 1_024] {
        let ask = ask(size);
        criterion.bench_function(&format!("client_step/send/{size}"), |bench| {
            bench.iter_batched(
                || (machine(&server, &client), ask.clone()),
                |(mut machine, ask)| {
                    machine.handle(ClientInput::Send(ask), NOW);
                    black_box(drain(&mut machine));
                    machine
                },
                BatchSize::SmallInput,
            );
        });
        let asked = {
            let mut machine = machine(&server, &client);
            machine.handle(ClientInput::Send(ask.clone()), NOW);
            let Some(ClientOutput::Publish(outbound)) = drain(&mut machine) else {
                panic!("nothing published")
            };
            outbound
        };
        let tags = Tags::from_list(vec![Tag::public_key(client.public_key()), Tag::event(asked.draft.id)]);
        let content = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"text":"{}"}}}}"#, "y".repeat(size));
        let draft = Draft::new(server.public_key(), NOW.unix, tags, content);
        let event = server.sign_draft(&draft, [0; 32]);
        let outer = event.id;
        let wrap = Protection::Wrapped(WrapKind::Ephemeral);
        let opened = Opened::check(event, wrap, outer, &client.public_key(), NOW.unix, 600).unwrap();
        criterion.bench_function(&format!("client_step/answer/{size}"), |bench| {
            bench.iter_batched(
                || {
                    let mut machine = machine(&server, &client);
                    machine.handle(ClientInput::Send(ask.clone()), NOW);
                    machine.handle(ClientInput::Published(asked.ticket, Outcome::Accepted), NOW);
                    while machine.poll_output().is_some() {}
                    (machine, Box::new(opened.clone()))
                },
                |(mut machine, opened)| {
                    machine.handle(ClientInput::Opened(opened), NOW);
                    black_box(drain(&mut machine));
                    machine
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, client_step);
criterion_main!(benches);
