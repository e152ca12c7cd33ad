//! Tools that are hard to hash, always the same ones for one seed, spelled in every way that JSON allows.
use contextvm_announce::{SchemaError, schema};
use contextvm_core::ScanError;
use serde_json::value::RawValue;

/// Prints the hash of a tool, or why it has none, as `interop/ts/schemas.mjs` prints it.
pub(crate) fn hash_line(tool: &str) -> String {
    match serde_json::from_str::<&RawValue>(tool).map(schema::hash_tool) {
        Ok(Ok(hash)) => hash.to_string(),
        Err(_) => "refused: text".into(),
        Ok(Err(SchemaError::ExternalRef)) => "refused: external ref".into(),
        // Behind a duplicate key nothing is told apart; in JSON without lone surrogates only numbers are left.
        Ok(Err(SchemaError::Text(ScanError::NumberRange { .. } | ScanError::DuplicateKey { .. }))) => {
            "refused: number".into()
        }
        Ok(Err(error)) => format!("refused: {error}"),
    }
}

/// Makes tools without end.
pub(crate) struct Generator {
    state: u64,
}

enum Node {
    Word(&'static str),
    Number(String),
    Text(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

const ANNOTATIONS: [&str; 10] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "x-",
    "x-vendor",
    "x-\u{1f600}",
];

/// Keywords, names that resemble annotations, names that JavaScript treats in its own way, and names that are hard to sort.
const KEYS: [&str; 45] = [
    "type",
    "properties",
    "$defs",
    "items",
    "const",
    "enum",
    "required",
    "patternProperties",
    "not",
    "$schema",
    "$id",
    "$comment",
    "$Ref",
    "ref",
    "X-id",
    "x",
    "x_",
    "\u{445}-id",
    "Title",
    "titles",
    "DEFAULT",
    " title",
    "__proto__",
    "__proto",
    "constructor",
    "prototype",
    "toString",
    "toJSON",
    "hasOwnProperty",
    "length",
    "10",
    "9",
    "-1",
    "",
    "\u{ffff}",
    "\u{1f600}",
    "\u{10ffff}",
    "\u{e000}",
    "\u{d7ff}",
    "é",
    "e\u{301}",
    "\u{2028}",
    "\u{feff}",
    "a\"b\\c/d",
    "\u{0}\u{1f}\u{7f}",
];

const TEXTS: [&str; 12] = [
    "string",
    "title",
    "x-id",
    "http://example.com/schema.json",
    "",
    "\u{10ffff}\u{ffff}",
    "\u{8}\u{c}\n\r\t\u{b}\"\\/",
    "e\u{301}\u{200d}",
    "\u{2028}\u{2029}",
    "</script>",
    "\u{7f}\u{80}\u{9f}",
    "日本",
];

const NUMBERS: [&str; 36] = [
    "0",
    "-0",
    "0.0",
    "-0.0e-5",
    "0e999",
    "1",
    "1.0",
    "1.50",
    "1e2",
    "1E+2",
    "100000000000000000000",
    "1e21",
    "999999999999999999999",
    "1e-6",
    "0.000001",
    "1e-7",
    "123456789012345680000",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740993",
    "9007199254740993.00000000000000000000000000000001",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "5e-324",
    "2.4703282292062327e-324",
    "2.4703282292062328e-324",
    "2.2250738585072011e-308",
    "1.7976931348623157e308",
    "0.30000000000000004",
    "4.35",
    "1e-400",
    "8.5e0001",
    "333333333.33333329",
];

/// Targets that do not begin with `#`.
const EXTERNAL: [&str; 6] = ["", "other.json#/x", "http://example.com", " #", "\u{ff03}", "/#"];
const INFINITE: [&str; 4] = ["1e999", "-1e309", "1.7976931348623159e308", "17976931348623159e0293"];
/// Members that [`Generator::tool`] may add to a tool, and that do not count.
const BESIDE: [&str; 4] = ["title", "description", "_meta", "annotations"];

impl Generator {
    /// Starts a series.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Makes the next tool as one line of JSON. One in thirteen has no hash: an external reference, a number beyond all
    /// doubles, or no JSON at all.
    pub(crate) fn tool(&mut self) -> String {
        let input = match self.below(64) {
            0 => Node::Object(vec![]),
            1 | 2 => {
                let target = self.pick(&EXTERNAL);
                let reference = Node::Object(vec![("$ref".into(), Node::Text(target.into()))]);
                self.wrapped(reference, &["const", "properties", "X-id", "__proto__", "$ref", "$defs"])
            }
            3 | 4 => {
                let number = Node::Number(self.pick(&INFINITE).into());
                self.wrapped(number, &["minimum", "const", "properties", "X-id", "$ref"])
            }
            5 => self.chain(),
            6 => self.value(3),
            _ => self.object(5),
        };
        let mut members = vec![("name".into(), Node::Text(self.text())), ("inputSchema".into(), input)];
        match self.below(8) {
            0 => members.push(("outputSchema".into(), Node::Word("null"))),
            1 => members.push(("outputSchema".into(), Node::Object(vec![]))),
            2 => members.push(("outputSchema".into(), self.value(3))),
            3 | 4 => members.push(("outputSchema".into(), self.object(4))),
            _ => {}
        }
        if self.one_in(2) {
            let beside = (self.pick(&BESIDE).into(), self.value(2));
            members.insert(self.below(members.len() + 1), beside);
        }
        if self.one_in(16) {
            // The later one counts.
            let key: &str = self.pick(&["name", "inputSchema", "outputSchema"]);
            let value = if key == "name" { Node::Text(self.text()) } else { self.value(2) };
            members.insert(0, (key.into(), value));
        }
        let mut line = String::new();
        self.print(&Node::Object(members), &mut line);
        if self.one_in(64) { self.damaged(line) } else { line }
    }

    /// Hides a value some levels down, below keys that do not get lost.
    fn wrapped(&mut self, inside: Node, keys: &[&str]) -> Node {
        let mut node = inside;
        for _ in 0..=self.below(5) {
            node = if self.one_in(4) {
                Node::Array(vec![self.value(1), node, self.value(1)])
            } else {
                let beside = (String::from("beside"), self.value(1));
                let mut members = vec![(self.pick(keys).into(), node)];
                members.insert(self.below(2), beside);
                Node::Object(members)
            };
        }
        node
    }

    /// Deep, but not too deep.
    fn chain(&mut self) -> Node {
        let mut node = self.value(1);
        for _ in 0..self.below(56) {
            node = match self.below(3) {
                0 => Node::Array(vec![node]),
                1 => Node::Object(vec![("not".into(), node)]),
                _ => Node::Object(vec![(self.key(), node)]),
            };
        }
        node
    }

    fn object(&mut self, levels: usize) -> Node {
        let mut members: Vec<(String, Node)> = Vec::new();
        for _ in 0..self.below(7) {
            let member = match self.below(10) {
                0 | 1 => (self.pick(&ANNOTATIONS).into(), self.annotation(levels)),
                2 => ("$ref".into(), self.local(levels)),
                _ => (self.key(), self.value(levels - 1)),
            };
            members.push(member);
        }
        if self.one_in(12) && !members.is_empty() {
            let twin = members[self.below(members.len())].0.clone();
            let value = if twin == "$ref" { self.local(levels) } else { self.value(levels - 1) };
            members.push((twin, value));
        }
        Node::Object(members)
    }

    /// What is dropped may hold anything.
    fn annotation(&mut self, levels: usize) -> Node {
        if self.one_in(8) {
            Node::Object(vec![("$ref".into(), Node::Text(self.pick(&EXTERNAL).into()))])
        } else {
            self.value(levels - 1)
        }
    }

    /// What may stand at `$ref`.
    fn local(&mut self, levels: usize) -> Node {
        match self.value(levels - 1) {
            Node::Text(text) => Node::Text(format!("#{text}")),
            other => other,
        }
    }

    fn value(&mut self, levels: usize) -> Node {
        match self.below(if levels == 0 { 8 } else { 14 }) {
            0 | 1 => Node::Number(self.pick(&NUMBERS).into()),
            2 => Node::Number(self.number()),
            3 | 4 => Node::Text(self.text()),
            5 => Node::Word("null"),
            6 => Node::Word("true"),
            7 => Node::Word("false"),
            8..=10 => Node::Array((0..self.below(5)).map(|_| self.value(levels - 1)).collect()),
            _ => self.object(levels),
        }
    }

    /// A finite number of at most 64 characters.
    fn number(&mut self) -> String {
        let sign = if self.one_in(2) { "-" } else { "" };
        match self.below(4) {
            0 => {
                let double = f64::from_bits(self.next());
                if double.is_finite() { format!("{double:e}") } else { String::from("7") }
            }
            1 => format!("{sign}{}{}", 1 + self.below(9), self.digits(30)),
            2 => {
                let (mark, exponent) = (self.pick(&["e", "E", "e-", "E+"]), self.below(270));
                format!("{sign}{}.{}{mark}{exponent}", self.below(10), self.digits(20))
            }
            // Near the middle between two doubles.
            _ => format!(
                "{sign}{}.{}",
                (1_u64 << 53) + self.next() % 64,
                self.pick(&["5", "50000001", "499999999"])
            ),
        }
    }

    fn digits(&mut self, most: usize) -> String {
        (0..=self.below(most)).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }

    fn key(&mut self) -> String {
        if self.one_in(3) { self.text() } else { self.pick(&KEYS).into() }
    }

    fn text(&mut self) -> String {
        if self.one_in(2) {
            return self.pick(&TEXTS).into();
        }
        // Annotations made by chance would be as good as any; external references are not: no text here is `$ref`.
        (0..self.below(6)).map(|_| self.character()).collect()
    }

    fn character(&mut self) -> char {
        let (from, count) = [
            (0x0, 0x80),
            (0x61, 26),
            (0x80, 0x780),
            (0x2000, 0x70),
            (0xd700, 0x100),
            (0xe000, 0x2000),
            (0x1_f000, 0x1000),
            (0x10_ff00, 0x100),
        ][self.below(8)];
        char::from_u32(from + self.below(count) as u32).unwrap_or('a')
    }

    fn print(&mut self, node: &Node, out: &mut String) {
        self.blank(out);
        match node {
            Node::Word(text) => out.push_str(text),
            Node::Number(text) => out.push_str(text),
            Node::Text(text) => self.spell(text, out),
            Node::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    self.print(item, out);
                }
                self.blank(out);
                out.push(']');
            }
            Node::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    self.blank(out);
                    self.spell(key, out);
                    self.blank(out);
                    out.push(':');
                    self.print(value, out);
                }
                self.blank(out);
                out.push('}');
            }
        }
        self.blank(out);
    }

    /// Writes a string with the escapes that it needs and some that it does not.
    fn spell(&mut self, text: &str, out: &mut String) {
        out.push('"');
        let eager = self.one_in(4);
        for c in text.chars() {
            let short = match c {
                '"' => Some("\\\""),
                '\\' => Some("\\\\"),
                '/' => Some("\\/"),
                '\u{8}' => Some("\\b"),
                '\u{c}' => Some("\\f"),
                '\n' => Some("\\n"),
                '\r' => Some("\\r"),
                '\t' => Some("\\t"),
                _ => None,
            };
            let must = c < ' ' || c == '"' || c == '\\';
            match short {
                Some(short) if self.one_in(2) => out.push_str(short),
                _ if must || (eager && self.one_in(2)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let upper = self.one_in(2);
                        out.push_str(&if upper {
                            format!("\\u{unit:04X}")
                        } else {
                            format!("\\u{unit:04x}")
                        });
                    }
                }
                _ => out.push(c),
            }
        }
        out.push('"');
    }

    fn blank(&mut self, out: &mut String) {
        if self.one_in(16) {
            out.push_str(self.pick(&[" ", "\t", "\r", "  "]));
        }
    }

    /// Makes text that is no JSON.
    fn damaged(&mut self, mut line: String) -> String {
        match self.below(6) {
            0 => line.truncate(line.trim_end().len() - 1),
            1 => line.push_str(" x"),
            2 => line = line.replacen(':', "=", 1),
            3 => line = format!("{},}}", line.trim_end().trim_end_matches('}')),
            4 => line = line.replacen('{', "{\"a\":01,", 1),
            _ => line = line.replacen('{', "{\"a\\x\":1,", 1),
        }
        line
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// The next number of splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
