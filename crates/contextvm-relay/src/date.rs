//! What time a relay says it is: the `Date` of its answer to the upgrade (RFC 9110), which most relays or their proxies send.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads a date such as `Sun, 06 Nov 1994 08:49:37 GMT`, Unix seconds; `None` for every other form.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(", ")?;
    let words: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, time, "GMT"] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| name == month)?;
    let (day, year) = (number(day, 2)?, number(year, 4)?);
    let times: Vec<&str> = time.split(':').collect();
    let [hour, minute, second] = times.as_slice() else { return None };
    let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
    if !(1..=31).contains(&day) || year < 1970 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(((days(year, u64::try_from(month).ok()?, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970-01-01 to a day of a month that is counted from zero.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March end with the leap day.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let leaps = year / 4 - year / 100 + year / 400;
    (year * 365 + leaps + (month * 153 + 2) / 5 + day).saturating_sub(719_469)
}

fn number(text: &str, len: usize) -> Option<u64> {
    let is_number = text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// Says how many seconds we are ahead of most of those who said what time it is.
pub(crate) fn agreed(mut ahead: Vec<i64>) -> Option<i64> {
    ahead.sort_unstable();
    let last = ahead.len().checked_sub(1)?;
    // Of two in the middle the one that finds less fault with us.
    let middle = [ahead.get(last / 2)?, ahead.get(last.div_ceil(2))?];
    middle.into_iter().min_by_key(|seconds| seconds.unsigned_abs()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_the_seconds_that_they_are() {
        for (text, unix) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Thu, 29 Feb 2024 23:59:59 GMT", 1_709_251_199),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
            ("Sun, 22 Nov 2026 05:30:00 GMT", 1_795_325_400),
            ("Tue, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
        ] {
            assert_eq!(parse(text), Some(unix), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_date_is_none() {
        for text in [
            "",
            "now",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov +994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn most_relays_say_what_time_it_is_and_not_one_that_lies() {
        assert_eq!(agreed(vec![]), None);
        assert_eq!(agreed(vec![-3_600]), Some(-3_600));
        assert_eq!(agreed(vec![1, i64::MIN, 0]), Some(0));
        assert_eq!(agreed(vec![-9_000, 2]), Some(2));
        assert_eq!(agreed(vec![-3_601, 9_000_000, -3_600, -3_602]), Some(-3_600));
    }
}
