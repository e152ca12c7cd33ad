//! Figures that the parts of a proof print: one that is missing is an error, never a zero.
use serde_json::Value;

use crate::shell::Outcome;

/// Reads a count at a path of names.
pub(crate) fn figure(value: &Value, path: &str) -> Result<u64, Vec<String>> {
    let found = value.pointer(path).and_then(Value::as_u64);
    found.ok_or_else(|| vec![format!("no figure {path} in {value}")])
}

/// Reads a number with digits behind the point at a path of names.
pub(crate) fn real(value: &Value, path: &str) -> Result<f64, Vec<String>> {
    let found = value.pointer(path).and_then(Value::as_f64);
    found.ok_or_else(|| vec![format!("no figure {path} in {value}")])
}

/// Keeps two digits.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// Prints the figures as one line of JSON; `wrong` is what they show to be broken.
pub(crate) fn verdict(document: &Value, wrong: Vec<String>) -> Outcome {
    println!("{document}");
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Collects what is wrong with a run.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<String>);

impl Faults {
    /// Notes a fault unless something holds.
    pub(crate) fn unless(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.0.push(fault());
        }
    }

    /// Notes a fault when a number exceeds what is allowed.
    pub(crate) fn above(&mut self, name: &str, found: f64, most: f64) {
        self.unless(found <= most, || format!("{name}: {found}, at most {most}"));
    }

    /// Notes a fault when a number is less than was asked for.
    pub(crate) fn below(&mut self, name: &str, found: f64, least: f64) {
        self.unless(found >= least, || format!("{name}: {found}, at least {least}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_figure_that_is_not_there_is_no_zero() {
        let value = json!({ "a": { "n": 0, "x": 1.5 } });
        assert_eq!(figure(&value, "/a/n"), Ok(0));
        assert_eq!(real(&value, "/a/x"), Ok(1.5));
        assert!(figure(&value, "/a/m").is_err() && figure(&value, "/a/x").is_err());
        assert!(real(&Value::Null, "/a").is_err());
    }

    #[test]
    fn bounds_are_judged_from_both_sides() {
        let mut faults = Faults::default();
        faults.above("most", 2.0, 2.0);
        faults.below("least", 2.0, 2.0);
        assert!(faults.0.is_empty());
        faults.above("most", 2.1, 2.0);
        faults.below("least", 1.9, 2.0);
        assert_eq!(faults.0.len(), 2);
        // What is no number is not within a bound.
        faults.above("most", f64::NAN, 2.0);
        assert_eq!(faults.0.len(), 3);
    }
}
