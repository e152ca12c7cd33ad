//! How large a published gift wrap will be, in closed form and without trial encryption.

/// Largest inner event that is ever sealed, bytes of JSON: what every known peer can read.
pub const SEAL_LIMIT: usize = 65_407;

/// Everything of a gift wrap's JSON that is not its content: kind 21059, ten digits of `created_at`.
const AROUND_CONTENT: usize = 418;
/// Version, nonce, length prefix and MAC around the padded plaintext.
const AROUND_PADDED: usize = 1 + 32 + 2 + 32;

/// Returns how many bytes NIP-44 pads a plaintext to, without the length prefix.
///
/// Powers of two up to 256 in steps of 32, then eighths of the next power of two.
#[must_use]
pub const fn padded_len(plaintext: usize) -> usize {
    if plaintext <= 32 {
        return 32;
    }
    let Some(next_power) = plaintext.checked_next_power_of_two() else {
        return usize::MAX;
    };
    let chunk = if next_power <= 256 { 32 } else { next_power / 8 };
    // Between one power of two and the next, so this does not overflow.
    plaintext.div_ceil(chunk) * chunk
}

/// Returns the length of the event JSON that a relay sees for an inner event of `inner` bytes of JSON.
///
/// Exact for kind 21059; one byte more than the truth for kind 1059, whose number is shorter. `inner` must not exceed
/// [`SEAL_LIMIT`], above which nothing is sealed.
#[must_use]
pub const fn wrapped_event_size(inner: usize) -> usize {
    let payload = padded_len(inner).saturating_add(AROUND_PADDED);
    payload.div_ceil(3).saturating_mul(4).saturating_add(AROUND_CONTENT)
}

/// Returns the largest inner event whose gift wrap fits into `event_limit` bytes of event JSON, zero if none does.
///
/// For the common limit of 65,536 bytes this is 40,960.
#[must_use]
pub const fn largest_inner_for(event_limit: usize) -> usize {
    let payload = event_limit.saturating_sub(AROUND_CONTENT) / 4 * 3;
    let padded = payload.saturating_sub(AROUND_PADDED);
    if padded < 32 {
        return 0;
    }
    if padded >= padded_len(SEAL_LIMIT) {
        return SEAL_LIMIT;
    }
    // The largest bucket not above `padded`: buckets from one power of two to the next are evenly spaced, and only the
    // last one, excluded above, reaches beyond what is sealed.
    let next_power = (padded + 1).next_power_of_two();
    let chunk = if next_power <= 256 { 32 } else { next_power / 8 };
    padded / chunk * chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sizes_are_met() {
        assert_eq!(wrapped_event_size(40_960), 55_122);
        assert_eq!(wrapped_event_size(40_961), 66_046);
        assert_eq!(largest_inner_for(65_536), 40_960);
        assert_eq!(largest_inner_for(55_122), 40_960);
        assert_eq!(largest_inner_for(55_121), 32_768);
        assert_eq!(largest_inner_for(usize::MAX), SEAL_LIMIT);
    }

    #[test]
    fn the_largest_inner_event_fits_and_the_next_one_does_not() {
        for limit in 0..=100_000 {
            let inner = largest_inner_for(limit);
            if inner == 0 {
                assert!(wrapped_event_size(1) > limit, "limit {limit}");
                continue;
            }
            assert!(wrapped_event_size(inner) <= limit, "limit {limit}, inner {inner}");
            assert!(
                inner == SEAL_LIMIT || wrapped_event_size(inner + 1) > limit,
                "limit {limit}, inner {inner}"
            );
        }
    }

    #[test]
    fn sizes_never_overflow() {
        assert_eq!(padded_len(usize::MAX), usize::MAX);
        assert!(wrapped_event_size(usize::MAX) > usize::MAX / 2);
    }
}
