//! Whether the time of a refusal tells how much of a MAC was right.
#![cfg(test)]
#![cfg(not(contextvm_fake_crypto))]
use std::hint::black_box;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contextvm_crypto::Nip44Error;
use contextvm_crypto::nip44::{ExtendedLength, decrypt, encrypt};
use zeroize::Zeroizing;

/// Measurements of each class.
const ROUNDS: usize = 20_000;
/// A difference is one when it is so many times its own uncertainty.
const CERTAIN: f64 = 5.0;

/// Measures two classes in an order that chance makes, and compares their times (Welch's t); the slowest fifth of each, which
/// other processes have made, counts for nothing.
fn compare(mut class: impl FnMut(bool)) -> f64 {
    let mut times = [Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS)];
    let mut state = 1_u64;
    while times.iter().any(|times| times.len() < ROUNDS) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let second = state >> 63 == 1;
        let begun = Instant::now();
        class(second);
        let time = begun.elapsed().as_nanos();
        times[usize::from(second)].push(f64::from(u32::try_from(time).unwrap_or(u32::MAX)));
    }
    let [a, b] = times.map(|mut times| {
        times.truncate(ROUNDS);
        times.sort_by(f64::total_cmp);
        times.truncate(ROUNDS / 5 * 4);
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    });
    (a.0 - b.0) / (a.1 + b.1).sqrt().max(f64::MIN_POSITIVE)
}

#[test]
fn the_time_of_a_refusal_does_not_tell_how_much_of_a_mac_is_right() {
    let key = Zeroizing::new([3; 32]);
    let honest =
        encrypt(&key, b"a message of some length, as they are", &[5; 32], ExtendedLength::Refuse).unwrap();
    let honest = STANDARD.decode(honest).unwrap();
    let wrong = |at: usize| {
        let mut payload = honest.clone();
        let at = payload.len() - 32 + at;
        payload[at] ^= 1;
        STANDARD.encode(payload)
    };
    let (first, last) = (wrong(0), wrong(31));
    // A busy machine may make one comparison strange, and not each of five.
    let results: Vec<f64> = (0..5)
        .map(|_| {
            compare(|second| {
                let refused = decrypt(black_box(&key), if second { &last } else { &first }, usize::MAX);
                assert_eq!(refused, Err(Nip44Error::Mac));
            })
        })
        .collect();
    assert!(results.iter().any(|t| t.abs() < CERTAIN), "{results:?}");
}

#[test]
fn a_comparison_that_stops_at_the_first_difference_is_noticed() {
    let right = [7_u8; 32];
    let (mut first, mut last) = (right, right);
    first[0] ^= 1;
    last[31] ^= 1;
    let t = compare(|second| {
        let given = if second { &last } else { &first };
        // Many times, because one is shorter than a clock can tell.
        for _ in 0..64 {
            let is_equal = black_box(given).iter().zip(black_box(&right)).all(|(a, b)| black_box(a) == b);
            black_box(is_equal);
        }
    });
    assert!(t.abs() > CERTAIN, "{t}");
}
