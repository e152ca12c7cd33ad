//! Small looks into JSON values, without taking them apart.
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use contextvm_core::object::{quote, string};
use serde_json::value::RawValue;

/// Returns the items of an array; nothing when the value is no array.
pub(super) fn items(value: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(value.get()).unwrap_or_default()
}

/// Brings an id into comparable form: `1` and `"1"` differ, spellings of one string do not.
pub(super) fn id_form(id: &RawValue) -> String {
    string(id).map_or_else(|| String::from(id.get()), |plain| quote(&plain))
}

/// Keeps JSON text of our own making as a value.
pub(super) fn raw(text: String) -> Option<Box<RawValue>> {
    RawValue::from_string(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Box<RawValue> {
        raw(String::from(text)).unwrap()
    }

    #[test]
    fn ids_compare_by_type_and_value() {
        assert_eq!(id_form(&value("\"\\u0061\"")), id_form(&value("\"a\"")));
        assert_ne!(id_form(&value("1")), id_form(&value("\"1\"")));
    }

    #[test]
    fn only_arrays_have_items() {
        assert!(items(&value("{\"a\":1}")).is_empty());
        assert_eq!(items(&value("[1, {\"a\":2}]")).len(), 2);
    }
}
