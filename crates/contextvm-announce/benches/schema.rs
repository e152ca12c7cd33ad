//! How fast tools of 2 kB and 64 kB are hashed (CEP-15) and pinned.
use std::hint::black_box;

use contextvm_announce::{ToolPins, schema};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::value::RawValue;

/// A tool of about so many bytes, with as many properties as it takes and documentation on each.
fn tool(size: usize) -> String {
    let mut text = String::from(
        r#"{"name":"bench","description":"Measured.","inputSchema":{"type":"object","properties":{"#,
    );
    let mut index = 0;
    while text.len() + 160 < size {
        text.push_str(&format!(
            r#""property_{index}":{{"type":["number","null"],"description":"The {index}th of them, in metres.","minimum":-{index}.5,"maximum":1e6}},"#
        ));
        index += 1;
    }
    text + r##""last":{"$ref":"#/$defs/Last"}},"required":["last"],"$defs":{"Last":{"title":"Last","type":"string"}}}}"##
}

fn hashes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("schema");
    for size in [2 * 1024, 64 * 1024] {
        let Ok(tool) = RawValue::from_string(tool(size)) else { continue };
        assert!(schema::hash_tool(&tool).is_ok());
        group.throughput(Throughput::Bytes(tool.get().len() as u64));
        group.bench_with_input(BenchmarkId::new("hash", size), &tool, |bencher, tool| {
            bencher.iter(|| schema::hash_tool(black_box(tool)));
        });
        group.bench_with_input(BenchmarkId::new("pin", size), &tool, |bencher, tool| {
            bencher.iter(|| ToolPins::of([black_box(&**tool)]));
        });
    }
    group.finish();
}

criterion_group!(benches, hashes);
criterion_main!(benches);
