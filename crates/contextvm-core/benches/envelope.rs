//! How fast messages are scanned, parsed, printed and rewritten at 64 B, 4 KiB and 64 KiB.
use std::hint::black_box;

use contextvm_core::{Envelope, Limits, Rewrite, rewrite, scan};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SIZES: [usize; 3] = [64, 4 * 1024, 64 * 1024];

/// A tool call of about this many bytes: half long text, half small values.
fn message(size: usize) -> String {
    let mut text = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a""#.to_owned();
    if size > 128 {
        text.push_str(r#","arguments":{"text":""#);
        text.push_str(&"Some words \\n of a document. ".repeat(size / 58));
        text.push_str(r#"","rows":["#);
        while text.len() < size - 64 {
            text.push_str(r#"{"x":1.25,"on":true,"s":"é"},"#);
        }
        text.push_str(r#"0]},"_meta":{"progressToken":7}"#);
    }
    text.push_str("}}");
    text
}

fn envelope(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("envelope");
    for size in SIZES {
        let text = message(size);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::new("scan", size), &text, |bencher, text| {
            bencher.iter(|| scan::check(black_box(text), &limits));
        });
        group.bench_with_input(BenchmarkId::new("parse", size), &text, |bencher, text| {
            bencher.iter(|| Envelope::parse(black_box(text), &limits).map(|message| message.kind));
        });
        let Ok(parsed) = Envelope::parse(&text, &limits) else {
            continue;
        };
        group.bench_with_input(BenchmarkId::new("print", size), &parsed, |bencher, message| {
            bencher.iter(|| black_box(message).to_text());
        });
        group.bench_with_input(BenchmarkId::new("rewrite", size), &parsed, |bencher, message| {
            bencher.iter(|| {
                Rewrite::of(black_box(message))
                    .id("\"e\"")
                    .meta(rewrite::PROGRESS_TOKEN, "\"e\"")
                    .meta(rewrite::CLIENT_PUBKEY, "\"k\"")
                    .to_text()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, envelope);
criterion_main!(benches);
