//! What a schema wants, as far as a command line needs to know.
use serde_json::Value;

/// Most references followed one after the other.
const HOPS: usize = 16;
/// Most alternatives looked at to say which types a schema takes; a short schema may refer to itself in many ways.
const BRANCHES: usize = 256;

/// The JSON types that a schema takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Types {
    pub(crate) string: bool,
    pub(crate) integer: bool,
    pub(crate) number: bool,
    pub(crate) boolean: bool,
    pub(crate) null: bool,
    pub(crate) array: bool,
    pub(crate) object: bool,
}

impl Types {
    const NONE: Self = Self {
        string: false,
        integer: false,
        number: false,
        boolean: false,
        null: false,
        array: false,
        object: false,
    };

    const ALL: Self = Self {
        string: true,
        integer: true,
        number: true,
        boolean: true,
        null: true,
        array: true,
        object: true,
    };

    /// Whether the schema says nothing about types.
    pub(crate) fn is_any(self) -> bool {
        self == Self::NONE
    }

    fn add(&mut self, name: &str) {
        match name {
            "string" => self.string = true,
            "integer" => self.integer = true,
            "number" => self.number = true,
            "boolean" => self.boolean = true,
            "null" => self.null = true,
            "array" => self.array = true,
            "object" => self.object = true,
            _ => {}
        }
    }

    fn add_type_of(&mut self, value: &Value) {
        self.add(match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        });
    }
}

/// Follows `$ref` within the document; what leads nowhere or in circles is left as it is.
pub(crate) fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let mut here = schema;
    for _ in 0..HOPS {
        let target =
            here.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        match target.and_then(|pointer| root.pointer(pointer)) {
            Some(target) => here = target,
            None => break,
        }
    }
    here
}

/// Which types a schema takes, alternatives included; of a schema with too many of them, what the first say.
pub(crate) fn types(schema: &Value, root: &Value) -> Types {
    let mut found = Types::NONE;
    collect(schema, root, (&mut found, &mut 0), 4);
    found
}

fn collect(schema: &Value, root: &Value, (found, looked): (&mut Types, &mut usize), depth: u8) {
    *looked += 1;
    if *looked > BRANCHES || *found == Types::ALL {
        return;
    }
    let schema = resolve(schema, root);
    match schema.get("type") {
        Some(Value::String(name)) => return found.add(name),
        Some(Value::Array(names)) => {
            return names.iter().filter_map(Value::as_str).for_each(|name| found.add(name));
        }
        Some(_) | None => {}
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().for_each(|value| found.add_type_of(value));
    }
    if let Some(value) = schema.get("const") {
        return found.add_type_of(value);
    }
    if depth == 0 {
        return;
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        let branches = schema.get(key).and_then(Value::as_array);
        for branch in branches.into_iter().flatten().take(BRANCHES) {
            collect(branch, root, (&mut *found, &mut *looked), depth - 1);
        }
    }
    if found.is_any() && schema.get("properties").is_some() {
        found.object = true;
    }
    if found.is_any() && schema.get("items").is_some() {
        found.array = true;
    }
}

/// The schema of a list's items; of the first alternative that is a list, if there are several.
pub(crate) fn items<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let own = schema.get("items");
    let branches =
        ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
    let inherited = branches.filter_map(|branch| resolve(branch, root).get("items")).next();
    own.or(inherited).map_or(&Value::Null, |items| resolve(items, root))
}

/// The values that a schema takes, if it lists them; those of alternatives count if all alternatives list some.
pub(crate) fn listed<'a>(schema: &'a Value, root: &'a Value) -> Option<Vec<&'a Value>> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Some(values.iter().collect());
    }
    if let Some(value) = schema.get("const") {
        return Some(vec![value]);
    }
    let branches = ["anyOf", "oneOf"].into_iter().find_map(|key| schema.get(key)?.as_array())?;
    let mut all = Vec::new();
    for branch in branches {
        let branch = resolve(branch, root);
        let values =
            branch.get("enum").and_then(Value::as_array).map(|values| values.iter().collect::<Vec<_>>());
        all.extend(values.or_else(|| branch.get("const").map(|value| vec![value]))?);
    }
    Some(all)
}
