//! Which of the known names was probably meant.

/// Returns the name that takes the fewest changes, if those are few.
pub(crate) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (wanted.chars().count() / 3).max(1);
    let far = names.into_iter().map(|name| (distance(wanted, name), name));
    far.filter(|(distance, _)| *distance <= most).min().map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours, case ignored.
fn distance(one: &str, other: &str) -> usize {
    let lower = |text: &str| text.chars().take(64).flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (one, other) = (lower(one), lower(other));
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (row, a) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in other.iter().enumerate() {
            let at = |line: &[usize], place: usize| line.get(place).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&above, column) + usize::from(a != b))
                .min(at(&above, column + 1) + 1)
                .min(at(&current, column) + 1);
            let swapped =
                row > 0 && column > 0 && one.get(row - 1) == Some(b) && other.get(column - 1) == Some(a);
            if swapped {
                best = best.min(at(&before, column - 1) + 1);
            }
            current.push(best);
        }
        before = core::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_slips_are_understood() {
        let names = ["get_current", "get_forecast", "echo"];
        assert_eq!(nearest("get_curent", names), Some("get_current"));
        assert_eq!(nearest("GET_CURRENT", names), Some("get_current"));
        assert_eq!(nearest("ehco", names), Some("echo"));
    }

    #[test]
    fn something_else_is_not_guessed() {
        assert_eq!(nearest("delete_all", ["get_current", "echo"]), None);
        assert_eq!(nearest("x", []), None);
    }
}
